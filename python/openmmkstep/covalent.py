"""Which atoms are close enough for a covalent bond."""

from __future__ import annotations

import itertools

import numpy as np

# Covalent radii in nm (Cordero et al., Dalton Trans. 2008, 2832) of elements 1-86, single-bond values.
_RADII = (
    "31 28 128 96 84 76 71 66 57 58 166 141 121 111 107 105 102 106 203 176 170 160 153 139 139 132 126 124 132 122 122 "
    "120 119 120 120 116 220 195 190 175 164 154 147 146 142 139 145 144 142 139 139 138 139 140 244 215 207 204 203 201 "
    "199 198 198 196 194 192 192 189 190 187 187 175 170 162 151 144 141 136 136 132 145 146 148 140 150 150"
)
COVALENT_RADII = np.array([0.0, *(float(r) / 1000 for r in _RADII.split())])
_BOND_FACTOR = 1.25
"""Atoms closer than this factor times the sum of their covalent radii are bonded."""
_MADE, _BROKEN = 1.1, 1.5
"""Training frames make a bond where two others come closer than this factor says, and break one where two go further
apart. Between the factors lie the vibrations of bonds up to 500 K; the hydrogen bonds without transfer lie above."""
_MOST_PATTERNS = 256


def findBonds(species, positions) -> tuple[tuple[int, int], ...]:
    """The pairs of atoms that are close enough for a covalent bond.

    Parameters
    ----------
    species : sequence of int
        atomic number (1-86) of each of the n atoms
    positions : array of shape (n, 3)
        nm
    """
    x = np.asarray(positions, dtype=float)
    radii = COVALENT_RADII[np.asarray(species, dtype=int)]
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    near = distances < _BOND_FACTOR * (radii[:, None] + radii[None])
    return tuple((int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True))


def findBrokenBonds(species, bonds, positions) -> dict[tuple[int, int], float]:
    """The share of structures in which a bond is broken, for every bond that is anywhere.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the n atoms
    bonds : sequence of (int, int)
    positions : array of shape (frames, n, 3)
        nm
    """
    shares = {}
    for a, b in bonds:
        r = np.linalg.norm(positions[:, a] - positions[:, b], axis=1)
        share = float(np.mean(r > _BROKEN * (COVALENT_RADII[species[a]] + COVALENT_RADII[species[b]])))
        if share > 0:
            shares[a, b] = share
    return shares


def findReactivePairs(species, bonds, distanceRanges, margin: float = 0.1) -> list[tuple[int, int]]:
    """Find the pairs of atoms whose bond is made or broken somewhere in a model's training data.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the n atoms
    bonds : sequence of (int, int)
        the bonds that are counted as such
    distanceRanges : sequence of (int, int, float, float)
        as in ModelContract (nm)
    margin : float
        by which findDistanceRanges() widened them

    Returns
    -------
    list of (int, int)
        bonds that are broken somewhere, and pairs without a bond that come as close as bonded ones; none if no bonds are
        given, since then it is not known what is bonded
    """
    known = {(min(b), max(b)) for b in bonds}
    pairs = []
    for a, b, low, high in distanceRanges if known else ():
        extra = margin * (high - low) / (1 + 2 * margin)
        radii = COVALENT_RADII[species[a]] + COVALENT_RADII[species[b]]
        pair = (min(a, b), max(a, b))
        if high - extra > _BROKEN * radii if pair in known else low + extra < _MADE * radii:
            pairs.append(pair)
    return pairs


def findBondingPatterns(species, bonds, distanceRanges) -> list[tuple[tuple[int, int], ...]]:
    """The sets of bonds in a model's training data: the given ones first, then those that reactions make of them.

    With every reactive pair bonded or not, those nearer to the given bonds first: educt, product, and transition states,
    where bonds by distance may be both or neither.

    Parameters
    ----------
    species, bonds, distanceRanges
        as of findReactivePairs()
    """
    known = frozenset((min(b), max(b)) for b in bonds)
    pairs = findReactivePairs(species, bonds, distanceRanges)
    toggles = itertools.chain.from_iterable(itertools.combinations(pairs, n) for n in range(len(pairs) + 1))
    return [tuple(sorted(known ^ set(chosen))) for chosen in itertools.islice(toggles, _MOST_PATTERNS)]
