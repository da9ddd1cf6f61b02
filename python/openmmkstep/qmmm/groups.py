"""The groups of MM particles that embedding switches as wholes: molecules, ions, residues of proteins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from openmm import app

from .graph import neighbourLists

_INTEGER = 1e-3  # e
# A group must be small against the box and its centre must say where it is; a longer chain of residues would not be.
_MOST_RESIDUES = 4


class Group(NamedTuple):
    """MM particles that the QM region sees all at once, in one image.

    Attributes
    ----------
    particles : tuple of int
        sorted indices
    center : int
        the particle whose distance from the QM atoms switches the group, -1 for the centroid of ``particles``
    switched : bool
        False: the QM region sees the group at any distance
    """

    particles: tuple[int, ...]
    center: int
    switched: bool


def embeddingGroups(
    topology: app.Topology,
    charges: Sequence[float],
    qmAtoms: Iterable[int],
    nearBoundary: Iterable[int],
) -> list[Group]:
    """Divide the MM particles into groups.

    A molecule that is one residue is one group. One of several residues is a group for each residue (what of it is MM)
    that has an integer charge. The others are merged with up to three residues to which they are bonded through MM
    atoms, the fewest that make the charge an integer. A residue for which there are none (the ends of DNA, whose charges
    belong together along a whole strand) stays a group of its own. Particles without bonds (virtual sites) belong to the
    molecule of the atom before them in their residue, ions are alone.

    Parameters
    ----------
    topology : Topology
        of the whole system
    charges : sequence of float
        charge of each particle (e) as the NonbondedForce of the QM/MM System holds it, which gives the MM hosts of cuts
        what makes the MM charge of a cut molecule an integer
    qmAtoms : iterable of int
        indices of the QM atoms
    nearBoundary : iterable of int
        indices of the MM atoms that are close to a cut; their groups are not switched

    Returns
    -------
    list of Group
        each MM particle is in one of them; sorted by the first particle

    Raises
    ------
    ValueError
        If the number of charges is not that of the particles.
    """
    if len(charges) != topology.getNumAtoms():
        raise ValueError(f"Expected {topology.getNumAtoms()} charges, one for each atom, found {len(charges)}.")
    region, near = set(qmAtoms), set(nearBoundary)
    atoms = list(topology.atoms())
    neighbours = neighbourLists(topology)
    molecules = _molecules(topology, neighbours, charges)
    units: dict[tuple[int, int], list[int]] = {}
    for atom in atoms:
        if atom.index not in region:
            units.setdefault((atom.residue.index, molecules[atom.index]), []).append(atom.index)

    groups = []
    for particles in _merged(list(units.values()), neighbours, charges):
        heavy = [i for i in particles if atoms[i].element is not None and atoms[i].element.atomic_number > 1]
        candidates = particles if len(particles) == 1 else heavy
        center = candidates[0] if len(candidates) == 1 else -1
        groups.append(Group(tuple(particles), center, near.isdisjoint(particles)))
    return sorted(groups)


def _molecules(topology: app.Topology, neighbours: list[list[int]], charges: Sequence[float]) -> list[int]:
    """The number of the molecule of each atom."""
    molecules = [-1] * len(neighbours)
    num = 0
    for start in range(len(neighbours)):
        if molecules[start] < 0 and neighbours[start]:
            molecules[start], todo = num, [start]
            while todo:
                for j in neighbours[todo.pop()]:
                    if molecules[j] < 0:
                        molecules[j] = num
                        todo.append(j)
            num += 1
    for residue in topology.residues():
        atoms = [a.index for a in residue.atoms()]
        # Particles without bonds before the first atom that has some belong to it.
        last = next((molecules[i] for i in atoms if neighbours[i]), -1)
        for atom in residue.atoms():
            i = atom.index
            if neighbours[i]:
                last = molecules[i]
            elif last < 0 or (atom.element is not None and _is_integer(charges[i])):
                molecules[i], num = num, num + 1
                last = molecules[i]
            else:
                molecules[i] = last
    return molecules


def _merged(units: list[list[int]], neighbours: list[list[int]], charges: Sequence[float]) -> Iterator[list[int]]:
    """The units, those of fractional charge merged with bonded ones where that makes the charge an integer."""
    unit_of = {i: u for u, unit in enumerate(units) for i in unit}
    totals = [sum(charges[i] for i in unit) for unit in units]
    bonded = [
        sorted({unit_of[j] for i in unit for j in neighbours[i] if j in unit_of} - {u}) for u, unit in enumerate(units)
    ]
    taken: set[int] = set()
    for u, total in enumerate(totals):
        if not _is_integer(total) and u not in taken:
            chosen = _smallest_integer_set(u, bonded, totals, taken)
            taken.update(chosen)
            yield sorted(i for v in chosen for i in units[v])
    for u, unit in enumerate(units):
        if u not in taken:
            yield unit


def _smallest_integer_set(start: int, bonded: list[list[int]], totals: list[float], taken: set[int]) -> frozenset[int]:
    """The smallest connected set of units around ``start`` with an integer charge, ``start`` alone if there is none."""
    sets = [frozenset([start])]
    for _ in range(_MOST_RESIDUES - 1):
        grown = {s | {v} for s in sets for u in s for v in bonded[u] if v not in s and v not in taken}
        sets = sorted(grown, key=sorted)
        for candidate in sets:
            if _is_integer(sum(totals[u] for u in candidate)):
                return candidate
    return frozenset([start])


def _is_integer(charge: float) -> bool:
    return abs(charge - round(charge)) < _INTEGER
