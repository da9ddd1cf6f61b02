"""The largest macro-step of the impulse schemes, by their predicted drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from openmm import app, unit

from ..qmmm.mollification import findMollification
from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from ._statistics import Estimate
from .drift import DriftPrediction, predict_drifts
from .subject import CheckSubject

TOLERANCE = 0.05
"""A drift (kJ/mol/ps) that is small enough for runs of many ps without a thermostat."""
_KINDS = ("impulse", "mollified", "deep")
_LARGEST = 0.012  # ps
_INTERVAL = 0.002  # ps


@dataclass
class StepRow:
    """The predicted drift of one scheme.

    Attributes
    ----------
    kind : str
        'impulse', 'mollified' (bonds to hydrogen) or 'deep' (all bonds, and bends of hydrogens)
    steps : array
        macro-steps h (ps)
    drifts : list of Estimate
        for each of them (kJ/mol/ps)
    largest : float
        the largest h (ps) up to which all predicted drifts are below the tolerance; 0 if there is none
    """

    kind: str
    steps: np.ndarray
    drifts: list[Estimate]
    largest: float

    def at(self, h: float) -> Estimate:
        """The drift at one of the macro-steps."""
        return self.drifts[int(np.abs(self.steps - h).argmin())]


@dataclass
class StepReport:
    """Predicted drifts of the impulse schemes.

    Attributes
    ----------
    rows : list of StepRow
    tolerance : float
        kJ/mol/ps
    hydrogenMass : float or None
        mass of the region's hydrogens (u); None if it is as in the System
    """

    rows: list[StepRow]
    tolerance: float
    hydrogenMass: float | None

    def find(self, kind: str) -> StepRow | None:
        """The row of one scheme, if there is one."""
        return next((r for r in self.rows if r.kind == kind), None)


def predictSteps(
    subject: CheckSubject,
    topology: app.Topology | None = None,
    temperature=300 * unit.kelvin,
    kinds: Sequence[str] = _KINDS,
    pieces: int = 8,
    picoseconds: float = 0.75,
    baseStepSize=0.001 * unit.picosecond,
    equilibration: float = 2.0,
    tolerance: float = TOLERANCE,
    hydrogenMass: float | None = 3.0,
    seed: int = 1,
    advance: Callable[[float], None] = lambda share: None,
) -> StepReport:
    """Predict the drift of plain, mollified and deeply mollified impulse for macro-steps of 4 to 12 fs.

    All three from the same runs on the model, with a corrector call for each every 2 fs. Odd macro-steps come out somewhat
    too small at 5 fs, see DriftPrediction.

    Parameters
    ----------
    subject : CheckSubject
    topology : Topology, optional
        with the bonds of the QM region; else the subject's are used
    temperature : float or Quantity
        K
    kinds : sequence of str
        'impulse', 'mollified', 'deep'
    pieces, picoseconds, baseStepSize, equilibration, seed
        see predictDrift()
    tolerance : float
        kJ/mol/ps
    hydrogenMass : float, optional
        what the region's hydrogens weigh at least (u); None leaves them as they are
    advance : callable
        is called with the share of the work done since the last time

    Raises
    ------
    ValueError
        For an unknown kind, or settings that predictDrift() does not take.
    """
    if not set(kinds) <= set(_KINDS):
        raise ValueError(f"Expected some of the kinds {', '.join(_KINDS)}, found {', '.join(kinds)}.")
    if hydrogenMass is not None:
        subject = subject.withHydrogenMass(hydrogenMass)
    topology = topology or subject.makeTopology()
    positions = subject.starts[0]
    resets = []
    for kind in kinds:
        found = kind != "impulse"
        resets.append(
            findMollification(topology, subject.system, positions, temperature, deep=kind == "deep") if found else []
        )
    predictions = predict_drifts(
        subject.system,
        positions,
        resets,
        (temperature, pieces, picoseconds, _INTERVAL, baseStepSize, equilibration),
        (CORRECTOR_GROUP, MODEL_GROUP),
        seed,
        (subject.platform, subject.properties),
        advance,
    )
    rows = [tabulate(p, kind, tolerance) for p, kind in zip(predictions, kinds, strict=True)]
    return StepReport(rows, tolerance, hydrogenMass)


def tabulate(prediction: DriftPrediction, kind: str, tolerance: float = TOLERANCE) -> StepRow:
    """The drifts of one prediction at every fs from two sampling intervals to 12 fs."""
    shortest = round(1e3 * 2 * prediction.interval)
    steps = np.arange(shortest, round(1e3 * _LARGEST) + 1) / 1e3
    drifts = [Estimate(*prediction.drift(h)) for h in steps]
    below = [d.value <= tolerance for d in drifts]
    number = below.index(False) if False in below else len(below)
    return StepRow(kind, steps, drifts, float(steps[number - 1]) if number else 0.0)
