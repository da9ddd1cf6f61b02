"""A direct model for the scheme 'jump'."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from .._load import load_torch
from ..contract import check_archive, is_native, readContract
from ._units import FORCE, NANOMETER, PICOSECOND, VELOCITY


class JumpModel:
    """A direct model, (positions, velocities [, forces]) -> their changes, from a file with a contract.

    Parameters
    ----------
    path : str or path
        the model file (TorchScript)

    Raises
    ------
    ImportError
        If torch is missing or of another version than openmmkstep was built with.
    OSError, ValueError
        If the file cannot be read, or is not a TorchScript model of the kind 'jump' with a contract.
    """

    def __init__(self, path: str | os.PathLike):
        torch = load_torch()
        data = Path(path).read_bytes()
        check_archive(data)
        self.contract = readContract(data)
        if self.contract.kind != "jump":
            raise ValueError(
                f"Expected a model of the kind 'jump', but '{path}' is of the kind {self.contract.kind!r}."
            )
        if is_native(data):
            raise ValueError(f"Direct models are TorchScript, but '{path}' holds machine code.")
        self.path = os.fspath(path)
        self._module = torch.jit.load(io.BytesIO(data))
        self._torch = torch

    @property
    def takes_forces(self) -> bool:
        """Whether the model is given the forces."""
        return "forces" in self.contract.inputs

    def check(self, numbers, timestep: float, k: int) -> None:
        """Check that the model is for these atoms and steps.

        Parameters
        ----------
        numbers : sequence of int
            atomic numbers
        timestep : float
            the base step (ASE's unit of time)
        k : int
            base steps of a macro-step, one more than those the model covers

        Raises
        ------
        ValueError
            If it is not.
        """
        if tuple(numbers) != self.contract.species:
            raise ValueError(
                f"The model '{self.path}' is for atoms of the elements {list(self.contract.species)} in this order, found "
                f"{list(numbers)}. Give KStep the selection of these atoms in this order, or use the right model."
            )
        dt = timestep / PICOSECOND
        if self.contract.k != k - 1 or abs(self.contract.dt / dt - 1) > 1e-9:
            raise ValueError(
                f"Expected a jump model that covers k-1 = {k - 1} base steps of {1000 * dt:g} fs, found one for "
                f"{self.contract.k} of {1000 * self.contract.dt:g} fs. Set k to {self.contract.k + 1} and the base step to "
                f"{1000 * self.contract.dt:g} fs, or use another model."
            )

    def compute(self, positions, velocities, forces) -> tuple[np.ndarray, np.ndarray]:
        """The changes of positions (Angstrom) and velocities (ASE's unit), for arrays of shape (n, 3) in ASE's units."""
        torch = self._torch
        inputs = [positions / NANOMETER, velocities / VELOCITY]
        if self.takes_forces:
            inputs.append(forces / FORCE)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            changes = self._module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in inputs))
        finally:
            torch.set_num_threads(threads)
        displacements, velocity_changes = (c.detach().to(torch.float64).numpy() for c in changes)
        return displacements * NANOMETER, velocity_changes * VELOCITY
