"""The rotatable bonds of a region, which dynamics alone hardly turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..handedness import neighbourLists
from .region import Region

_CONJUGATED = 0.143
"""nm; bonds between two unsaturated carbons that are longer are single."""
_TETRAHEDRAL = {6: 4, 14: 4}


def findRotatableTorsions(region: Region, positions) -> list[tuple[int, int, int, int]]:
    """Find a torsion about each single bond, in no ring, between heavy atoms that both have another heavy neighbour.

    A bond counts as single if one of its ends is a saturated carbon or silicon, or sulfur or phosphorus; or if it joins
    two unsaturated carbons and is longer than 0.143 nm, or such a carbon, not of a carbonyl group, and an ether's oxygen.
    Amides and esters are thus left alone.

    Parameters
    ----------
    region : Region
        its bonds decide
    positions : array of shape (n, 3)
        of its n atoms (nm)

    Returns
    -------
    list of (int, int, int, int)
        indices into the n atoms
    """
    x = np.asarray(positions, dtype=float)
    neighbours = neighbourLists(region.numAtoms, region.bonds)
    result = []
    for b, c in region.bonds:
        ends = [[i for i in neighbours[p] if i != q and region.species[i] > 1] for p, q in ((b, c), (c, b))]
        if min(region.species[b], region.species[c]) == 1 or not all(ends) or _in_ring(neighbours, b, c):
            continue
        if _is_single(region.species, neighbours, x, b, c):
            result.append((ends[0][0], b, c, ends[1][0]))
    return result


def _in_ring(neighbours: Sequence[Sequence[int]], b: int, c: int) -> bool:
    """Whether another path than the bond leads from b to c."""
    reached, front = {b}, [i for i in neighbours[b] if i != c]
    while front:
        reached.update(front)
        front = [i for j in front for i in neighbours[j] if i not in reached]
    return c in reached


def _is_single(species, neighbours, x, b: int, c: int) -> bool:
    for end in (b, c):
        if species[end] in (15, 16) or len(neighbours[end]) == _TETRAHEDRAL.get(species[end]):
            return True
    if species[b] == species[c] == 6:
        return bool(np.linalg.norm(x[b] - x[c]) > _CONJUGATED)
    carbon, oxygen = (b, c) if species[b] == 6 else (c, b)
    if (species[carbon], species[oxygen]) != (6, 8):
        return False
    return not any(species[i] in (8, 16) and len(neighbours[i]) == 1 for i in neighbours[carbon])
