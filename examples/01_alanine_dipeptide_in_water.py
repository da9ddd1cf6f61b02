"""Alanine dipeptide in water, QM/MM: plain xTB against the k-step schemes, side by side on one thread.

Runs the same droplet from the same start by plain xTB at 0.5 fs, plain xTB at 2 fs with heavy hydrogens, impulse,
mollified impulse, metropolis and reweight; prints what each costs and whether its answers agree, and writes a plot.
The scheme jump is shown for its energy, which a direct model does not conserve. Seven to ten minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from alanine_dipeptide.comparison import (
    TEMPERATURE,
    Costs,
    Result,
    Setting,
    equilibrate,
    measure_costs,
    run,
)
from alanine_dipeptide.droplet import Droplet

from openmmkstep import findMollification
from openmmkstep.analysis import ReweightingWeights, drift, mean_and_error

HYDRATION_RADIUS = 0.35  # nm; a water oxygen this near to a carbonyl oxygen counts as bound


def settings(picoseconds: float, mollification) -> list[Setting]:
    """The runs of the demo; metropolis and reweight are cheap enough for four times the length."""
    return [
        Setting("plain xTB 0.5 fs", "plain", 0.0005, 1, picoseconds),
        Setting("plain xTB 2 fs, H = 3 u", "plain", 0.002, 1, picoseconds / 2, heavy_hydrogen=True),
        Setting("impulse k = 4, 0.5 fs", "impulse", 0.0005, 4, picoseconds),
        Setting("mollified k = 8, 0.5 fs", "impulse", 0.0005, 8, picoseconds / 2, mollification=mollification),
        Setting("metropolis k = 64, 2 fs, H = 3 u", "metropolis", 0.002, 64, 4 * picoseconds, heavy_hydrogen=True),
        Setting("reweight k = 64, 2 fs, H = 3 u", "reweight", 0.002, 64, 4 * picoseconds, heavy_hydrogen=True),
        Setting("jump k = 8, 0.5 fs", "jump", 0.0005, 8, picoseconds / 5),
    ]


def waters(result: Result) -> np.ndarray:
    """Water molecules bound to the two carbonyl oxygens, for each sample."""
    return np.array([(d < HYDRATION_RADIUS).sum() for d in result.oxygen_distances])


def weights(result: Result) -> ReweightingWeights | None:
    """The weights of a run on the model; None for schemes that sample the true Hamiltonian by themselves."""
    return ReweightingWeights(result.differences, TEMPERATURE) if result.differences else None


def average(result: Result, values) -> tuple[float, float]:
    """Mean and standard error over the true Hamiltonian."""
    found = weights(result)
    # How far the weights are to be trusted is printed beside.
    return mean_and_error(values) if found is None else found.mean(np.asarray(values), allowUnconverged=True)


def pm(value_and_error: tuple[float, float], digits: int, scale: float = 1.0) -> str:
    value, error = value_and_error
    return f"{scale * value:.{digits}f} +- {scale * error:.{digits}f}"


def report(results: list[Result], costs: Costs) -> str:
    plain, heavy = results[0], results[1]
    lines = [
        f"One evaluation or step, ms: xTB {1e3 * costs.xtb:.2f}, model {1e3 * costs.model:.3f}, MM {1e3 * costs.mm:.3f}",
        "",
        f"{'':34s}{'s/ps':>8s}{'xTB/ps':>9s}{'speed-up':>10s}{'over 2 fs':>11s}{'ceiling':>9s}{'share':>7s}",
    ]
    jump = next(r for r in results if r.setting.scheme == "jump")
    compared = [r for r in results if r is not jump]
    for r in compared:
        speedup = plain.seconds_per_ps / r.seconds_per_ps
        ceiling = costs.ceiling(r.setting, plain.setting)
        lines.append(
            f"{r.setting.name:34s}{r.seconds_per_ps:8.2f}{r.calls_per_ps:9.1f}{speedup:9.1f}x"
            f"{heavy.seconds_per_ps / r.seconds_per_ps:10.1f}x{ceiling:8.1f}x{100 * speedup / ceiling:6.0f}%"
        )
    lines += ["", f"{'':34s}{'T QM, K':>16s}{'T MM, K':>16s}{'C=O, pm':>18s}{'bound waters':>16s}"]
    for r in compared:
        lines.append(
            f"{r.setting.name:34s}{pm(mean_and_error(r.qm_temperatures), 1):>16s}{pm(mean_and_error(r.mm_temperatures), 1):>16s}"
            f"{pm(average(r, r.carbonyl_lengths), 3, 1e3):>18s}{pm(average(r, waters(r)), 2):>16s}"
        )
    lines.append("")
    reference = drift(plain.times, plain.energies)
    for r in (r for r in compared if r.setting.is_nve):
        slope, error = drift(r.times, r.energies)
        difference = abs(slope - reference[0]) / max(1e-12, np.hypot(error, reference[1]))
        against = "" if r is plain else f"; {difference:.1f} standard errors from plain 0.5 fs"
        lines.append(
            f"{r.setting.name:34s}energy drift {slope:8.4f} +- {error:.4f} kJ/mol/ps over {r.picoseconds:.0f} ps{against}"
        )
    chain = next(r for r in results if r.setting.scheme == "metropolis")
    s = chain.statistics
    lines.append(
        f"{chain.setting.name:34s}accepted at the first test {s['firstAccepted'] / s['macroSteps']:.3f}, at any "
        f"{s['accepted'] / s['macroSteps']:.4f}; {s['flips'] / chain.picoseconds:.3f} flips/ps; sd(D) {s['sdD']._value:.3f} kJ/mol"
    )
    run = next(r for r in results if r.differences)
    found = weights(run)
    lines.append(
        f"{run.setting.name:34s}effective sample size {found.effectiveSampleSize():.0f} of {len(run.times)} frames, Pareto "
        f"k-hat {found.paretoK():.2f}: {'converged' if found.isConverged() else 'NOT converged'}; "
        f"sd(D) {run.statistics['sdD']._value:.3f} kJ/mol"
    )
    ending = f", then failed: {jump.failure.split('.')[0]}" if jump.failure else ""
    lines.append(
        f"{jump.setting.name:34s}energy strays by up to {np.abs(np.array(jump.energies) - jump.energies[0]).max():.0f} kJ/mol "
        f"within {jump.picoseconds:.2f} ps without a thermostat{ending}"
    )
    return "\n".join(lines)


def plot(results: list[Result], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ((energy, speed), (temperature, rdf)) = plt.subplots(2, 2, figsize=(11, 8))
    plain = results[0]
    jump = next(r for r in results if r.setting.scheme == "jump")
    compared = [r for r in results if r is not jump]
    for r in (r for r in compared if r.setting.is_nve):
        energy.plot(r.times, np.array(r.energies) - r.energies[0], label=r.setting.name, linewidth=1)
    energy.plot(jump.times, np.array(jump.energies) - jump.energies[0], "k:", label=jump.setting.name, linewidth=1)
    energy.set_yscale("symlog", linthresh=2.0)
    energy.set(xlabel="time, ps", ylabel="total energy - start, kJ/mol", title="Energy conservation (symlog)")
    energy.legend(fontsize=8)
    speedups = [plain.seconds_per_ps / r.seconds_per_ps for r in compared]
    bars = speed.barh([r.setting.name for r in compared], speedups, color=[f"C{i}" for i in range(len(compared))])
    speed.bar_label(bars, [f"{s:.1f}x" for s in speedups], padding=3)
    speed.set(
        xscale="log",
        xlim=(0.8, 3 * max(speedups)),
        xlabel="speed-up over plain xTB at 0.5 fs",
        title="Speed, one thread",
    )
    speed.invert_yaxis()
    for offset, values, label in ((-0.1, "qm_temperatures", "QM"), (0.1, "mm_temperatures", "MM")):
        means, errors = zip(*[mean_and_error(getattr(r, values)) for r in compared], strict=True)
        temperature.errorbar(np.arange(len(compared)) + offset, means, yerr=errors, fmt="o", capsize=4, label=label)
    temperature.axhline(TEMPERATURE, color="gray", linewidth=0.8)
    temperature.set(ylabel="temperature, K", title="Temperature by region (NVE runs keep the energy of the start)")
    temperature.set_xticks(
        range(len(compared)),
        [r.setting.name.replace(", ", ",\n").replace(" k", "\nk").replace(" xTB", "\nxTB") for r in compared],
        fontsize=8,
    )
    temperature.legend()
    edges = np.arange(0.2, 0.62, 0.01)
    centres = 0.5 * (edges[1:] + edges[:-1])
    for r in compared:
        found = weights(r)
        frame_weights = np.full(len(r.times), 1 / len(r.times)) if found is None else found.weights
        counts = sum(w * np.histogram(d, edges)[0] for w, d in zip(frame_weights, r.oxygen_distances, strict=True))
        shells = 4 * np.pi * centres**2 * 0.01 * 2
        rdf.plot(centres, counts / shells / 33.4, label=r.setting.name)
    rdf.set(xlabel="C=O ... O(water), nm", ylabel="g(r)", title="Water around the carbonyl oxygens")
    rdf.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def save_numbers(results: list[Result], costs: Costs, path: Path) -> None:
    numbers = {"costs_ms": {"xtb": 1e3 * costs.xtb, "model": 1e3 * costs.model, "mm": 1e3 * costs.mm}}
    for r in results:
        numbers[r.setting.name] = {
            "seconds_per_ps": r.seconds_per_ps,
            "xtb_calls_per_ps": r.calls_per_ps,
            "speedup": results[0].seconds_per_ps / r.seconds_per_ps,
            "ceiling": costs.ceiling(r.setting, results[0].setting),
            "qm_temperature": mean_and_error(r.qm_temperatures),
            "mm_temperature": mean_and_error(r.mm_temperatures),
            "carbonyl_length_nm": average(r, r.carbonyl_lengths),
            "bound_waters": average(r, waters(r)),
            "drift": drift(r.times, r.energies) if r.setting.is_nve and len(r.times) >= 8 else None,
            "statistics": {k: getattr(v, "_value", v) for k, v in r.statistics.items()},
        }
    path.write_text(json.dumps(numbers, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picoseconds", type=float, default=10.0, help="length of the dynamics runs (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the plot and the numbers")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    droplet = Droplet()
    start = equilibrate(droplet, args.picoseconds / 2, args.seed, not args.quiet)
    costs = measure_costs(droplet, start)
    # Deep: all bonds and the bends of hydrogens are reset. At 4 fs resetting the bonds to hydrogen would do; this drifts
    # several times less for the same cost.
    mollification = findMollification(droplet.topology, droplet.create_system(with_model=True), start, deep=True)
    results = [run(droplet, s, start, args.seed, not args.quiet) for s in settings(args.picoseconds, mollification)]
    print(report(results, costs))
    plot(results, args.output / "alanine_dipeptide.png")
    save_numbers(results, costs, args.output / "alanine_dipeptide.json")
    print(f"\nPlot and numbers: {args.output}/alanine_dipeptide.png, .json")


if __name__ == "__main__":
    main()
