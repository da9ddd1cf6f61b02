"""checkModel: is a model fit for a system on this machine?"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

from .._units import KELVIN, strip
from ..data.bias import UmbrellaWindows
from ..data.frames import Frames
from .coordinate import asCoordinate, measureAlongCoordinate, runInWindows
from .errors import labelGasPhase, measureBaseline, measureFrameErrors, measureGasErrors, measureRunErrors
from .frequencies import compareFrequencies
from .report import ModelReport
from .runs import ModelRun, runOnModel
from .sampling import measureSampling
from .speed import measureCosts, predictSpeed
from .stability import cutAtHoles, measureStability
from .steps import predictSteps
from .subject import CheckSubject, prepareCheck
from .verdict import judge

PARTS = ("data", "runs", "gas", "frequencies", "drift", "speed")
_SHARES = {"data": 1, "runs": 40, "gas": 3, "frequencies": 3, "drift": 52, "speed": 1}
"""Of the time, in per cent."""
_HYDROGEN_MASS = 3.0  # u
_STEP = 0.002  # ps
_INTERVAL = 0.016  # ps; k = 8
_SHORT_STEP, _SHORT_INTERVAL = 0.0005, 0.004  # ps
_COORDINATE_LAG = 8
"""Samples in the macro-step whose acceptance is told along a collective variable: k = 64."""


@dataclass(frozen=True)
class _Effort:
    """How much is run."""

    short: float  # ps at 0.5 fs after each run
    equilibration: float  # ps
    gas_frames: int
    data_frames: int
    drift_pieces: int
    drift_picoseconds: float
    repeats: int


_FULL = _Effort(1.0, 2.0, 200, 2000, 8, 0.75, 60)
_QUICK = _Effort(0.2, 0.2, 20, 100, 2, 0.1, 10)


def checkModel(
    system: openmm.System,
    positions,
    model: str | os.PathLike | None = None,
    *,
    topology: app.Topology | None = None,
    data=None,
    folder: str | os.PathLike | None = None,
    temperature=300 * unit.kelvin,
    starts: int = 4,
    picoseconds: float | None = None,
    chances: int = 4,
    coordinate: Callable[[np.ndarray], float] | None = None,
    bias: UmbrellaWindows | None = None,
    parts: Sequence[str] = PARTS,
    quick: bool = False,
    seed: int = 1,
    platform: openmm.Platform | None = None,
    properties: dict | None = None,
    allowNativeCode: bool = False,
    progress: bool = True,
) -> ModelReport:
    """Find out what a k-step model is fit for, in this system and on this machine.

    Langevin runs on the model alone, along which xTB is asked every 16 fs, give the errors of forces and energies where
    the model's dynamics goes, the distribution of D with the acceptance that 'metropolis' and the weights that 'reweight'
    will have, and tell whether the runs stay in the region that the model was trained for. Their inner step is 2 fs with
    flexible hydrogens of 3 u. The molecule alone gives intramolecular errors, those of GFN-FF, which needs no training,
    on the same structures, and harmonic frequencies. Then follow the drifts of the impulse schemes and the speed-ups.
    Some 16,000 xTB calls: five minutes on one core for 22 atoms in a small droplet.

    Every part is a function of its own in openmmkstep.validation, with more settings.

    Parameters
    ----------
    system : System
        with an XtbForce, as createQMMMSystem() makes; it is not changed
    positions : array or Quantity
        of all particles (nm), equilibrated; or an array of several such structures, where the runs start in turn
    model : str or path, optional
        the model file; None if the System holds the model already
    topology : Topology, optional
        with the bonds of the QM region; else they are found by distance
    data : Frames or Dataset, optional
        labelled frames that the model has not seen, to compare with too
    folder : str or path, optional
        where check.json, plots and the page check.html are written (needs matplotlib)
    temperature : float or Quantity
        K
    starts, picoseconds : int, float
        number and length of the runs on the model; by default 20 ps each
    chances : int
        tests before a flip in 'metropolis'
    coordinate : callable, optional
        a collective variable: positions (n, 3) of the model's atoms (nm) -> number; D and acceptance are told along it
    bias : UmbrellaWindows, optional
        runs in these windows as well, a quarter of ``picoseconds`` in each; D and acceptance are told along their
        collective variable, so that they are known where plain runs do not get to, such as at a transition state
    parts : sequence of str
        some of 'data', 'runs' (errors, sampling, stability), 'gas', 'frequencies', 'drift', 'speed'. 'gas' needs 'runs'
    quick : bool
        run a small part of everything, 1 ps from each start: shows that it works, not how good the model is
    seed : int
        of thermostats and velocities
    platform, properties : Platform, dict, optional
        what to run on, by default the CPU platform with one thread
    allowNativeCode : bool
        whether the model may be machine code (an AOTInductor package), see KStepModelForce
    progress : bool
        whether to show a progress bar

    Returns
    -------
    ModelReport
        print it, or see its fields; what a part could not do is in its notes

    Raises
    ------
    ValueError
        If the model, the positions, the data or the parts do not fit; the message says what was expected.
    ImportError
        If torch is missing, or matplotlib with a folder.
    """
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        raise ValueError(
            f"Expected some of the parts {', '.join(PARTS)}, found {', '.join(sorted(unknown)) or 'none'}."
        )
    if "gas" in parts and "runs" not in parts:
        raise ValueError("The part 'gas' looks at structures of the runs on the model: ask for 'runs' too.")
    kelvin = strip(temperature, KELVIN)
    if not kelvin > 0:
        raise ValueError(f"Expected a positive temperature, found {kelvin} K.")
    subject = prepareCheck(system, positions, model, topology, platform, properties, allowNativeCode)
    if bias is not None:
        if not isinstance(bias, UmbrellaWindows):
            raise ValueError(f"The bias of a check is UmbrellaWindows, found {type(bias).__name__}.")
        asCoordinate(bias.cv, subject)
    frames = _frames(data, subject)
    effort = _QUICK if quick else _FULL
    length = picoseconds if picoseconds is not None else (1.0 if quick else 20.0)
    report = ModelReport(_title(subject, kelvin), kelvin)
    work = _Work(report, [p for p in PARTS if p in parts and (p != "data" or frames is not None)], progress)

    def compare_frames():
        for name, chosen in (("embedded", frames.embedded), ("gas-phase", ~frames.embedded)):
            if chosen.any():
                index = np.flatnonzero(chosen)
                index = index[np.unique(np.linspace(0, len(index) - 1, effort.data_frames).astype(int))]
                report.data.append(measureFrameErrors(subject, frames[index], f"{name} frames that were given"))

    heavy = subject.withHydrogenMass(_HYDROGEN_MASS)
    runs: list[ModelRun] = []

    def run():
        whole = runOnModel(
            heavy,
            kelvin,
            length,
            starts,
            _INTERVAL,
            _STEP,
            effort.equilibration,
            seed=seed,
            advance=lambda share: work.advance(0.8 * share),
        )
        runs.extend(cutAtHoles(whole, kelvin))
        report.stability = measureStability(subject, runs)
        report.errors = measureRunErrors(subject, runs)
        ends = [r.last for r in runs if r.last is not None and not r.fault]
        short = []
        if ends:
            short = runOnModel(
                dataclasses.replace(subject, starts=np.array(ends)),
                kelvin,
                effort.short,
                len(ends),
                _SHORT_INTERVAL,
                _SHORT_STEP,
                effort.equilibration / 4,
                seed=seed + starts,
                advance=lambda share: work.advance(0.2 * share),
            )
        report.sampling = measureSampling(runs, short, kelvin, chances)
        if bias is not None:
            biased = runInWindows(
                heavy,
                bias,
                kelvin,
                length / 4,
                effort.equilibration / 4,
                seed=seed + 2 * starts,
                advance=lambda share: work.advance(0.3 * share),
            )
            faults = [r.fault for r in biased if r.fault]
            if faults:
                report.notes.append(f"{len(faults)} of {len(biased)} windows ended early: {faults[0]}")
            tell_along(asCoordinate(bias.cv, subject), biased)
        elif coordinate is not None:
            tell_along(coordinate, runs)

    def tell_along(variable, runs):
        values = [np.array([variable(x) for x in r.positions]) for r in runs]
        report.coordinate = measureAlongCoordinate(values, [r.D for r in runs], lag=_COORDINATE_LAG, temperature=kelvin)

    def gas():
        labels = labelGasPhase(subject, runs, effort.gas_frames)
        report.gas = measureGasErrors(subject, labels)
        report.baseline = measureBaseline(subject, labels)

    def drift():
        report.steps = predictSteps(
            subject,
            topology,
            kelvin,
            pieces=effort.drift_pieces,
            picoseconds=effort.drift_picoseconds,
            equilibration=effort.equilibration,
            hydrogenMass=_HYDROGEN_MASS,
            seed=seed,
            advance=work.advance,
        )

    def frequencies():
        report.frequencies = compareFrequencies(subject)

    def speed():
        report.speed = predictSpeed(measureCosts(subject, effort.repeats), report.sampling, report.steps)

    work.do("data", compare_frames)
    work.do("runs", run)
    work.do("gas", gas)
    work.do("frequencies", frequencies)
    work.do("drift", drift)
    work.do("speed", speed)
    work.bar.close()
    report.verdict = judge(
        report.sampling,
        report.steps,
        report.stability,
        report.errors,
        report.gas,
        report.baseline,
        report.frequencies,
    )
    if quick:
        report.notes.append("This was a quick check: too short to judge a model by.")
    if folder is not None:
        report.write(folder)
    return report


class _Work:
    """Does the parts that were asked for, one after the other, with a progress bar."""

    def __init__(self, report: ModelReport, parts: Sequence[str], progress: bool):
        self.report, self.parts = report, parts
        # On a terminal a live line, elsewhere one every 15 s.
        interval = 0.2 if sys.stderr.isatty() else 15.0
        layout = "{desc:22s}{percentage:3.0f} %|{bar:30}| {elapsed}, {remaining} left"
        total = sum(_SHARES[p] for p in parts)
        self.bar = tqdm(total=total, disable=not progress, mininterval=interval, bar_format=layout)
        self.part, self.done = "", 0.0

    def advance(self, share: float) -> None:
        """Move the bar on by a share of the current part."""
        share = min(share, 1.0 - self.done)
        self.done += share
        self.bar.update(min(_SHARES[self.part] * share, self.bar.total - self.bar.n))

    def do(self, part: str, action: Callable[[], None]) -> None:
        """Do a part; where it is not possible, say so in the report and go on with the next one."""
        if part not in self.parts:
            return
        self.part, self.done = part, 0.0
        self.bar.set_description_str(f"check: {part}")
        start = time.perf_counter()
        try:
            action()
        except (ValueError, openmm.OpenMMException) as error:
            self.report.notes.append(f"The part '{part}' came to an end early: {error}")
        self.report.seconds[part] = time.perf_counter() - start
        self.advance(1.0)


def _frames(data, subject: CheckSubject) -> Frames | None:
    """What was given as frames, checked against the region."""
    if data is None:
        return None
    region, own = getattr(data, "region", None), subject.region
    if region is not None:
        # Not the bonds: without a topology they are found by distance.
        species = [own.species[subject.order.index(i)] for i in range(own.numAtoms)]
        expected = (own.method, own.charge, own.multiplicity, own.hardnessElement, species)
        found = (region.method, region.charge, region.multiplicity, region.hardnessElement, list(region.species))
        if found != expected:
            raise ValueError(
                "Expected data of the System's QM region, (method, charge, multiplicity, hardness element, elements) = "
                f"{expected}, found data of {found}."
            )
    frames = data.read() if hasattr(data, "read") else data
    if not isinstance(frames, Frames):
        raise ValueError(f"Expected the data as Frames or a Dataset, found {type(frames).__name__}.")
    if not len(frames) or frames.positions.shape[1] != subject.region.numAtoms:
        raise ValueError(
            f"Expected data of {subject.region.numAtoms} atoms, found {len(frames)} frames of {frames.positions.shape[1]} atoms."
        )
    return frames


def _title(subject: CheckSubject, kelvin: float) -> str:
    numbers = sorted(set(subject.region.species))
    counts = [(app.Element.getByAtomicNumber(z).symbol, subject.region.species.count(z)) for z in numbers]
    formula = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts)
    others = subject.system.getNumParticles() - len(subject.region.particles)
    return f"Model of {formula} ({subject.region.method}) among {others} MM particles at {kelvin:g} K"
