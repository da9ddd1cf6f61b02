"""The region of validity of a model: the distances that its training data cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def findDistanceRanges(
    positions, permutations: Sequence[Sequence[int]] = (), margin: float = 0.1
) -> list[tuple[int, int, float, float]]:
    """Find the range of every distance in a set of structures, for ModelContract.distanceRanges.

    Parameters
    ----------
    positions : array of shape (frames, atoms, 3)
        the training data (nm)
    permutations : sequence of sequences of int, optional
        orders of the atoms that the model treats as the same molecule, such as turned methyl groups; pairs that they
        exchange get one common range
    margin : float
        widening of each range at both ends, as a share of its width

    Returns
    -------
    list of (int, int, float, float)
        both atoms, smallest and largest distance (nm), for every pair of atoms

    Raises
    ------
    ValueError
        If the positions have another shape, or there are fewer than two frames.
    """
    x = np.asarray(positions, dtype=float)
    if x.ndim != 3 or x.shape[2] != 3 or len(x) < 2:
        raise ValueError(
            f"Expected positions of the shape (frames, atoms, 3) with two frames or more, found {x.shape}."
        )
    low, high = np.full((x.shape[1],) * 2, np.inf), np.zeros((x.shape[1],) * 2)
    for part in np.array_split(x, max(1, len(x) // 1000)):
        r = np.linalg.norm(part[:, :, None] - part[:, None], axis=-1)
        low, high = np.minimum(low, r.min(axis=0)), np.maximum(high, r.max(axis=0))
    for order in np.asarray(permutations, dtype=int).reshape(-1, x.shape[1]):
        low, high = np.minimum(low, low[np.ix_(order, order)]), np.maximum(high, high[np.ix_(order, order)])
    width = margin * (high - low)
    low, high = np.maximum(0.0, low - width), high + width
    return [
        (a, b, round(float(low[a, b]), 5), round(float(high[a, b]), 5))
        for a in range(x.shape[1])
        for b in range(a + 1, x.shape[1])
    ]
