"""What a model is of: the atoms of a QM region and the method that describes them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app, unit

from ..covalent import findBonds
from ..forces import XtbForce, cast


@dataclass(frozen=True)
class Region:
    """The QM region of a System and its level of theory.

    Attributes
    ----------
    species : tuple of int
        atomic numbers of the n atoms: the QM particles, then the link hydrogens
    particles : tuple of int
        indices in the System of the QM particles
    bonds : tuple of (int, int)
        pairs of indices into the n atoms, the first one smaller, sorted
    method : str
        'GFN1-xTB', 'GFN2-xTB' or 'GFN-FF'
    charge, multiplicity : int
        link hydrogens included
    hardnessElement : int or None
        element of the charges around it; None if it sees none
    """

    species: tuple[int, ...]
    particles: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]
    method: str = "GFN2-xTB"
    charge: int = 0
    multiplicity: int = 1
    hardnessElement: int | None = None

    def __post_init__(self):
        bonds = sorted({(min(int(a), int(b)), max(int(a), int(b))) for a, b in self.bonds})
        object.__setattr__(self, "species", tuple(int(z) for z in self.species))
        object.__setattr__(self, "particles", tuple(int(i) for i in self.particles))
        object.__setattr__(self, "bonds", tuple(bonds))
        n = len(self.species)
        if not n or not all(0 <= a < b < n for a, b in bonds):
            raise ValueError(f"The bonds of a region are pairs of its {n} atoms, found {bonds}.")

    @property
    def numAtoms(self) -> int:
        """QM particles and link hydrogens."""
        return len(self.species)

    @classmethod
    def fromSystem(
        cls, system: openmm.System, topology: app.Topology | None = None, positions=None, force: XtbForce | None = None
    ) -> Region:
        """Read it from a System's XtbForce.

        Parameters
        ----------
        system : System
            made by createQMMMSystem(), or with an XtbForce of one's own
        topology : Topology, optional
            says which QM atoms are bonded
        positions : array or Quantity, optional
            of all particles (nm): bonds are found by distance if there is no topology, or none of its bonds is between
            QM atoms
        force : XtbForce, optional
            which one, if there are several

        Raises
        ------
        ValueError
            If there is not exactly one XtbForce, or neither topology nor positions tell what is bonded.
        """
        force = force or findXtbForce(system)
        particles = force.getParticles()
        species = list(force.getAtomicNumbers())
        place = {p: i for i, p in enumerate(particles)}
        bonds = set()
        if topology is not None:
            ends = ((b.atom1.index, b.atom2.index) for b in topology.bonds())
            bonds = {(place[a], place[b]) for a, b in ends if a in place and b in place}
        if not bonds and len(particles) > 1:
            if positions is None:
                raise ValueError(
                    "Nothing tells which QM atoms are bonded: give a topology that has their bonds, or positions."
                )
            if unit.is_quantity(positions):
                positions = positions.value_in_unit(unit.nanometer)
            bonds = set(findBonds(species, np.array([list(positions[p]) for p in particles], dtype=float)))
        for i in range(force.getNumLinkAtoms()):
            qm, _, _ = force.getLinkAtomParameters(i)
            bonds.add((place[qm], len(species)))
            species.append(1)
        hardness = None
        if force.getNumEmbeddingCharges():
            hardness = force.getEmbeddingChargeParameters(0)[2]
        elif force.getNumVirtualCharges():
            hardness = force.getVirtualChargeParameters(0)[3]
        return cls(
            tuple(species),
            tuple(particles),
            tuple(bonds),
            force.getMethod(),
            force.getCharge(),
            force.getMultiplicity(),
            hardness,
        )

    def toDict(self) -> dict:
        """As JSON can hold it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def fromDict(cls, fields: dict) -> Region:
        """What toDict() returned.

        Raises
        ------
        ValueError
            If fields are missing or unknown.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if set(fields) != names:
            raise ValueError(f"A region has the fields {sorted(names)}, found {sorted(fields)}.")
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        values["bonds"] = tuple(tuple(b) for b in values["bonds"])
        return cls(**values)

    def digest(self) -> str:
        """A hash of what a model depends on: everything but the indices of the particles."""
        fields = self.toDict()
        del fields["particles"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def findXtbForce(system: openmm.System) -> XtbForce:
    """The XtbForce of a System.

    Raises
    ------
    ValueError
        If there is none or more than one.
    """
    found = [f for f in map(cast, system.getForces()) if isinstance(f, XtbForce)]
    if len(found) != 1:
        raise ValueError(
            f"Expected a System with one XtbForce, found {len(found)}; createQMMMSystem() makes one out of a force-field System."
        )
    return found[0]
