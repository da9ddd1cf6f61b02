"""Means, drifts and their errors for correlated series."""

from __future__ import annotations

import numpy as np

from .._units import GAS_CONSTANT


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


def heating_rate(times, energies, temperature: float = 300.0, lags: tuple[float, float] = (1.0, 4.0)) -> float:
    """The drift (kJ/mol/ps) that the growth of the spread of the conserved energy implies.

    Kicks that shake a system near equilibrium make its energy a random walk, <(E(t+s) - E(t))^2> = 2 B s + const, and a
    drift of B/kT belongs to it (fluctuation and dissipation). B is known from one run where the slope of the same run is
    lost in the walk.

    Parameters
    ----------
    times, energies : array of shape (samples,)
        equally spaced times (ps), conserved energy (kJ/mol)
    temperature : float
        K
    lags : (float, float)
        the two values of s (ps) from which B follows; the shorter one must be longer than the energy's own fluctuations

    Raises
    ------
    ValueError
        If the run is shorter than twice the longer lag.
    """
    t, e = np.asarray(times, dtype=float), np.asarray(energies, dtype=float)
    interval = (t[-1] - t[0]) / (len(t) - 1)
    if t[-1] - t[0] < 2 * max(lags):
        raise ValueError(
            f"Expected a run of at least {2 * max(lags)} ps for lags of {lags} ps, found {t[-1] - t[0]:.3f} ps."
        )
    steps = [max(1, round(lag / interval)) for lag in lags]
    spreads = [((e[n:] - e[:-n]) ** 2).mean() for n in steps]
    growth = (spreads[1] - spreads[0]) / ((steps[1] - steps[0]) * interval)
    return float(growth / (2 * GAS_CONSTANT * temperature))


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
