"""Molecules of a Topology and distances under periodic boundary conditions, for the modules beside this one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from openmm import app, unit

from .._units import NANOMETER
from .graph import neighbour_lists


def check_indices(atoms: Iterable[int], num: int, name: str) -> list[int]:
    """The indices as a sorted list; ValueError if there are none, or one is not an atom's."""
    indices = sorted({int(i) for i in atoms})
    if not indices:
        raise ValueError(f"{name} is empty: expected the indices of atoms.")
    if indices[0] < 0 or indices[-1] >= num:
        raise ValueError(f"{name} must be indices from 0 to {num - 1}, found {indices[0]} to {indices[-1]}.")
    return indices


def positions_array(positions, num: int) -> np.ndarray:
    """Positions in nm as an array of shape (num, 3); ValueError for another shape or what is not finite."""
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(NANOMETER)
    x = np.asarray(positions, dtype=float)
    if x.shape != (num, 3):
        raise ValueError(f"Expected positions of the {num} atoms of the topology, shape ({num}, 3), found {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"The position of atom {int(np.argmin(np.isfinite(x).all(axis=1)))} is not finite.")
    return x


def box_array(boxVectors) -> np.ndarray | None:
    """Box vectors in nm as the rows of an array, or None; ValueError where OpenMM would not take them."""
    if boxVectors is None:
        return None
    if unit.is_quantity(boxVectors):
        boxVectors = boxVectors.value_in_unit(NANOMETER)
    rows = [row.value_in_unit(NANOMETER) if unit.is_quantity(row) else row for row in boxVectors]
    box = np.array(rows, dtype=float)
    if box.shape != (3, 3):
        raise ValueError(f"Expected three box vectors, shape (3, 3), found {box.shape}.")
    # The limits are OpenMM's own, with room for the rounding of files.
    (a, b, c), slack = box, 1e-5
    reduced = 2 * abs(b[0]) <= a[0] + slack and 2 * abs(c[0]) <= a[0] + slack and 2 * abs(c[1]) <= b[1] + slack
    if np.triu(box, 1).any() or np.diag(box).min() <= 0 or not reduced:
        raise ValueError(
            f"Expected box vectors in OpenMM's reduced form (a along x, b in the xy plane, |b_x| and |c_x| up to a_x/2, |c_y| up to b_y/2), found {box.tolist()}. Take them from a State or a Topology that OpenMM made."
        )
    return box


def minimum_image(displacements: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """Displacements moved by OpenMM's reduction: the shortest image wherever that is shorter than half of the box.

    The box's size is the smallest of a_x, b_y and c_z. In a rectangular box the image is the shortest always.
    """
    if box is None:
        return displacements
    d = displacements.copy()
    for k in (2, 1, 0):
        d -= np.round(d[..., k : k + 1] / box[k, k]) * box[k]
    return d


def nearest_distances(
    points: np.ndarray, targets: np.ndarray, box: np.ndarray | None, reach: float = math.inf
) -> np.ndarray:
    """The distance of each point, shape (n, 3), to the nearest image of the targets, shape (m, 3).

    Distances up to ``reach`` (nm) are exact; in a triclinic box larger ones may come out too large. A small reach is
    faster by an order of magnitude there.
    """
    result = np.full(len(points), np.inf)
    for target in targets:
        result = np.minimum(result, (minimum_image(points - target, box) ** 2).sum(axis=1))
    if box is None or not np.tril(box, -1).any() or reach <= np.diag(box).min() / 2:
        return np.sqrt(result)
    # The reduction leaves a displacement that the neighbouring images can still shorten.
    for target in targets:
        d = minimum_image(points - target, box)
        for shift in itertools.product((-1, 0, 1), repeat=3):
            result = np.minimum(result, ((d + np.dot(shift, box)) ** 2).sum(axis=1))
    return np.sqrt(result)


def find_molecules(topology: app.Topology) -> list[list[int]]:
    """The atoms of each molecule, sorted.

    Atoms without bonds (virtual sites) go with the atom before them in their residue, its first with the next.
    """
    neighbours = neighbour_lists(topology)
    lonely = [not n for n in neighbours]
    for residue in topology.residues():
        atoms = [atom.index for atom in residue.atoms()]
        for before, i in itertools.pairwise(atoms):
            if lonely[i] or (lonely[before] and before == atoms[0]):
                neighbours[i].append(before)
                neighbours[before].append(i)
    molecules, seen = [], [False] * len(neighbours)
    for start in range(len(neighbours)):
        if seen[start]:
            continue
        seen[start], members = True, [start]
        for i in members:  # grows while it is read
            for j in neighbours[i]:
                if not seen[j]:
                    seen[j] = True
                    members.append(j)
        molecules.append(sorted(members))
    return molecules


def is_water(atoms: Sequence[app.topology.Atom]) -> bool:
    """Whether a molecule is O, H, H, with any number of virtual sites."""
    return sorted(atom.element.symbol for atom in atoms if atom.element is not None) == ["H", "H", "O"]


def centre_atoms(atoms: Sequence[app.topology.Atom]) -> list[int]:
    """The atoms whose centroid is the centre of a molecule: its only heavy atom, such as water's O, or all atoms."""
    real = [atom for atom in atoms if atom.element is not None] or list(atoms)  # a dummy particle by itself
    heavy = [atom.index for atom in real if atom.element is not app.element.hydrogen]
    return heavy if len(heavy) == 1 else [atom.index for atom in real]


def residue_label(residue: app.topology.Residue) -> str:
    """Name, chain and id, such as 'LEU A:27'; what follows the name is what selectResidues() takes."""
    return f"{residue.name} {residue.chain.id.strip()}:{residue.id}{residue.insertionCode.strip()}"
