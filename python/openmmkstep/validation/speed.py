"""What a step costs on this machine, and how much faster each scheme is than xTB at every step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import openmm

from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from ._statistics import Estimate
from .sampling import SamplingReport
from .steps import StepReport
from .subject import CheckSubject

_NO_GROUP = 31
_PLAIN = ((0.0005, "plain, 0.5 fs"), (0.002, "plain, 2 fs, H = 3 u"))
_DEFAULT_STEPS = {"impulse": 0.002, "mollified": 0.005, "deep": 0.008}
"""Macro-steps (ps) that are assumed where there is no prediction."""


@dataclass(frozen=True)
class Costs:
    """Wall times (s) with the platform's and the forces' threads.

    Attributes
    ----------
    corrector, model, common : Estimate
        one corrector call, one model call, one step of everything else
    platform : str
    """

    corrector: Estimate
    model: Estimate
    common: Estimate
    platform: str

    def plain(self, step: float) -> float:
        """Seconds per ps of the corrector at every step (ps)."""
        return (self.corrector.value + self.common.value) / step

    def macroStep(self, k: float, modelCalls: float = 0.0) -> float:
        """Seconds for k base steps and one corrector call, with this many model calls besides those of the steps."""
        return self.corrector.value + k * (self.model.value + self.common.value) + modelCalls * self.model.value


@dataclass(frozen=True)
class SpeedRow:
    """The predicted speed of one setting.

    Attributes
    ----------
    name : str
    callsPerPs, secondsPerPs : float
        corrector calls, wall time (s)
    overPlain, overHeavyPlain : float
        speed-up over the corrector at every 0.5 fs, and at every 2 fs with hydrogens of 3 u
    """

    name: str
    callsPerPs: float
    secondsPerPs: float
    overPlain: float
    overHeavyPlain: float


@dataclass
class SpeedReport:
    """Costs and predicted speed-ups.

    Attributes
    ----------
    costs : Costs
    rows : list of SpeedRow
    """

    costs: Costs
    rows: list[SpeedRow]


def measureCosts(subject: CheckSubject, repeats: int = 60) -> Costs:
    """Time corrector, model and everything else along a short trajectory on the model.

    Parameters
    ----------
    subject : CheckSubject
    repeats : int
        number of samples; the corrector is called every 2 fs
    """
    integrator = openmm.VerletIntegrator(0.0005)
    context = subject.context(integrator)
    context.setPositions(subject.starts[0])
    context.applyConstraints(1e-6)
    context.computeVirtualSites()
    context.setVelocitiesToTemperature(300, 1)
    actions = {
        "steps": lambda: integrator.step(4),
        "corrector": lambda: context.getState(forces=True, groups={CORRECTOR_GROUP}),
        "model": lambda: context.getState(forces=True, groups={MODEL_GROUP}),
        "empty": lambda: context.getState(forces=True, groups={_NO_GROUP}),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for i in range(repeats + 5):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if i >= 5:  # torch compiles in its first calls
                times[name].append(time.perf_counter() - start)
    values = {name: _median(np.array(t)) for name, t in times.items()}
    steps, corrector, model, empty = values["steps"], values["corrector"], values["model"], values["empty"]
    # A State costs some microseconds of its own, which the empty group shows. The first of the four steps finds the
    # model's result for its positions ready, since the model was asked for it just before.
    model = Estimate(max(0.0, model.value - empty.value), np.hypot(model.error, empty.error))
    common = Estimate(max(0.0, (steps.value - 3 * model.value) / 4), np.hypot(steps.error, 3 * model.error) / 4)
    corrector = Estimate(max(0.0, corrector.value - empty.value), np.hypot(corrector.error, empty.error))
    return Costs(corrector, model, common, context.getPlatform().getName())


def _median(values: np.ndarray) -> Estimate:
    """Median and its standard error; interruptions by other processes are outliers."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return Estimate(float(median), float(1.253 * (high - low) / 1.349 / np.sqrt(len(values))))


def predictSpeed(
    costs: Costs, sampling: SamplingReport | None = None, steps: StepReport | None = None, kValues=(64, 128)
) -> SpeedReport:
    """The speed-up of every scheme from the costs of its parts.

    One macro-step costs a corrector call, k model calls and k steps of the rest; with mollification one model call more.
    In 'metropolis' the time of a path that was not accepted is lost. Reporters and output are not counted.

    Parameters
    ----------
    costs : Costs
    sampling : SamplingReport, optional
        for the acceptance of 'metropolis'; without it every proposal is taken to be accepted
    steps : StepReport, optional
        for the largest macro-steps of the impulse schemes; else 2 fs, mollified 5 fs, deep 8 fs are assumed
    kValues : sequence of int
        of 'metropolis' and 'reweight', with an inner step of 2 fs
    """
    rows = [(name, 1 / step, costs.plain(step)) for step, name in _PLAIN]
    for kind, inner in (("impulse", 0.0005), ("mollified", 0.001), ("deep", 0.001)):
        predicted = steps.find(kind) if steps is not None and kind != "impulse" else None
        if predicted is not None and predicted.largest == 0:
            continue
        h = _DEFAULT_STEPS[kind] if predicted is None else predicted.largest
        heavy = kind != "impulse" and (steps is None or steps.hydrogenMass is not None)
        mass = f", H = {3 if steps is None else steps.hydrogenMass:g} u" if heavy else ""
        name = f"{kind}, h = {1e3 * h:g} fs{mass}"
        rows.append((name, 1 / h, costs.macroStep(h / inner, kind != "impulse") / h))
    for k in kValues:
        found = sampling.find(0.002, k) if sampling is not None else None
        calls = found.callsPerPs.value if found is not None else 1 / (0.002 * k)
        rows.append((f"metropolis, k = {k} at 2 fs, H = 3 u", calls, calls * costs.macroStep(k)))
        rows.append((f"reweight, k = {k} at 2 fs, H = 3 u", 1 / (0.002 * k), costs.macroStep(k) / (0.002 * k)))
    plain = [costs.plain(step) for step, _ in _PLAIN]
    return SpeedReport(costs, [SpeedRow(n, c, s, plain[0] / s, plain[1] / s) for n, c, s in rows])
