"""What the numbers of a check mean, in words."""

from __future__ import annotations

from .._units import GAS_CONSTANT
from .errors import ErrorReport
from .frequencies import FrequencyReport
from .sampling import SamplingReport
from .stability import StabilityReport
from .steps import StepReport

_USEFUL_ACCEPTANCE = 0.5
_GOOD_ACCEPTANCE = 0.8
_FEW_SAMPLES = 50
_SCHEMES = {
    "impulse": "impulse",
    "mollified": "mollified impulse (bonds to hydrogen)",
    "deep": "deeply mollified impulse (all bonds, bends of hydrogens)",
}


def judge(
    sampling: SamplingReport | None = None,
    steps: StepReport | None = None,
    stability: StabilityReport | None = None,
    errors: ErrorReport | None = None,
    gas: ErrorReport | None = None,
    baseline: ErrorReport | None = None,
    frequencies: FrequencyReport | None = None,
) -> list[str]:
    """Sentences that say what a model is fit for, and what it is not fit for and why; parts that are None are passed over."""
    return [
        *_stability(stability),
        *_steps(steps, stability),
        *_metropolis(sampling),
        *_reweight(sampling),
        *_errors(errors, gas, baseline),
        *_frequencies(frequencies),
    ]


def _stability(report: StabilityReport | None) -> list[str]:
    if report is None:
        return []
    told = []
    if report.faults:
        told.append(
            f"Not fit: {len(report.faults)} of {report.runs} runs on the model broke down ({report.faults[0]})."
        )
    if report.failures:
        told.append(
            f"Not fit: for {report.failures} structures of the runs on the model the corrector found no energy; the model "
            "leads to places where the molecule is broken."
        )
    if report.excursions:
        told.append(
            f"Caution: the runs on the model left the region it was trained for {report.excursions} times, {100 * report.outside.value:.2g} % "
            f"of the time ({report.worst}). Add such frames to the training data."
        )
    if not report.rangesKnown:
        told.append(
            "The model's contract does not say where it is valid (distanceRanges), so nothing can guard against leaving that region."
        )
    if report.stable:
        told.append(
            f"Stable: {report.runs} runs, {report.picoseconds:.3g} ps in all, on the model alone without a fault."
        )
    return told


def _steps(report: StepReport | None, stability: StabilityReport | None) -> list[str]:
    if report is None:
        return []
    # A run of 'impulse' comes where the model breaks down too, and its error recovery makes such macro-steps by xTB alone.
    broken = stability is not None and bool(stability.faults or stability.failures)
    fit = "Only with error recovery fit" if broken else "Fit"
    mass = f" ({report.hydrogenMass:g} u)" if report.hydrogenMass is not None else " (masses as they are)"
    told = []
    for row in report.rows:
        name = _SCHEMES[row.kind]
        if row.largest > 0:
            told.append(
                f"{fit} for {name} up to h = {1e3 * row.largest:g} fs{mass}: predicted drift "
                f"{row.at(row.largest).text(2)} kJ/mol/ps, limit {report.tolerance:g}."
            )
        else:
            told.append(
                f"Not fit for {name} at h = {1e3 * row.steps[0]:g} fs{mass}: predicted drift {row.drifts[0].text(2)} "
                f"kJ/mol/ps, limit {report.tolerance:g}."
            )
    return told


def _metropolis(report: SamplingReport | None) -> list[str]:
    if report is None:
        return []
    found = report.find(0.002, 64) or (report.acceptance[0] if report.acceptance else None)
    told = []
    if found is not None:
        if found.first.value >= _GOOD_ACCEPTANCE:
            word = "Fit"
        else:
            word = "Usable" if found.first.value >= _USEFUL_ACCEPTANCE else "Not fit"
        told.append(
            f"{word} for metropolis at k = {found.k} ({1e3 * found.baseStepSize:g} fs steps): {found.first.text(2)} accepted at the "
            f"first test, {found.any.text(3)} at one of {found.chances}; {found.flipRate.text(2)} flips/ps leave "
            f"{found.diffusionRatio.text(2)} of plain diffusion; sd(D) {report.sd.text(2)} kJ/mol."
        )
    total = sum(float(t[-1]) for t in report.times if len(t))
    independent = total / (2 * report.correlationTime)
    if independent < _FEW_SAMPLES:
        told.append(
            f"Caution: D decorrelates slowly ({report.correlationTime:.2g} ps), so the runs hold only some {independent:.0f} "
            "independent values of it; the error bars of acceptance and sd(D) may be too small. Run longer."
        )
    return told


def _reweight(report: SamplingReport | None) -> list[str]:
    if report is None:
        return []
    numbers = f"{100 * report.effectiveFraction.value:.3g} % of the frames effective, Pareto k-hat {report.paretoK:.2f}"
    narrow = report.sd.value < 0.5 * GAS_CONSTANT * report.temperature
    if report.converged and narrow:
        return [f"Fit for reweight: {numbers}."]
    reason = "the weights' tail is too heavy" if not report.converged else "sd(D) is above kT/2"
    return [f"Not fit for reweight: {numbers}; {reason}. Use metropolis, which is exact for any model."]


def _errors(errors: ErrorReport | None, gas: ErrorReport | None, baseline: ErrorReport | None) -> list[str]:
    told = []
    if errors is not None:
        text = f"Force error {errors.force.text(3)} kJ/mol/nm on the QM atoms along its own runs"
        told.append(text + (f", {gas.force.text(3)} intramolecular." if gas is not None else "."))
    if gas is not None and baseline is not None:
        ratio = baseline.force.value / gas.force.value if gas.force.value else float("inf")
        if ratio < 1:
            told.append(
                f"Not worth its name: GFN-FF, which needs no training, has the smaller force error ({baseline.force.text(3)} kJ/mol/nm)."
            )
        else:
            told.append(f"{ratio:.3g} times more accurate in forces than GFN-FF ({baseline.force.text(3)} kJ/mol/nm).")
    return told


def _frequencies(report: FrequencyReport | None) -> list[str]:
    if report is None:
        return []
    told = [
        f"Harmonic frequencies ({report.environment}) within {report.rms:.2g}/cm (rms), {abs(report.largest):.2g}/cm at most."
    ]
    if report.imaginary[1] > report.imaginary[0]:
        told.append(
            f"Caution: the model has {report.imaginary[1]} imaginary frequencies at its minimum, the corrector {report.imaginary[0]}."
        )
    return told
