"""The quality of a model along a collective variable."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from openmm import unit

from .._units import GAS_CONSTANT, KELVIN, strip
from ..data.bias import CollectiveVariable, UmbrellaWindows
from ..qmmm.box import box_vectors
from ._statistics import Estimate, jackknife, moments
from .runs import ModelRun, runOnModel
from .subject import CheckSubject


@dataclass
class CoordinateReport:
    """What D is like in each bin of a collective variable; nan where too few frames are in it.

    Attributes
    ----------
    edges : array of shape (bins + 1,)
    frames : array of int of shape (bins,)
    mean, sd : lists of Estimate
        of D (kJ/mol)
    acceptance : lists of Estimate
        of the first test of macro-steps that begin in the bin
    """

    edges: np.ndarray
    frames: np.ndarray
    mean: list[Estimate]
    sd: list[Estimate]
    acceptance: list[Estimate]


def measureAlongCoordinate(
    values: Sequence[np.ndarray],
    D: Sequence[np.ndarray],
    bins=10,
    lag: int = 8,
    temperature=300 * unit.kelvin,
    leastFrames: int = 20,
) -> CoordinateReport:
    """sd(D) and acceptance along a collective variable.

    The mean of D in a bin says how far the model's free energy is off there; a mean that changes along the variable
    lowers the acceptance of moves along it.

    Parameters
    ----------
    values, D : sequences of arrays of shape (samples,)
        the variable and D (kJ/mol) along each run, at equal times
    bins : int or array
        their number, or their edges
    lag : int
        samples in one macro-step
    temperature : float or Quantity
        K
    leastFrames : int
        bins with fewer frames are left empty

    Raises
    ------
    ValueError
        If values and D are of different lengths.
    """
    beta = 1 / (GAS_CONSTANT * strip(temperature, KELVIN))
    lengths = [(len(v), len(d)) for v, d in zip(values, D, strict=True)]
    if not lengths or any(a != b for a, b in lengths):
        raise ValueError(f"Expected one value of the coordinate for each value of D, found the lengths {lengths}.")
    values, D = [np.asarray(v, dtype=float) for v in values], [np.asarray(d, dtype=float) for d in D]
    edges = np.histogram_bin_edges(np.concatenate(values), bins)
    inside = [np.clip(np.digitize(v, edges) - 1, 0, len(edges) - 2) for v in values]
    for v, place in zip(values, inside, strict=True):
        place[(v < edges[0]) | (v > edges[-1])] = -1
    report = CoordinateReport(edges, np.zeros(len(edges) - 1, dtype=int), [], [], [])
    lowest = min(d.min() for d in D)
    for b in range(len(edges) - 1):
        chosen = [d[place == b] for d, place in zip(D, inside, strict=True)]
        report.frames[b] = sum(len(c) for c in chosen)
        if report.frames[b] < leastFrames:
            nothing = Estimate(np.nan, np.nan)
            report.mean.append(nothing)
            report.sd.append(nothing)
            report.acceptance.append(nothing)
            continue
        mean, sd, _ = moments(chosen)
        report.mean.append(mean)
        report.sd.append(sd)
        sums = []
        for d, place in zip(D, inside, strict=True):
            w = np.exp(-beta * (d - lowest))
            both = np.minimum(w[:-lag], w[lag:])
            for begins, start in ((place[:-lag] == b, w[:-lag]), (place[lag:] == b, w[lag:])):
                for part in np.array_split(np.flatnonzero(begins), 5):
                    if len(part):
                        sums.append([start[part].sum(), both[part].sum()])
        if not sums:  # runs shorter than a macro-step
            report.acceptance.append(Estimate(np.nan, np.nan))
            continue
        value, error = jackknife(np.array(sums).reshape(-1, 2), lambda s: s[1] / s[0])
        report.acceptance.append(Estimate(float(value), float(error)))
    return report


def runInWindows(
    subject: CheckSubject,
    windows: UmbrellaWindows,
    temperature=300 * unit.kelvin,
    picoseconds: float = 5.0,
    equilibration: float = 0.5,
    seed: int = 1,
    advance: Callable[[float], None] = lambda share: None,
    **settings,
) -> list[ModelRun]:
    """Run on the model in umbrella windows, one after the other outwards from where the structure is.

    Parameters
    ----------
    subject : CheckSubject
        see its withHydrogenMass()
    windows : UmbrellaWindows
    temperature : float or Quantity
        K
    picoseconds, equilibration : float
        of each window; a window begins where that of the nearest centre ended
    seed : int
    advance : callable
        is called with the share of the work done since the last time
    **settings
        of runOnModel()

    Returns
    -------
    list of ModelRun
        one for each window; fewer if a fault leaves no structure to go on from
    """
    box = box_vectors(subject.system) if subject.system.usesPeriodicBoundaryConditions() else None
    here = windows.cv.evaluate(subject.starts[0], box)
    order = sorted(windows.centres, key=lambda c: abs(windows.cv.difference(c, here)))
    ends, runs = {here: subject.starts[0]}, []
    for number, centre in enumerate(order):
        force = windows.makeForce(subject.system.usesPeriodicBoundaryConditions())
        force.setGlobalParameterDefaultValue(0, centre)
        system = copy.deepcopy(subject.system)
        system.addForce(force)
        nearest = min(ends, key=lambda c: abs(windows.cv.difference(c, centre)))
        biased = dataclasses.replace(subject, system=system, starts=ends[nearest][None])
        run = runOnModel(
            biased,
            temperature,
            picoseconds,
            1,
            equilibration=equilibration,
            seed=seed + number,
            advance=lambda share: advance(share / len(order)),
            **settings,
        )[0]
        runs.append(run)
        if run.last is not None and not run.fault:
            ends[centre] = run.last
    return runs


def asCoordinate(cv: CollectiveVariable, subject: CheckSubject) -> Callable[[np.ndarray], float]:
    """A collective variable of particles of the QM region as a function of the model's atoms.

    Raises
    ------
    ValueError
        If it is one of other particles too.
    """
    place = {p: i for i, p in enumerate(subject.region.particles)}
    outside = sorted(set(cv.particles) - set(place))
    if outside:
        raise ValueError(
            f"D can be told along a collective variable of the QM atoms only; particles {outside} are none of them."
        )
    inside = CollectiveVariable(cv.kind, tuple(place[p] for p in cv.particles))
    return inside.evaluate
