"""A model at any potential phi: energy, forces at constant phi, and charges."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np

from .._load import load_torch
from ..contract import allow_native, check_archive
from .subject import CheckSubject


class ModelEvaluator:
    """Calls a model as its contract says.

    Parameters
    ----------
    subject : CheckSubject
        whose model it is
    """

    def __init__(self, subject: CheckSubject):
        self._torch = load_torch()
        self._contract = subject.contract
        check_archive(subject.modelData)
        if allow_native(subject.modelData, subject.allowNativeCode, "The model"):
            self._module = _load_package(self._torch, subject.modelData)
        else:
            self._module = self._torch.jit.load(io.BytesIO(subject.modelData), map_location="cpu")

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


def _load_package(torch, data: bytes):
    """An AOTInductor package, ready to be called."""
    from ..training.export import load_package  # needs torch, which checks without labelled frames do not

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt2"
        file.write_bytes(data)
        return load_package(torch, file)
