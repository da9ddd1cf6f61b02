"""The bonds of a topology as a graph."""

from __future__ import annotations

from collections.abc import Sequence

from openmm import app

from ..handedness import neighbourLists


def neighbour_lists(topology: app.Topology) -> list[list[int]]:
    """The indices, sorted, of the atoms bonded to each atom."""
    bonds = [(bond.atom1.index, bond.atom2.index) for bond in topology.bonds()]
    return neighbourLists(topology.getNumAtoms(), bonds)


def paths_between(neighbours: Sequence[Sequence[int]], start: int, end: int) -> list[tuple[int, ...]]:
    """The shortest paths between two atoms, of at most three bonds; an empty list if they are further apart."""
    paths = [(start,)]
    for _ in range(3):
        paths = [(*path, n) for path in paths for n in neighbours[path[-1]] if n not in path]
        found = [path for path in paths if path[-1] == end]
        if found:
            return found
    return []


def atoms_within(neighbours: Sequence[Sequence[int]], starts: Sequence[int], bonds: int) -> set[int]:
    """The atoms that are at most so many bonds away from one of the given atoms, themselves included."""
    found, shell = set(starts), set(starts)
    for _ in range(bonds):
        shell = {j for i in shell for j in neighbours[i]} - found
        found |= shell
    return found
