"""Proton transfer in malonaldehyde: a k-step model of a reaction, and the free energy along it.

Samples umbrella windows by xTB, trains a model, samples the windows again on the model (active learning) and trains
further, checks the model along the reaction; then umbrella sampling by plain xTB and by 'metropolis' on the model, with
error bars. Prints and plots both profiles. Six to ten minutes on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm

from openmmkstep import KStepIntegrator
from openmmkstep.analysis import FreeEnergyProfile, umbrellaProfile
from openmmkstep.data import Dataset, UmbrellaWindows, readBias, sampleFrames
from openmmkstep.improve import improveModel
from openmmkstep.qmmm import QMMMSetup, readSetup
from openmmkstep.training import trainModel
from openmmkstep.validation import ModelReport, checkModel

HERE = Path(__file__).parent / "proton_transfer"
TEMPERATURE, FRICTION = 300, 2.0  # K, 1/ps
XTB_STEP, STEP, K = 0.001, 0.002, 32  # ps; the hydrogens have 3 u
XTB_STRIDE = 16  # steps of plain xTB between samples
EDGES = np.linspace(-0.1, 0.1, 21)  # nm, of the profile's bins
TRANSITION = 0.03  # nm; the transition state is within this distance of 0


@dataclass(frozen=True)
class Effort:
    """How long everything is: ps of each walker or window, and training steps."""

    sampling: float
    active: float
    steps: tuple[int, int]
    equilibration: float
    xtb: float
    metropolis: float
    temperatures: tuple[float, ...] = (300, 500)
    hidden: tuple[int, int] | None = None
    quick: bool = False


FULL = Effort(1.0, 4.0, (3000, 6000), 0.5, 8.0, 60.0)
SHORT = Effort(0.1, 0.1, (60, 60), 0.02, 0.05, 1.0, (300,), (16, 16), True)


@dataclass
class Run:
    """The series of the variable in every window, what a picosecond costs, and the share of accepted macro-steps."""

    series: list[np.ndarray]
    seconds_per_ps: float
    calls_per_ps: float
    acceptance: float | None = None


def make_model(
    setup: QMMMSetup, bias: UmbrellaWindows, effort: Effort, folder: Path, progress: bool
) -> tuple[Path, str]:
    """The pipeline's stages, window by window; the model, and what the active learning brought."""
    common = {"topology": setup.topology, "bias": bias, "cluster": "serial", "progress": progress}
    sample = {"temperatures": effort.temperatures, "interval": 0.01, "equilibration": effort.equilibration / 2}
    train = {"threads": 1, "hidden": effort.hidden}
    system = setup.create(None)
    data = sampleFrames(system, setup.positions, folder / "data.kstep", picoseconds=effort.sampling, **sample, **common)
    first = trainModel(data, folder / "first", steps=effort.steps[0], progress=progress, **train)
    improvement = improveModel(
        system,
        setup.positions,
        first.path,
        [data],
        folder / "improved",
        picoseconds=effort.active,
        sample=sample | {"interval": 0.02 if effort.quick else 0.04},
        train=train | {"steps": effort.steps[1]},
        **common,
    )
    return improvement.path, str(improvement)


def starts(data: Dataset, windows: int) -> list[np.ndarray]:
    """A sampled structure of every window, the last one at the lowest temperature."""
    frames, window = data.read(), data.readColumn("window")
    cold = frames.temperatures == frames.temperatures.min()
    return [frames.positions[np.flatnonzero(cold & (window == k))[-1]] for k in range(windows)]


def in_window(setup: QMMMSetup, bias: UmbrellaWindows, centre: float, model: Path | None, integrator, start):
    """A Context of the system with one umbrella."""
    system = setup.create(model)
    system.addForce(dataclasses.replace(bias, centres=(centre,)).makeForce(False))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(start)
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    return context


def sample_windows(
    setup: QMMMSetup, bias: UmbrellaWindows, structures: list[np.ndarray], effort: Effort, model: Path | None
) -> Run:
    """Umbrella sampling: by plain xTB if there is no model, else by 'metropolis'."""
    length, step, stride = effort.metropolis if model else effort.xtb, STEP, 1
    if model is None:
        step, stride = XTB_STEP, XTB_STRIDE
    sample_time = step * (K if model else stride)
    result, seconds, first_tests, macro_steps = Run([], 0.0, 1 / step), 0.0, 0, 0
    for number, (centre, start) in enumerate(zip(bias.centres, structures, strict=True)):
        if model is None:
            integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, step)
        else:
            integrator = KStepIntegrator(step, K, "metropolis", TEMPERATURE, FRICTION)
        integrator.setRandomNumberSeed(number + 1)
        context = in_window(setup, bias, centre, model, integrator, start)
        integrator.step(max(1, round(effort.equilibration / sample_time)) * stride)
        if model is not None:
            integrator.resetStatistics()
        values, begin = [], time.process_time()
        for _ in range(max(10, round(length / sample_time))):
            integrator.step(stride)
            x = context.getState(positions=True).getPositions(asNumpy=True)._value
            values.append(bias.cv.evaluate(x))
        seconds += time.process_time() - begin
        result.series.append(np.array(values))
        if model is not None:
            statistics = integrator.getStatistics()
            first_tests += statistics["firstAccepted"]
            macro_steps += statistics["macroSteps"]
            result.calls_per_ps = statistics["correctorCalls"] / (len(values) * sample_time)
    result.seconds_per_ps = seconds / (sample_time * sum(map(len, result.series)))
    if model is not None:
        result.acceptance = first_tests / macro_steps
    return result


def plot(path: Path, profiles: dict[str, FreeEnergyProfile], report: ModelReport) -> None:
    """Both profiles with error bars; sd(D) and the acceptance along the variable."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for (name, profile), colour in zip(profiles.items(), ("black", "tab:red"), strict=True):
        left.errorbar(profile.values, profile.energies, profile.errors, color=colour, capsize=2, label=name)
    left.set(xlabel="d(O1-H) - d(O2-H), nm", ylabel="free energy, kJ/mol")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
    left.legend()
    along = report.coordinate
    middles = 0.5 * (along.edges[1:] + along.edges[:-1])
    acceptances, spreads = (np.array([(e.value, e.error) for e in values]).T for values in (along.acceptance, along.sd))
    right.errorbar(middles, *acceptances, color="tab:blue", capsize=2)
    right.set(xlabel="d(O1-H) - d(O2-H), nm", ylim=(0, 1.02))
    right.set_ylabel("acceptance of the first test, k = 64", color="tab:blue")
    other = right.twinx()
    other.errorbar(middles, *spreads, color="tab:orange", capsize=2)
    other.set_ylim(bottom=0)
    other.set_ylabel("sd(D), kJ/mol", color="tab:orange")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def compare(profiles: dict[str, FreeEnergyProfile], runs: dict[str, Run]) -> tuple[str, dict]:
    """What both methods found, as text and numbers."""
    lines, numbers = [], {}
    for name, profile in profiles.items():
        height, error = profile.barrier(-TRANSITION, TRANSITION)
        run = runs[name]
        left, right = (
            np.nanargmin(np.where(side, profile.energies, np.nan)) for side in (profile.values < 0, profile.values > 0)
        )
        tilt = profile.energies[right] - profile.energies[left]
        tilt_error = float(np.hypot(profile.errors[left], profile.errors[right]))
        accepted = "" if run.acceptance is None else f", first tests accepted {run.acceptance:.3f}"
        lines.append(
            f"{name:12s} barrier {height:5.2f} +- {error:.2f} kJ/mol; product less educt {tilt:.2f} +- "
            f"{tilt_error:.2f} (0 by symmetry); {run.seconds_per_ps:.3f} s of CPU and "
            f"{run.calls_per_ps:.0f} xTB calls a ps{accepted}"
        )
        numbers[name] = {
            "barrier": [height, error],
            "product_less_educt": [float(tilt), tilt_error],
            "energies": profile.energies.tolist(),
            "errors": profile.errors.tolist(),
            "picoseconds": sum(map(len, run.series)) * (STEP * K if run.acceptance else XTB_STEP * XTB_STRIDE),
            "seconds_per_ps": run.seconds_per_ps,
            "calls_per_ps": run.calls_per_ps,
            "acceptance": run.acceptance,
        }
    one, other = profiles.values()
    difference = other.energies - one.energies
    difference -= difference[np.nanargmin(one.energies)]
    errors = np.hypot(one.errors, other.errors)
    known = np.isfinite(difference) & (errors > 0)
    numbers["largest_difference"] = float(np.abs(difference[known]).max())
    numbers["rms_difference"] = float(np.sqrt((difference[known] ** 2).mean()))
    numbers["rms_error"] = float(np.sqrt((errors[known] ** 2).mean()))
    numbers["speed_up"] = runs["plain xTB"].seconds_per_ps / runs["metropolis"].seconds_per_ps
    lines.append(
        f"The profiles differ by {numbers['rms_difference']:.2f} kJ/mol (rms over bins; at most "
        f"{numbers['largest_difference']:.2f}), expected from their errors {numbers['rms_error']:.2f}. "
        f"Speed-up: {numbers['speed_up']:.1f}."
    )
    return "\n".join(lines), numbers


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("proton_transfer_results"), help="for all results")
    parser.add_argument("--short", action="store_true", help="show in seconds that everything works, no more")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args()
    effort, folder, progress = SHORT if options.short else FULL, options.output, not options.quiet
    folder.mkdir(parents=True, exist_ok=True)
    setup, bias = readSetup(HERE / "malonaldehyde.py"), readBias(HERE / "bias.toml")
    if options.short:
        bias = dataclasses.replace(bias, centres=(-0.09, -0.06, -0.03, 0.0, 0.03, 0.06, 0.09))

    begin = time.perf_counter()
    model, improvement = make_model(setup, bias, effort, folder, progress)
    print(improvement, flush=True)
    report = checkModel(
        setup.create(None),
        setup.positions,
        model,
        topology=setup.topology,
        bias=bias,
        folder=None if effort.quick else folder / "check",
        parts=("runs",) if effort.quick else ("runs", "gas"),
        starts=1 if effort.quick else 2,
        picoseconds=0.4 if effort.quick else 8.0,
        quick=effort.quick,
        progress=progress,
    )
    print(f"\n{report}\n", flush=True)
    structures = starts(Dataset(folder / "data.kstep"), len(bias.centres))
    runs = {
        "plain xTB": sample_windows(setup, bias, structures, effort, None),
        "metropolis": sample_windows(setup, bias, structures, effort, model),
    }
    edges = 5 if effort.quick else EDGES
    profiles = {
        name: umbrellaProfile(run.series, bias, edges, TEMPERATURE, 2 if effort.quick else 10)
        for name, run in runs.items()
    }
    text, numbers = compare(profiles, runs)
    print(text)
    numbers["minutes"] = (time.perf_counter() - begin) / 60
    (folder / "proton_transfer.json").write_text(json.dumps(numbers, indent=1))
    plot(folder / "proton_transfer.png", profiles, report)
    print(f"{numbers['minutes']:.1f} minutes; {folder / 'proton_transfer.png'} has the plot.")


if __name__ == "__main__":
    main()
