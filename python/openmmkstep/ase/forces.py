"""The energies and forces of a k-step run at the current positions."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from .hamiltonian import known_forces


class Forces:
    """What common, model and corrector said last, and where.

    Attributes
    ----------
    common_energy, model_energy, corrector_energy : float
        eV
    common_forces, model_forces, corrector_forces : array of shape (n, 3), or None
        eV/Angstrom; those of the corrector are None where only its energy was needed
    """

    def __init__(self, common, model, corrector, statistics):
        self.common, self.model, self.corrector = common, model, corrector
        self._statistics = statistics
        self.forget()

    def forget(self) -> None:
        """Drop all results."""
        self.common_energy = self.model_energy = self.corrector_energy = 0.0
        self.common_forces = self.model_forces = self.corrector_forces = self._external = None
        self._fast_at = self._corrector_at = None

    def save(self) -> dict:
        """All results, for restore()."""
        return dict(vars(self))

    def restore(self, saved: dict) -> None:
        """Take back what save() returned."""
        vars(self).update(saved)

    @property
    def fast(self) -> np.ndarray:
        """The forces of U_common + U_model, in 'jump' of U_common, with the terms of constraints that have an energy."""
        common = self.common_forces + self._external
        return common if self.model is None else common + self.model_forces

    @property
    def all(self) -> np.ndarray:
        """The forces of U_common + U_corrector, with the terms of constraints that have an energy."""
        return self.common_forces + self._external + self.corrector_forces

    @property
    def correction(self) -> np.ndarray:
        """F_corrector - F_model."""
        return self.corrector_forces - self.model_forces

    def update(self, atoms: Atoms, with_forces: bool) -> None:
        """Compute what is not known at these positions."""
        if not _same(self._fast_at, atoms):
            self.update_fast(atoms)
        if not _same(self._corrector_at, atoms) or (with_forces and self.corrector_forces is None):
            (self.update_corrector if with_forces else self.update_corrector_energy)(atoms)

    def is_current(self, atoms: Atoms) -> bool:
        """Whether all is known at these positions."""
        return _same(self._fast_at, atoms) and _same(self._corrector_at, atoms)

    def update_fast(self, atoms: Atoms) -> None:
        """Compute common and model."""
        self._fast_at = None
        if self.common is None:
            self.common_forces = np.zeros((len(atoms), 3))
        else:
            self.common_forces = _redistributed(atoms, self.common.get_forces(atoms))
            self.common_energy = self.common.get_potential_energy(atoms)
        if self.model is not None:
            self.model_forces = _redistributed(atoms, self.model.get_forces(atoms))
            self.model_energy = self.model.get_potential_energy(atoms)
        self._external = np.zeros((len(atoms), 3))
        for constraint in atoms.constraints:
            if hasattr(constraint, "adjust_potential_energy"):  # such as Hookean; Atoms.get_forces() adds it itself
                constraint.adjust_forces(atoms, self._external)
        self._fast_at = _snapshot(atoms)

    def update_corrector(self, atoms: Atoms) -> None:
        """Compute the corrector's energy and forces."""
        self._corrector_at = None
        self._statistics.corrector_calls += 1
        self.corrector_forces = _redistributed(atoms, self.corrector.get_forces(atoms))
        self.corrector_energy = self.corrector.get_potential_energy(atoms)
        self._corrector_at = _snapshot(atoms)

    def update_corrector_energy(self, atoms: Atoms) -> None:
        """Compute the corrector's energy; its forces are kept if it has them anyway."""
        self._corrector_at = None
        self._statistics.corrector_calls += 1
        self.corrector_energy = self.corrector.get_potential_energy(atoms)
        forces = known_forces(self.corrector, atoms)
        self.corrector_forces = None if forces is None else _redistributed(atoms, forces)
        self._corrector_at = _snapshot(atoms)

    def get_true(self) -> tuple[float, np.ndarray | None]:
        """Energy, and forces if they are known, of U_common + U_corrector."""
        energy = self.common_energy + self.corrector_energy
        if self.corrector_forces is None:
            return energy, None
        return energy, self.common_forces + self.corrector_forces


def _snapshot(atoms: Atoms) -> tuple:
    return atoms.positions.copy(), atoms.cell.array.copy(), atoms.pbc.copy()


def _same(snapshot: tuple | None, atoms: Atoms) -> bool:
    if snapshot is None:
        return False
    return all(
        np.array_equal(a, b) for a, b in zip(snapshot, (atoms.positions, atoms.cell.array, atoms.pbc), strict=True)
    )


def _redistributed(atoms: Atoms, forces: np.ndarray) -> np.ndarray:
    for constraint in atoms.constraints:
        if hasattr(constraint, "redistribute_forces_md"):
            constraint.redistribute_forces_md(atoms, forces)
    return forces
