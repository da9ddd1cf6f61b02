"""The energy that everyone sees in a k-step run."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes


def known_forces(calc, atoms: Atoms) -> np.ndarray | None:
    """The forces of a calculator if it has them already."""
    if isinstance(calc, BaseCalculator):
        return calc.get_property("forces", atoms, allow_calculation=False)
    return None


def forget(calc) -> None:
    """Drop what a calculator, and those inside it, keep from earlier geometries, so that a restarted run has the same."""
    pending, seen = [calc], set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, BaseCalculator):
            pending.extend(vars(item).values())
            if hasattr(item, "forget"):
                item.forget()
            elif hasattr(item, "reset"):
                item.reset()


class TrueHamiltonian(Calculator):
    """U_common + U_corrector, as a calculator for the Atoms of a k-step run.

    Loggers and trajectories get the energies (and forces, where they are known) that the run has computed anyway; other
    geometries are computed.

    Parameters
    ----------
    corrector : Calculator
    common : Calculator, optional
    """

    implemented_properties = ["energy", "free_energy", "forces"]
    nolabel = True
    name = "kstep"

    def __init__(self, corrector, common=None):
        super().__init__()
        self.corrector = corrector
        self.common = common

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute the energy, and the forces if they are asked for."""
        super().calculate(atoms, properties, system_changes)
        parts = [c for c in (self.common, self.corrector) if c is not None]
        if "forces" in properties:
            self.results["forces"] = sum(c.get_forces(self.atoms) for c in parts)
        energy = sum(c.get_potential_energy(self.atoms) for c in parts)
        self.results["energy"] = self.results["free_energy"] = energy

    def keep(self, atoms: Atoms, energy: float, forces: np.ndarray | None) -> None:
        """Take results that are known for these positions."""
        self.atoms = atoms.copy()
        self.results = {"energy": energy, "free_energy": energy}
        if forces is not None:
            self.results["forces"] = forces.copy()
