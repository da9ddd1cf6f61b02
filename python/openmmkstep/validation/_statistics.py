"""Values with error bars, from blocks of correlated data."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value and its standard error; nan where there is none."""

    value: float
    error: float

    def __str__(self) -> str:
        return self.text(3)

    def text(self, digits: int = 3) -> str:
        """'value +- error', with this many significant digits of the value."""
        if not np.isfinite(self.value):
            return "-"
        if not np.isfinite(self.error):
            return f"{self.value:.{digits}g}"
        return f"{self.value:.{digits}g} +- {self.error:.1g}"


def jackknife(sums: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A function of sums over the data, and its standard error from leaving out one block at a time.

    Parameters
    ----------
    sums : array of shape (blocks, quantities)
        sums over each block; blocks should be longer than the correlation time
    function : callable
        from the sums over all data, shape (quantities,), to an array of any shape
    """
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.asarray(function(total), dtype=float)
        left_out = np.array([function(total - part) for part in sums], dtype=float)
        if len(sums) < 2:
            return value, np.full_like(value, np.nan)
        spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
        return value, np.sqrt(spread * (len(sums) - 1) / len(sums))


def root_mean_square(squares: list[np.ndarray], counts: list[np.ndarray], blocks: int = 5) -> Estimate:
    """sqrt(sum of squares / sum of counts) over the frames of several runs, each cut into blocks.

    Parameters
    ----------
    squares, counts : lists of arrays of shape (frames,)
        one array for each run: sums of squares over each frame, and how many there are in it
    """
    sums = [
        [s.sum(), c.sum()]
        for square, count in zip(squares, counts, strict=True)
        for s, c in zip(in_blocks(square, blocks), in_blocks(count, blocks), strict=True)
    ]
    if not sums or not np.sum(sums, axis=0)[1]:
        return Estimate(np.nan, np.nan)
    value, error = jackknife(np.array(sums, dtype=float), lambda s: np.sqrt(s[0] / s[1]))
    return Estimate(float(value), float(error))


def moments(values: list[np.ndarray], blocks: int = 5) -> tuple[Estimate, Estimate, Estimate]:
    """Mean, standard deviation and skewness over several runs; values that are not finite are left out."""
    finite = [v[np.isfinite(v)] for v in values]
    count = sum(len(v) for v in finite)
    if count < 2:
        return (Estimate(np.nan, np.nan),) * 3
    centre = np.concatenate(finite).mean()  # sums of powers keep their digits
    sums = [[np.sum((part - centre) ** power) for power in range(4)] for v in finite for part in in_blocks(v, blocks)]

    def central(s: np.ndarray) -> np.ndarray:
        m1, m2, m3 = s[1:] / s[0]
        variance = max(m2 - m1**2, 0.0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        return np.array([m1, np.sqrt(variance), third / variance**1.5 if variance > 1e-20 else 0.0])

    value, error = jackknife(np.array(sums), central)
    mean, sd, skew = (Estimate(float(v), float(e)) for v, e in zip(value, error, strict=True))
    return Estimate(mean.value + float(centre), mean.error), sd, skew


def in_blocks(values: np.ndarray, blocks: int) -> list[np.ndarray]:
    """Cut a series into at most this many parts of equal length; none of an empty one."""
    return np.array_split(values, min(blocks, len(values))) if len(values) else []
