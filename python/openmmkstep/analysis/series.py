"""Means, drifts and their errors for correlated series."""

from __future__ import annotations

import numpy as np


def drift(times, energies) -> tuple[float, float]:
    """Slope of the conserved energy and its standard error (kJ/mol/ps).

    Part of the energy error is noise about a line, part is a random walk (the impulses shake the system), whose spread
    a fit to one run does not see. So the error is the larger of two: that of a least-squares line through correlated
    data, and that of a random walk, from the increments between the means of ten blocks.
    """
    t, e = np.asarray(times), np.asarray(energies)
    slope, intercept = np.polyfit(t, e, 1)
    residuals = e - slope * t - intercept
    effective = len(t) / statistical_inefficiency(residuals)
    line = residuals.std() * np.sqrt(12 / effective) / (t[-1] - t[0])
    blocks = min(10, len(t) // 2)
    increments = np.diff([block.mean() for block in np.array_split(e, blocks)])
    # Block means of a random walk differ by 2/3 of its variance, and the slope of a line through it has 6/5 of the
    # variance of its end-to-end slope.
    walk = np.sqrt(3 / 2 * 6 / 5) * increments.std(ddof=1) * np.sqrt(blocks) / (t[-1] - t[0])
    return float(slope), float(max(line, walk))


def mean_and_error(values) -> tuple[float, float]:
    """Mean and standard error of a correlated series."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std() * np.sqrt(statistical_inefficiency(values) / len(values)))


def statistical_inefficiency(values: np.ndarray) -> float:
    """1 + 2 sum of the autocorrelation up to its first negative value (Chodera et al., JCTC 3, 26 (2007))."""
    centred = values - values.mean()
    variance = (centred**2).mean()
    if variance == 0:
        return 1.0
    n, g = len(values), 1.0
    for lag in range(1, n - 1):
        c = (centred[:-lag] * centred[lag:]).mean() / variance
        if c <= 0:
            break
        g += 2 * c * (1 - lag / n)
    return g
