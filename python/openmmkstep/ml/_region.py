"""Which atoms a potential of openmm-ml is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import openmm
from openmm import app


@dataclass
class Region:
    """The atoms of a potential.

    Attributes
    ----------
    particles : list of int
        indices in the System, link atoms last
    numbers : list of int
        their atomic numbers
    links : list of (int, int)
        the ends in the region and outside of the bond that each link atom stands on
    box_vectors : list of Vec3, optional
        of the box that positions are to be taken modulo of
    """

    particles: list[int]
    numbers: list[int]
    links: list[tuple[int, int]]
    box_vectors: Sequence | None

    @property
    def periodic(self) -> bool:
        return self.box_vectors is not None


def read_region(name: str, topology: app.Topology, system: openmm.System, atoms: Iterable[int] | None) -> Region:
    """What MLPotentialImpl.addForces() is given.

    Raises
    ------
    ValueError
        For atoms without element, a whole periodic system, and bonds that were cut without link atoms.
    """
    # openmm-ml collects what it interpolates in a System without particles, which knows no box.
    vectors = topology.getPeriodicBoxVectors()
    if system.getNumParticles() > 0 and atoms is not None:
        vectors = system.getDefaultPeriodicBoxVectors() if system.usesPeriodicBoundaryConditions() else None
    if atoms is None and vectors is not None:
        raise ValueError(
            f"The topology has a periodic box, but '{name}' treats its atoms as one molecule without images. Call "
            "topology.setPeriodicBoxVectors(None) for a molecule in vacuum, or createMixedSystem() for one in a solvent."
        )
    particles = list(range(topology.getNumAtoms())) if atoms is None else [int(i) for i in atoms]
    everyone = list(topology.atoms())
    numbers = []
    for i in particles:
        if everyone[i].element is None:
            raise ValueError(
                f"Atom {i} ({everyone[i].name} of {everyone[i].residue.name}) has no element: '{name}' cannot compute "
                "virtual sites and dummy atoms."
            )
        numbers.append(everyone[i].element.atomic_number)
    links = find_link_bonds(topology, particles)
    bonded = {a.index for bond in topology.bonds() for a in (bond.atom1, bond.atom2)}
    sites = particles[len(particles) - len(links) :]
    if any(i in bonded or everyone[i].element is not app.element.hydrogen for i in sites):
        raise ValueError(
            f"{len(links)} bonds between the atoms of '{name}' and the others are cut, but link hydrogens do not saturate "
            "them. Choose an embedding that adds them, such as 'mechanical'."
        )
    return Region(particles, numbers, links, vectors)


def find_link_bonds(topology: app.Topology, atoms: Iterable[int]) -> list[tuple[int, int]]:
    """The bonds that are cut, as (atom inside, atom outside), in the order in which openmm-ml adds their link atoms."""
    region = set(atoms)
    links = []
    for bond in topology.bonds():
        i, j = bond.atom1.index, bond.atom2.index
        if (i in region) != (j in region):
            links.append((i, j) if i in region else (j, i))
    return links
