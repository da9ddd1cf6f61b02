"""What D along a run on the model tells about the schemes 'metropolis' and 'reweight'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from openmm import unit

from .._units import GAS_CONSTANT, KELVIN, strip
from ..analysis import ReweightingWeights, statistical_inefficiency
from ..tuning import FLIP_TIME
from ._statistics import Estimate, in_blocks, jackknife, moments
from .runs import ModelRun

K_VALUES = (8, 16, 32, 64, 128)
_BLOCKS = 5
"""Parts of each run for the error bars."""


@dataclass(frozen=True)
class Acceptance:
    """What is expected of one setting of 'metropolis'.

    Attributes
    ----------
    baseStepSize : float
        inner step (ps)
    k, chances : int
        chances is the number of tests before a flip
    first, any : Estimate
        shares of macro-steps accepted at the first test, and at any of them
    flipRate, callsPerPs, diffusionRatio : Estimate
        momentum flips per ps, xTB calls per ps of the time that is kept, D/D0 = 1/(1 + 0.39 ps flipRate)
    """

    baseStepSize: float
    k: int
    chances: int
    first: Estimate
    any: Estimate
    flipRate: Estimate
    callsPerPs: Estimate
    diffusionRatio: Estimate


@dataclass
class SamplingReport:
    """The distribution of D on the model, and what follows from it.

    Attributes
    ----------
    mean, sd, skewness : Estimate
        of D (kJ/mol)
    correlationTime : float
        integrated autocorrelation time of D (ps), no shorter than half the interval between samples
    samples, failures : int
        number of values, and how many times the corrector found no energy
    effectiveFraction : Estimate
        effective sample size of the weights exp(-D/kT), as a share of the frames
    paretoK : float
        see ReweightingWeights.paretoK()
    converged : bool
        whether averages with these weights can be believed
    temperature : float
        K
    acceptance : list of Acceptance
    times, D : lists of arrays
        each run's time (ps) and D less the mean (kJ/mol)
    """

    mean: Estimate
    sd: Estimate
    skewness: Estimate
    correlationTime: float
    samples: int
    failures: int
    effectiveFraction: Estimate
    paretoK: float
    converged: bool
    temperature: float
    acceptance: list[Acceptance]
    times: list[np.ndarray]
    D: list[np.ndarray]

    def find(self, baseStepSize: float, k: int) -> Acceptance | None:
        """The prediction for one setting, if there is one."""
        return next((a for a in self.acceptance if a.k == k and abs(a.baseStepSize - baseStepSize) < 1e-9), None)


def predictAcceptance(
    paths: Sequence[np.ndarray], lag: int, baseStepSize: float, k: int, temperature=300 * unit.kelvin, chances: int = 4
) -> Acceptance:
    """The acceptance of 'metropolis', from D recorded along runs on the model.

    A macro-step that starts at D0 makes its tests at D1, D2... of the path, each k steps further, with one uniform
    number u, and is accepted at the first with u < exp(-(Dj - D0)/kT). The chain's own starting points are distributed as
    the path's with the weights exp(-D0/kT), in both directions of time. So the shares are averages over all points of
    the path, without any random number:

        P(accepted by test j) = sum_i min(w_i, max(w_i+1, ..., w_i+j)) / sum_i w_i.

    For a normal distribution of D with the standard deviation s kT and correlation r between ends, the first one is
    erfc(s sqrt(1 - r)/2).

    Parameters
    ----------
    paths : sequence of arrays
        D (kJ/mol) at equal times; infinity is the weight 0
    lag : int
        samples in one macro-step
    baseStepSize, k : float, int
        of the scheme: the inner step (ps) and the steps in a macro-step
    temperature : float or Quantity
        K
    chances : int
        tests before a flip

    Returns
    -------
    Acceptance

    Raises
    ------
    ValueError
        If no path is longer than ``chances`` macro-steps.
    """
    beta = 1 / (GAS_CONSTANT * strip(temperature, KELVIN))
    paths = [np.asarray(p, dtype=float) for p in paths]
    usable = [p for p in paths if len(p) > lag * chances and np.isfinite(p).any()]
    if lag < 1 or chances < 1 or not usable:
        raise ValueError(
            f"Expected a path of D that is longer than {chances} macro-steps of {lag} samples, found lengths of "
            f"{[len(p) for p in paths]}. Run longer."
        )
    lowest = min(p.min() for p in usable)
    sums = []
    for path in usable:
        for directed in (path, path[::-1]):
            w = np.exp(-beta * (directed - lowest))
            starts = len(w) - lag * chances
            later = np.array([w[j * lag : j * lag + starts] for j in range(1, chances + 1)])
            accepted = np.minimum(w[:starts], np.maximum.accumulate(later, axis=0))
            parts = np.array_split(np.vstack([w[:starts], accepted]), min(_BLOCKS, starts), axis=1)
            blocks = [p.sum(axis=1) for p in parts]
            sums.append(blocks if directed is path else blocks[::-1])
    # Both directions of a piece of path belong to the same block.
    sums = np.concatenate([np.add(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)])
    value, error = jackknife(sums, lambda s: _rates(s[1:] / s[0], k * baseStepSize))
    estimates = [Estimate(float(v), float(e)) for v, e in zip(value, error, strict=True)]
    return Acceptance(baseStepSize, k, chances, *estimates)


def _rates(by_test: np.ndarray, time: float) -> np.ndarray:
    """First and any acceptance, flips/ps, calls/ps and D/D0 from the shares accepted by test 1, 2..."""
    at_test = np.diff(by_test, prepend=0.0)
    tests = np.arange(1, len(by_test) + 1)
    kept = (at_test * tests).sum() * time
    flips = (1 - by_test[-1]) / kept
    calls = ((at_test * tests).sum() + (1 - by_test[-1]) * len(by_test)) / kept
    return np.array([by_test[0], by_test[-1], flips, calls, 1 / (1 + FLIP_TIME * flips)])


def measureSampling(
    runs: Sequence[ModelRun],
    shortRuns: Sequence[ModelRun] = (),
    temperature=300 * unit.kelvin,
    chances: int = 4,
    kValues: Sequence[int] = K_VALUES,
) -> SamplingReport:
    """The distribution of D and predictions for 'metropolis' and 'reweight'.

    Parameters
    ----------
    runs : sequence of ModelRun
        for the distribution, and for acceptance at their base step
    shortRuns : sequence of ModelRun
        with another base step, for acceptance at that one
    temperature : float or Quantity
        that of the runs (K)
    chances : int
        tests before a flip
    kValues : sequence of int
        those whose macro-step is no multiple of the interval between samples, or longer than the runs allow, are left out

    Raises
    ------
    ValueError
        If the runs have fewer than 25 values of D.
    """
    kelvin = strip(temperature, KELVIN)
    series = [r.D for r in runs if len(r.D)]
    together = np.concatenate(series) if series else np.zeros(0)
    if np.isfinite(together).sum() < 25:
        raise ValueError(
            f"Expected at least 25 values of D along the runs on the model, found {np.isfinite(together).sum()}. The model "
            "may be unstable, or the corrector find no energy; see the stability of the runs."
        )
    mean, sd, skewness = moments(series, _BLOCKS)
    lowest = together.min()
    blocks = []
    for values in series:
        for part in in_blocks(np.exp(-(values - lowest) / (GAS_CONSTANT * kelvin)), _BLOCKS):
            blocks.append([part.sum(), (part**2).sum(), len(part)])
    fraction, error = jackknife(np.array(blocks), lambda s: s[0] ** 2 / s[1] / s[2])
    weights = ReweightingWeights(together, kelvin)
    acceptance = []
    for group in (runs, shortRuns):
        for k in kValues:
            if group:
                acceptance += _predict(group, k, kelvin, chances)
    finite = [d for d in series if np.isfinite(d).all() and len(d) > 3]
    inefficiency = float(np.mean([statistical_inefficiency(d) for d in finite])) if finite else 1.0
    return SamplingReport(
        mean,
        sd,
        skewness,
        runs[0].interval * inefficiency / 2,
        len(together),
        int((~np.isfinite(together)).sum()),
        Estimate(float(fraction), float(error)),
        weights.paretoK(),
        weights.isConverged(),
        kelvin,
        acceptance,
        [r.interval * np.arange(1, len(r.D) + 1) for r in runs],
        [r.D - mean.value for r in runs],
    )


def _predict(runs: Sequence[ModelRun], k: int, kelvin: float, chances: int) -> list[Acceptance]:
    step, interval = runs[0].baseStepSize, runs[0].interval
    lag = round(k * step / interval)
    if lag < 1 or abs(lag * interval - k * step) > 1e-6 * step:
        return []
    paths = [r.D for r in runs]
    if max(map(len, paths)) <= lag * chances:
        return []
    return [predictAcceptance(paths, lag, step, k, kelvin, chances)]
