"""A model at any potential phi: energy, forces at constant phi, and charges."""

from __future__ import annotations

import io

import numpy as np

from .._load import load_torch
from ..contract import check_archive
from .subject import CheckSubject


class ModelEvaluator:
    """Calls a TorchScript model as its contract says.

    Parameters
    ----------
    subject : CheckSubject
        whose model it is
    """

    def __init__(self, subject: CheckSubject):
        self._torch = load_torch()
        check_archive(subject.modelData)
        self._module = self._torch.jit.load(io.BytesIO(subject.modelData), map_location="cpu")
        self._contract = subject.contract

    def __call__(self, positions: np.ndarray, phi: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy (kJ/mol), -dE/dpositions at constant phi (n, 3) and dE/dphi (n,) at positions (nm), phi (kJ/mol/e)."""
        torch, contract = self._torch, self._contract
        x = torch.tensor(positions, dtype=torch.float64, requires_grad=True)
        inputs = [x]
        if "phi" in contract.inputs:
            inputs.append(torch.tensor(phi, dtype=torch.float64, requires_grad=True))
        result = self._module(*inputs)
        if "forces" in contract.outputs:
            charges = result[2].detach().numpy() if "charges" in contract.outputs else np.zeros(len(positions))
            return float(result[0].detach()), result[1].detach().numpy().reshape(-1, 3), charges
        gradients = torch.autograd.grad(result, inputs, allow_unused=True)
        found = [np.zeros(i.shape) if g is None else g.numpy() for i, g in zip(inputs, gradients, strict=True)]
        return float(result.detach()), -found[0], found[1] if len(found) == 2 else np.zeros(len(positions))
