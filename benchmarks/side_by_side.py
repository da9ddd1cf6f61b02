"""The demo from several starts: drift, speed and averages with errors that include the spread between starts.

Every start is an independent equilibration of the droplet. All runs of a start are done one after the other in one
process on one thread, so that speed-ups are ratios of neighbouring timings.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
from alanine_dipeptide.comparison import Result, equilibrate, measure_costs, run
from alanine_dipeptide.droplet import Droplet

from openmmkstep import findMollification
from openmmkstep.analysis import drift

DEMO = runpy.run_path(str(EXAMPLES / "01_alanine_dipeptide_in_water.py"))


def numbers_of(result: Result, plain: Result, costs) -> dict[str, float]:
    """What is averaged over the starts."""
    statistics = result.statistics
    numbers = {
        "speed-up": plain.seconds_per_ps / result.seconds_per_ps,
        "share of the ceiling": plain.seconds_per_ps
        / result.seconds_per_ps
        / costs.ceiling(result.setting, plain.setting),
        "xTB calls/ps": result.calls_per_ps,
        "T QM": np.mean(result.qm_temperatures),
        "T MM": np.mean(result.mm_temperatures),
        "C=O, pm": 1e3 * np.mean(result.carbonyl_lengths),
        "bound waters": DEMO["waters"](result).mean(),
    }
    if result.setting.scheme == "metropolis":
        numbers["first acceptance"] = statistics["firstAccepted"] / statistics["macroSteps"]
        numbers["flips/ps"] = statistics["flips"] / result.picoseconds
        numbers["sd(D)"] = statistics["sdD"]._value
    else:
        numbers["drift"] = drift(result.times, result.energies)[0]
    return {name: float(value) for name, value in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--picoseconds", type=float, default=10.0, help="length of each dynamics run (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/side_by_side.json"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    droplet = Droplet()
    collected: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.seed, args.seed + args.starts):
        start = equilibrate(droplet, 20.0, seed)
        costs = measure_costs(droplet, start)
        bonds = findMollification(droplet.topology, droplet.create_system(with_model=True), start, deep=True)
        plain = None
        for setting in DEMO["settings"](args.picoseconds, bonds):
            result = run(droplet, setting, start, seed)
            plain = plain or result
            for name, value in numbers_of(result, plain, costs).items():
                collected.setdefault(setting.name, {}).setdefault(name, []).append(value)
        args.output.write_text(json.dumps(collected, indent=2))
    for setting, values in collected.items():
        print(setting)
        for name, v in values.items():
            error = np.std(v, ddof=1) / np.sqrt(len(v)) if len(v) > 1 else float("nan")
            print(f"  {name:24s}{np.mean(v):10.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
