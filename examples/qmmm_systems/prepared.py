"""A system ready for QM/MM: what the scripts of this folder return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import createQMMMSystem


@dataclass(frozen=True)
class PreparedSystem:
    """A force-field system with a QM region, equilibrated by the force field.

    ``mm_system`` makes the force-field System from a hydrogen mass (dalton, or None) and more arguments of OpenMM's
    createSystem(). Positions (nm) have the shape
    (atoms, 3), the box (nm) the shape (3, 3) or is None. Radii (nm) of None are createQMMMSystem()'s defaults.
    """

    name: str
    description: str
    topology: app.Topology
    mm_system: Callable[..., openmm.System]
    positions: np.ndarray
    box: np.ndarray | None
    qm_atoms: tuple[int, ...]
    charge: int = 0
    multiplicity: int = 1
    cutoff: float | None = None
    switching_distance: float | None = None

    def create_mm_system(self, hydrogen_mass: float | None = None, **options) -> openmm.System:
        """The force-field System, with the equilibrated box; options go to OpenMM's createSystem()."""
        system = self.mm_system(hydrogen_mass, **options)
        if self.box is not None:
            system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in self.box))
        return system

    def create_qmmm_system(self, hydrogen_mass: float | None = None, **options) -> openmm.System:
        """The QM/MM System; options go to createQMMMSystem()."""
        radii = {"cutoff": self.cutoff, "switchingDistance": self.switching_distance}
        options = {k: v * unit.nanometer for k, v in radii.items() if v is not None} | options
        return createQMMMSystem(
            self.topology,
            self.create_mm_system(hydrogen_mass),
            self.qm_atoms,
            charge=self.charge,
            multiplicity=self.multiplicity,
            positions=self.positions * unit.nanometer,
            **options,
        )

    def cut_bonds(self) -> list[tuple[int, int]]:
        """The bonds between the regions: (QM atom, MM atom), sorted."""
        qm = set(self.qm_atoms)
        pairs = [(b.atom1.index, b.atom2.index) for b in self.topology.bonds()]
        return sorted((i, j) if i in qm else (j, i) for i, j in pairs if (i in qm) != (j in qm))

    def summary(self) -> str:
        """Sizes, cuts and radii in a few lines."""
        atoms = list(self.topology.atoms())
        label = [f"{a.residue.name}{a.residue.id}-{a.name}" for a in atoms]
        cuts = ", ".join(f"{label[q]}|{label[m]}" for q, m in self.cut_bonds()) or "none"
        x = self.positions[list(self.qm_atoms)]
        radius = np.linalg.norm(x - x.mean(axis=0), axis=1).max()
        lines = [
            self.description,
            f"  atoms          {len(self.qm_atoms)} QM + {len(atoms) - len(self.qm_atoms)} MM",
            f"  charge, spin   {self.charge:+d}, multiplicity {self.multiplicity}",
            f"  cuts           {cuts}",
            f"  QM radius      {radius:.2f} nm",
        ]
        if self.box is None:
            lines.append("  box            none (droplet)")
        else:
            edges = np.diag(self.box)
            lines.append(
                f"  box            {edges[0]:.2f} x {edges[1]:.2f} x {edges[2]:.2f} nm, room for radii up to "
                f"{0.95 * 0.5 * edges.min() - radius:.2f} nm"
            )
        if self.cutoff is not None:
            lines.append(f"  switching      {self.switching_distance} to {self.cutoff} nm")
        return "\n".join(lines)
