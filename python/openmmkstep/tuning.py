"""Choosing k and the number of chances of the scheme 'metropolis' from a short run."""

from __future__ import annotations

import sys
import time as _time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from tqdm import tqdm

from ._units import PICOSECOND, strip
from .forces import cast
from .integrator import KStepIntegrator

FLIP_TIME = 0.39
"""D/D0 = 1/(1 + FLIP_TIME f), with f the momentum flips per ps (ps; measured for ethanol in water)."""


@dataclass(frozen=True)
class TuningRow:
    """What is expected of one setting.

    Attributes
    ----------
    k, chances : int
    firstAcceptance, acceptance : float
        shares of macro-steps accepted at the first test, and at any of them
    flipRate : float
        momentum flips per ps of the time that was kept (1/ps)
    callsPerPs : float
        xTB calls per ps that was kept
    diffusionRatio : float
        D/D0, the share of plain diffusion that the flips leave
    psPerSecond : float
        ps per second of wall time, of accepted paths only and multiplied by diffusionRatio
    """

    k: int
    chances: int
    firstAcceptance: float
    acceptance: float
    flipRate: float
    callsPerPs: float
    diffusionRatio: float
    psPerSecond: float


@dataclass(frozen=True)
class TuningReport:
    """What tuneMetropolis() chose and why.

    Attributes
    ----------
    best : TuningRow
        the setting that the integrator has now
    rows : tuple of TuningRow
        all settings that were compared
    callSeconds, stepSeconds : float
        wall time of one xTB call and of one base step (common forces and model)
    """

    best: TuningRow
    rows: tuple[TuningRow, ...]
    callSeconds: float
    stepSeconds: float

    def __str__(self) -> str:
        lines = [
            f"One xTB call {1e3 * self.callSeconds:.3g} ms, one base step {1e3 * self.stepSeconds:.3g} ms",
            f"{'k':>6s}{'chances':>9s}{'first':>8s}{'any':>8s}{'flips/ps':>10s}{'xTB/ps':>9s}{'D/D0':>7s}{'ps/s':>9s}",
        ]
        for k in dict.fromkeys(row.k for row in self.rows):
            r = max((row for row in self.rows if row.k == k), key=lambda row: (row.psPerSecond, row.chances))
            lines.append(
                f"{r.k:6d}{r.chances:9d}{r.firstAcceptance:8.3f}{r.acceptance:8.3f}{r.flipRate:10.3f}{r.callsPerPs:9.1f}"
                f"{r.diffusionRatio:7.3f}{r.psPerSecond:9.3g}{'  <- chosen' if r is self.best else ''}"
            )
        return "\n".join(lines)


def tuneMetropolis(
    simulation,
    time=10.0,
    kValues: Sequence[int] = (8, 16, 32, 64, 128, 256),
    maxChances: int = 8,
    minMacroSteps: int = 50,
    costs: tuple[float, float] | None = None,
    clock: Callable[[], float] = _time.perf_counter,
    progress: bool = True,
) -> TuningReport:
    """Choose k and the number of chances by running, set both on the integrator and leave them.

    For use while a system equilibrates: what was sampled with changing settings is not to be averaged over. At each k
    the chain is run with ``maxChances`` tests, which tells the acceptance for every smaller number too. The cost of an
    xTB call and of a base step follow from the wall times. Chosen is what covers most ps per second, counting accepted
    paths only, times the share of diffusion that the momentum flips leave. Statistics are reset at the end.

    Parameters
    ----------
    simulation : Simulation or Context
        with a KStepIntegrator of scheme 'metropolis', positions and velocities set
    time : float or Quantity
        path time to run at each k (ps)
    kValues : sequence of int
        the values to compare; each doubles the one before it by default
    maxChances : int
        the largest number of chances to consider
    minMacroSteps : int
        macro-steps at each k, however short the time
    costs : (float, float), optional
        wall time of an xTB call and of a base step (s), if known; the choice then depends on the seed only
    clock : callable
        gives the time in seconds; what else than the computer's clock is of use in tests
    progress : bool
        whether to show a progress bar

    Returns
    -------
    TuningReport

    Raises
    ------
    ValueError
        If the integrator is of another kind, kValues is empty, or no path was accepted at any k.
    """
    context = getattr(simulation, "context", simulation)
    integrator = cast(context.getIntegrator())
    if not isinstance(integrator, KStepIntegrator) or integrator.getScheme() != "metropolis":
        raise ValueError("tuneMetropolis needs a KStepIntegrator of scheme 'metropolis' in the Context.")
    ks = sorted({int(k) for k in kValues})
    if not ks or maxChances < 1:
        raise ValueError(
            f"tuneMetropolis: expected values of k and a positive number of chances, found {ks}, {maxChances}."
        )
    old = integrator.getK(), integrator.getExtraChances()
    base = integrator.getBaseStepSize().value_in_unit(PICOSECOND)
    # On a terminal a live line, elsewhere one every 15 s.
    interval = 0.2 if sys.stderr.isatty() else 15.0
    bar = tqdm(total=len(ks), desc="tuning k", unit="k", disable=not progress, mininterval=interval)
    samples, timings = {}, []
    try:
        with bar:
            integrator.setExtraChances(maxChances)
            for k in ks:
                integrator.setK(k)
                integrator.step(1)  # a first step computes forces that later ones find ready
                steps = max(minMacroSteps, int(np.ceil(strip(time, PICOSECOND) / (k * base))))
                samples[k], seconds = _run(integrator, steps, maxChances, clock)
                tests = _tests(samples[k])
                timings.append((tests, tests * k, seconds))
                bar.update(1)
        call, step = costs if costs is not None else _fit_costs(timings)
        rows = tuple(_row(k, m, samples[k], base, call, step) for k in ks for m in range(1, maxChances + 1))
        # Among equals the most chances: they cost nothing until they are needed.
        best = max(rows, key=lambda row: (row.psPerSecond, row.chances))
        if not best.psPerSecond > 0:
            raise ValueError(
                "tuneMetropolis: no path was accepted at any k. The model is not good enough for this system, or the "
                "structure is far from equilibrium; relax it first, or try smaller values of k."
            )
    except (ValueError, openmm.OpenMMException):
        integrator.setK(old[0])
        integrator.setExtraChances(old[1])
        raise
    integrator.setK(best.k)
    integrator.setExtraChances(best.chances)
    integrator.resetStatistics()
    return TuningReport(best, rows, call, step)


def _run(integrator: KStepIntegrator, steps: int, maxChances: int, clock) -> tuple[np.ndarray, float]:
    """How many macro-steps were accepted at test 1, 2..., and, as the last number, by none; and the wall time (s)."""
    counts = np.zeros(maxChances + 1, dtype=int)
    start = clock()
    before = integrator.getStatistics()
    for _ in range(steps):
        integrator.step(1)
        after = integrator.getStatistics()
        flipped = after["flips"] > before["flips"]
        counts[maxChances if flipped else after["chances"] - before["chances"] - 1] += 1
        before = after
    return counts, clock() - start


def _tests(counts: np.ndarray) -> int:
    """The number of tests; a path that failed is taken to have made all of them."""
    m = len(counts) - 1
    return int((counts[:-1] * np.arange(1, m + 1)).sum() + counts[-1] * m)


def _fit_costs(timings: list[tuple[int, int, float]]) -> tuple[float, float]:
    """Wall times of an xTB call and a base step by least squares over (calls, base steps, seconds), not negative."""
    calls, steps, seconds = np.array(timings, dtype=float).T
    # Relative errors: each stretch says how long its own steps took.
    A = np.column_stack([calls, steps]) / seconds[:, None]
    x = np.linalg.lstsq(A, np.ones(len(seconds)), rcond=None)[0]
    if x[0] < 0:
        return 0.0, float(seconds.sum() / steps.sum())
    if x[1] < 0:
        return float(seconds.sum() / calls.sum()), 0.0
    return float(x[0]), float(x[1])


def _row(k: int, chances: int, counts: np.ndarray, base: float, call: float, step: float) -> TuningRow:
    n = counts.sum()
    accepted = counts[:chances] / n
    # Half a flip is added: no flip among n macro-steps does not mean that there never is one.
    flips = (n - counts[:chances].sum() + 0.5) / (n + 1)
    tests = (accepted * np.arange(1, chances + 1)).sum() + (1 - accepted.sum()) * chances
    kept = (accepted * np.arange(1, chances + 1)).sum() * k * base
    seconds = tests * (call + k * step)
    rate = flips / kept if kept > 0 else float("inf")
    ratio = 1 / (1 + FLIP_TIME * rate)
    return TuningRow(
        k=k,
        chances=chances,
        firstAcceptance=float(accepted[0]),
        acceptance=float(accepted.sum()),
        flipRate=float(rate),
        callsPerPs=float(tests / kept) if kept > 0 else float("inf"),
        diffusionRatio=float(ratio),
        psPerSecond=float(kept / seconds * ratio) if seconds > 0 else 0.0,
    )
