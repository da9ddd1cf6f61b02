"""What dynamics cannot change about labelled atoms: their handedness around a centre, their side of a double bond.

The hydrogens of a methyl group are equal, but their labels are not interchangeable: three labels seen along the bond to
the fourth neighbour run clockwise or not, and stay so. A model that has only seen one of the two gives nonsense for the
other, unless it treats equal atoms alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PYRAMIDAL = frozenset({15, 16, 33, 34, 51, 52})
"""Elements whose pyramids of three neighbours do not invert in any simulation: P, S, As, Se, Sb, Te."""
_SMALLEST_VOLUME = 0.2  # of three unit vectors; 0.77 for a tetrahedron, 0 in a plane
_SMALLEST_COSINE = 0.5  # of the torsion; a bond that rotates freely passes through 0
_PLANAR = frozenset({6, 7})


def neighbourLists(numAtoms: int, bonds: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The indices, sorted, of the atoms bonded to each atom."""
    neighbours: list[set[int]] = [set() for _ in range(numAtoms)]
    for a, b in bonds:
        neighbours[a].add(b)
        neighbours[b].add(a)
    return [sorted(n) for n in neighbours]


def findHandedness(species: Sequence[int], bonds: Sequence[tuple[int, int]], positions) -> list[tuple[int, ...]]:
    """Find the centres around which the labels of the neighbours have one handedness in all frames.

    Centres are atoms with four neighbours, and PYRAMIDAL ones with three; amines invert and are left out.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the n atoms
    bonds : sequence of (int, int)
    positions : array of shape (n, 3) or (frames, n, 3)
        in nm, molecules whole

    Returns
    -------
    list of (int, int, int, int, int)
        (centre, a, b, c, sign), as in ModelContract
    """
    x = _frames(positions, len(species))
    marks = []
    for centre, ends in enumerate(neighbourLists(len(species), bonds)):
        if len(ends) == 4 or (len(ends) == 3 and species[centre] in PYRAMIDAL):
            _add_if_constant(marks, (centre, *ends[:3]), volumes(x, (centre, *ends[:3])), _SMALLEST_VOLUME)
    return marks


def findSides(species: Sequence[int], bonds: Sequence[tuple[int, int]], positions) -> list[tuple[int, ...]]:
    """Find the bonds of planar carbon and nitrogen about which nothing rotates in all frames.

    Double bonds, amides, and other conjugated bonds as far as the frames show that they are hindered.

    Parameters
    ----------
    species, bonds, positions
        as in findHandedness()

    Returns
    -------
    list of (int, int, int, int, int)
        (a, b, c, d, sign), as in ModelContract
    """
    x = _frames(positions, len(species))
    neighbours = neighbourLists(len(species), bonds)
    planar = [
        z in _PLANAR and (len(n) == 3 or (z == 7 and len(n) == 2)) for z, n in zip(species, neighbours, strict=True)
    ]
    marks = []
    for b, c in bonds:
        left, right = ([i for i in neighbours[p] if i != q] for p, q in ((b, c), (c, b)))
        if planar[b] and planar[c] and left and right and left[0] != right[0]:
            atoms = (left[0], b, c, right[0])
            _add_if_constant(marks, atoms, cosines(x, atoms), _SMALLEST_COSINE)
    return marks


def volumes(x: np.ndarray, atoms: Sequence[int]) -> np.ndarray:
    """The signed volume of three unit vectors from a centre (centre, a, b, c), in each frame of x (frames, n, 3)."""
    centre, *ends = atoms
    a, b, c = (_unit(x[:, end] - x[:, centre]) for end in ends)
    return (a * np.cross(b, c)).sum(-1)


def cosines(x: np.ndarray, atoms: Sequence[int]) -> np.ndarray:
    """The cosine of the torsion of four atoms, in each frame of x (frames, n, 3)."""
    a, b, c, d = (x[:, i] for i in atoms)
    left, right = np.cross(a - b, c - b), np.cross(b - c, d - c)
    return (_unit(left) * _unit(right)).sum(-1)


def _frames(positions, num: int) -> np.ndarray:
    x = np.asarray(positions, dtype=float)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[1:] != (num, 3):
        raise ValueError(f"Expected positions of shape ({num}, 3) or (frames, {num}, 3), found {x.shape}.")
    return x


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def _add_if_constant(marks: list, atoms: tuple[int, ...], values: np.ndarray, smallest: float) -> None:
    for sign in (1, -1):
        if (sign * values > smallest).all():
            marks.append((*atoms, sign))
