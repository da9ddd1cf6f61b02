"""KStepReporter: what a run with KStepIntegrator does, as a CSV file and a live progress line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ._table import open_table
from ._units import ENERGY, GAS_CONSTANT, KELVIN, PICOSECOND
from .analysis.temperature import countFreedom, current_integrator, qmRegions, temperatures
from .integrator import KStepIntegrator

_FAULTS = ("nonFinite", "convergenceFailures", "outliersD", "outliersForce", "outsideRegion")
_LINE_INTERVAL = 15.0
"""Seconds between progress lines where they are not shown on a terminal."""


class KStepReporter:
    """Writes a line of CSV every so many macro-steps; goes into ``simulation.reporters``.

    A report costs an evaluation of the common forces and the model, and no xTB call. The columns, blank where they do
    not apply:

    Step, Time (ps)
    D (kJ/mole)
        U_corrector - U_model of this frame (at A(x) with mollification)
    Mean D, SD D (kJ/mole); Acceptance; First Acceptance; Flips/ps; xTB Calls/ps; Faults; Redone
        since the Context was created or resetStatistics() was called; they go on after a restart
    k
        base steps between xTB calls now; 0 while steps are made without the model. Nothing is known of D where there
        were any since the line before
    Potential Energy (kJ/mole)
        of the Hamiltonian that the scheme follows: the true one; in 'reweight' the model's; with mollification
        U_common + U_model(x) + D(A(x)). Blank in 'jump', as is D: it would cost an xTB call
    Conserved Energy, Drift (kJ/mole)
        in 'impulse' without friction: potential and kinetic energy, and its change since the first line of the file
    T <region> (K)
        temperatures from half-step velocities, with the degrees of freedom of the first report
    Log Weight
        -D/kT, in 'reweight' or with ``weights``: the logarithm of the frame's weight. With the same interval as the
        trajectory's reporter there is one for each frame; see analysis.ReweightingWeights
    Speed (ns/day), Time Left (s)
        since this reporter's first step; the latter with ``totalSteps``

    Parameters
    ----------
    file : str or Path
        the CSV file
    reportInterval : int
        macro-steps between lines
    regions : dict of str to sequence of int, optional
        particles whose temperature is reported; by default 'QM' (those of XtbForce and k-step models) and 'MM' (the rest). See
        analysis.byElement()
    weights : bool
        whether to write the column 'Log Weight' (needs the integrator's temperature and the scheme 'reweight');
        'reweight' always does
    progress : bool
        whether to show a progress line on the standard error stream: live on a terminal, else a line every 15 s
    totalSteps : int, optional
        the step at which the run ends, for progress and 'Time Left'
    append : bool
        go on with the file of an interrupted run. When the run goes on, lines later than the Simulation's current step
        (restored from a checkpoint) and a torn last line are cut. Put this reporter before the CheckpointReporter.

    Raises
    ------
    ValueError
        For an interval below 1. At the first step: if the integrator is not a KStepIntegrator, a file to append to has
        other columns or lacks lines, a region has no degrees of freedom, or a CheckpointReporter comes first.
    """

    def __init__(
        self,
        file,
        reportInterval: int,
        regions: Mapping[str, Sequence[int]] | None = None,
        weights: bool = False,
        progress: bool = True,
        totalSteps: int | None = None,
        append: bool = False,
    ):
        if reportInterval < 1:
            raise ValueError(f"KStepReporter: expected an interval of at least one macro-step, found {reportInterval}.")
        self._path = Path(file)
        self._interval = reportInterval
        self._regions = regions
        self._weights = weights
        self._progress = progress
        self._totalSteps = totalSteps
        self._append = append
        self._out = None

    def describeNextReport(self, simulation) -> dict:
        """Say when the next report is due. It needs nothing from the State, whose energy could cost an xTB call."""
        if self._out is None:
            self._start(simulation)
        return {"steps": self._interval - simulation.currentStep % self._interval, "periodic": None, "include": []}

    def report(self, simulation, state) -> None:
        """Write a line. ``state`` may be without contents."""
        values = self._values(simulation)
        self._out.write(",".join("" if v is None else str(v) for v in values.values()) + "\n")
        self._out.flush()
        # In 'reweight' D is infinite, and the frame's weight 0, where the corrector finds no energy.
        energy = values["Potential Energy (kJ/mole)"]
        if energy is not None and not math.isfinite(energy):
            raise ValueError(f"KStepReporter: the potential energy is {energy} at step {simulation.currentStep}.")
        if self._progress:
            self._show(simulation.currentStep, values)

    def _start(self, simulation) -> None:
        integrator = current_integrator(simulation.context)
        if not isinstance(integrator, KStepIntegrator):
            raise ValueError(f"KStepReporter reports on a KStepIntegrator; found a {type(integrator).__name__}.")
        self._weights |= integrator.getScheme() == "reweight"
        if self._weights and integrator.getScheme() != "reweight":
            raise ValueError(
                f"KStepReporter: weights belong to the scheme 'reweight'; the frames of '{integrator.getScheme()}' have "
                "equal weights."
            )
        system = simulation.context.getSystem()
        self._regions = qmRegions(system) if self._regions is None else dict(self._regions)
        # No velocities yet: before the first step they could cost an xTB call.
        self._freedom = countFreedom(simulation.context, self._regions)
        self._reference = None
        self._plainSteps = integrator.getStatistics()["plainMacroSteps"]
        self._clock, self._startTime = time.perf_counter(), simulation.context.getTime().value_in_unit(PICOSECOND)
        self._startStep, self._bar, self._lastLine = simulation.currentStep, None, self._clock
        advice = "Append with the same regions, weights and totalSteps, or write to a new file."
        self._out, rows = open_table(self, simulation, self._path, self._header(), self._interval, self._append, advice)
        if rows:
            energy = rows[0][self._header().index("Conserved Energy (kJ/mole)")]
            self._reference = float(energy) if energy else None

    def _header(self) -> list[str]:
        names = ["Step", "Time (ps)", "D (kJ/mole)", "Mean D (kJ/mole)", "SD D (kJ/mole)", "Acceptance"]
        names += ["First Acceptance", "Flips/ps", "k", "Potential Energy (kJ/mole)", "Conserved Energy (kJ/mole)"]
        names += ["Drift (kJ/mole)", *(f"T {name} (K)" for name in self._regions), "xTB Calls/ps", "Faults", "Redone"]
        names += ["Log Weight"] if self._weights else []
        names += ["Speed (ns/day)"]
        return names + (["Time Left (s)"] if self._totalSteps is not None else [])

    def _values(self, simulation) -> dict:
        """The cells of a line by the names of the columns."""
        integrator = current_integrator(simulation.context)
        statistics = integrator.getStatistics()
        values = dict.fromkeys(self._header())
        simulated = simulation.context.getTime().value_in_unit(PICOSECOND)
        values["Step"], values["Time (ps)"] = simulation.currentStep, simulated
        values["k"] = statistics["currentK"]
        hasD = integrator.getScheme() != "jump"  # a direct model is no potential
        if hasD:
            values["Mean D (kJ/mole)"] = statistics["meanD"].value_in_unit(ENERGY)
            values["SD D (kJ/mole)"] = statistics["sdD"].value_in_unit(ENERGY)
        values["Faults"] = sum(statistics[name] for name in _FAULTS)
        values["Redone"] = statistics["redone"]
        metropolis = integrator.getScheme() == "metropolis"
        steps = statistics["macroSteps"]
        covered = (statistics["chances"] if metropolis else steps) * integrator.getStepSize().value_in_unit(PICOSECOND)
        if covered > 0:
            values["xTB Calls/ps"] = statistics["correctorCalls"] / covered
        if metropolis and steps > 0:
            values["Acceptance"] = statistics["accepted"] / steps
            values["First Acceptance"] = statistics["firstAccepted"] / steps
            values["Flips/ps"] = statistics["flips"] / covered
        # After steps without the model D would cost an xTB call, or has no value where the model has none.
        before, self._plainSteps = self._plainSteps, statistics["plainMacroSteps"]
        if hasD and statistics["currentK"] > 0 and self._plainSteps <= before:
            values.update(self._energies(simulation.context, integrator))
        for name, temperature in temperatures(simulation.context, self._regions, self._freedom).items():
            values[f"T {name} (K)"] = temperature.value_in_unit(KELVIN)
        elapsed = time.perf_counter() - self._clock
        if elapsed > 0:
            values["Speed (ns/day)"] = f"{(simulated - self._startTime) / 1000 / (elapsed / 86400):.4g}"
        if self._totalSteps is not None and simulation.currentStep > self._startStep:
            rate = elapsed / (simulation.currentStep - self._startStep)
            values["Time Left (s)"] = max(0, round(rate * (self._totalSteps - simulation.currentStep)))
        return values

    def _energies(self, context, integrator: KStepIntegrator) -> dict:
        D = integrator.computeD().value_in_unit(ENERGY)
        # D is known already. The corrector itself, at x, would cost a call where D belongs to A(x).
        mask = (integrator.getIntegrationForceGroups() | 1 << integrator.getModelForceGroup()) & ~(
            1 << integrator.getCorrectorForceGroup()
        )
        state = context.getState(energy=True, groups={i for i in range(32) if mask >> i & 1})
        reweight = integrator.getScheme() == "reweight"
        potential = state.getPotentialEnergy().value_in_unit(ENERGY) + (0.0 if reweight else D)
        values = {"D (kJ/mole)": D, "Potential Energy (kJ/mole)": potential}
        if self._weights:
            values["Log Weight"] = -D / (GAS_CONSTANT * integrator.getTemperature().value_in_unit(KELVIN))
        frictions = [integrator.getFriction(), *(integrator.getRegion(i)[2] for i in range(integrator.getNumRegions()))]
        if integrator.getScheme() == "impulse" and not any(f._value > 0 for f in frictions):
            conserved = potential + state.getKineticEnergy().value_in_unit(ENERGY)
            self._reference = conserved if self._reference is None else self._reference
            values["Conserved Energy (kJ/mole)"] = conserved
            values["Drift (kJ/mole)"] = conserved - self._reference
        return values

    def _show(self, step: int, values: dict) -> None:
        shown = [f"{values['Speed (ns/day)']} ns/day"]
        for name, label in (("SD D (kJ/mole)", "sd(D)"), ("Acceptance", "accepted"), ("Drift (kJ/mole)", "drift")):
            if values[name] is not None:
                shown.append(f"{label} {values[name]:.3g}")
        shown += [f"{name[:-4]} {v:.0f} K" for name, v in values.items() if name.startswith("T ") and v is not None]
        shown += [f"{values['Faults']} faults"] if values["Faults"] else []
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=self._totalSteps, initial=self._startStep, unit="step", mininterval=0.2)
            self._bar.set_postfix_str(", ".join(shown), refresh=False)
            self._bar.update(step - self._bar.n)
            if step == self._totalSteps:
                self._bar.close()
        elif time.perf_counter() - self._lastLine >= _LINE_INTERVAL or step == self._totalSteps:
            self._lastLine = time.perf_counter()
            total = {"total": self._totalSteps, "initial": self._startStep, "unit": "step", "ncols": 0}
            meter = tqdm.format_meter(step, elapsed=self._lastLine - self._clock, **total)
            print(meter + ", ".join(["", *shown]), file=sys.stderr, flush=True)

    def __del__(self):
        if getattr(self, "_out", None) is not None:
            self._out.close()
