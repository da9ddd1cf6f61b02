"""Whether runs on the model alone stay where the model is valid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from openmm import app, unit

from .._units import GAS_CONSTANT, KELVIN, strip
from ._statistics import Estimate
from .runs import ModelRun
from .subject import CheckSubject

_HOLE = 15.0  # kT
_HOLE_DEVIATIONS = 20.0
_BEGINNING = 0.1  # of a run


@dataclass
class StabilityReport:
    """What runs on the model alone went through.

    Attributes
    ----------
    runs : int
    picoseconds : float
        all together, without equilibration
    faults : list of str
        why runs ended early
    failures : int
        structures for which the corrector found no energy
    rangesKnown : bool
        whether the contract says where the model is valid
    outside : Estimate
        share of the time outside of the contract's distance ranges
    excursions : int
        number of times that a run left them
    worst : str
        the distance that was the furthest outside
    energyRange, differenceRange : (float, float)
        smallest and largest model energy and D, less their means (kJ/mol)
    bondRanges : dict of str to (float, float)
        shortest and longest bond of each pair of elements (nm)
    """

    runs: int
    picoseconds: float
    faults: list[str]
    failures: int
    rangesKnown: bool
    outside: Estimate
    excursions: int
    worst: str
    energyRange: tuple[float, float]
    differenceRange: tuple[float, float]
    bondRanges: dict[str, tuple[float, float]]

    @property
    def stable(self) -> bool:
        """Whether all runs reached their end and stayed inside."""
        return not self.faults and not self.failures and self.excursions == 0


def cutAtHoles(runs: Sequence[ModelRun], temperature=300 * unit.kelvin) -> list[ModelRun]:
    """End runs where they fall into a hole of the model.

    That is where D is further from its median at the beginning of the runs than 15 kT and than 20 of its standard
    deviations (by the median absolute deviation). A structure that no Metropolis test would let through is not part of
    the model's distribution, and neither is what comes after it.

    Parameters
    ----------
    runs : sequence of ModelRun
    temperature : float or Quantity
        K

    Returns
    -------
    list of ModelRun
        runs with a hole end before it, and have a fault that says so
    """
    beginnings = [r.D[: max(1, round(_BEGINNING * len(r.D)))] for r in runs]
    values = np.concatenate([d[np.isfinite(d)] for d in beginnings]) if beginnings else np.zeros(0)
    if not len(values):
        return list(runs)
    median = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - median))
    limit = max(_HOLE * GAS_CONSTANT * strip(temperature, KELVIN), _HOLE_DEVIATIONS * deviation)
    return [_cut(run, median, limit) for run in runs]


def _cut(run: ModelRun, median: float, limit: float) -> ModelRun:
    beyond = np.flatnonzero(np.isfinite(run.D) & (np.abs(run.D - median) > limit))
    if not len(beyond):
        return run
    end = int(beyond[0])
    frames = int(np.searchsorted(run.forceSamples, end))
    return dataclasses.replace(
        run,
        fault=f"fell into a hole of the model, where D is off by {run.D[end] - median:.0f} kJ/mol",
        last=None,
        **{name: getattr(run, name)[:end] for name in ("D", "modelEnergies", "positions")},
        **{
            name: getattr(run, name)[:frames]
            for name in ("forceSamples", "correctorForces", "modelForces", "nearErrors", "nearForces", "nearCounts")
        },
    )


def measureStability(subject: CheckSubject, runs: Sequence[ModelRun]) -> StabilityReport:
    """Faults, excursions and extremes of runs on the model alone.

    The distances are looked at once per sample, so that an excursion between two samples is not seen.

    Parameters
    ----------
    subject : CheckSubject
    runs : sequence of ModelRun
    """
    ranges = subject.contract.distanceRanges
    excursions, shares, worst, how_far = 0, [], "", 0.0
    for run in runs:
        outside = np.zeros(len(run.positions), dtype=bool)
        for a, b, low, high in ranges:
            r = np.linalg.norm(run.positions[:, a] - run.positions[:, b], axis=1)
            beyond = np.maximum(low - r, r - high)
            outside |= beyond > 0
            if len(beyond) and beyond.max() > how_far:
                how_far = float(beyond.max())
                place = int(beyond.argmax())
                worst = f"{_name(subject, a, b)}: {r[place]:.4f} nm, range {low:.4f} to {high:.4f}"
        excursions += int((np.diff(outside.astype(int), prepend=0) == 1).sum())
        if len(outside):
            shares.append(outside.mean())
    share = float(np.mean(shares)) if shares else float("nan")
    error = float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else float("nan")
    bonds: dict[str, tuple[float, float]] = {}
    for a, b in subject.region.bonds:
        pair = "-".join(sorted(app.Element.getByAtomicNumber(subject.region.species[i]).symbol for i in (a, b)))
        for run in runs:
            r = np.linalg.norm(run.positions[:, a] - run.positions[:, b], axis=1)
            if len(r):
                low, high = bonds.get(pair, (np.inf, 0.0))
                bonds[pair] = (min(low, float(r.min())), max(high, float(r.max())))
    return StabilityReport(
        len(runs),
        float(sum(r.picoseconds for r in runs)),
        [f"run {i + 1}, {r.picoseconds:.2f} of {r.wanted:g} ps: {r.fault}" for i, r in enumerate(runs) if r.fault],
        int(sum((~np.isfinite(r.D)).sum() for r in runs)),
        bool(ranges),
        Estimate(share if ranges else float("nan"), error if ranges else float("nan")),
        excursions,
        worst,
        _extent([r.modelEnergies for r in runs]),
        _extent([r.D for r in runs]),
        bonds,
    )


def _name(subject: CheckSubject, a: int, b: int) -> str:
    species = subject.region.species
    return " - ".join(f"{app.Element.getByAtomicNumber(species[i]).symbol}{i}" for i in (a, b))


def _extent(values: Sequence[np.ndarray]) -> tuple[float, float]:
    together = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    if not len(together):
        return (float("nan"), float("nan"))
    return (float(together.min() - together.mean()), float(together.max() - together.mean()))
