"""From xTB to a checked model, defaults only: what `kstep model` reaches, and in which time.

    python benchmarks/model_pipeline.py alanine --minutes 35 --trajectories 50

runs makeModel() for the demo's alanine dipeptide in water, or for one of the set-ups in benchmarks/molecules (ethanol in
water, the zwitterion of glycylglycine in water, loratadine and decane in the gas phase), which nothing was tuned on. On
top of the check come runs of 20 ps on the model alone, at 300 K and a fifth as many at 400 K, that look for holes in it.
Everything is kept in the folder (results/pipeline/NAME); calling again goes on. Prints a table of all molecules that are
there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from openmmkstep import readContract
from openmmkstep.pipeline import makeModel
from openmmkstep.qmmm import readSetup
from openmmkstep.validation import cutAtHoles, measureStability, prepareCheck, runOnModel

HERE = Path(__file__).resolve().parent
SETUPS = {"alanine": HERE.parent / "examples" / "alanine_dipeptide" / "system.py"} | {
    name: HERE / "molecules" / f"{name}.py" for name in ("ethanol", "diglycine", "loratadine", "decane")
}
PICOSECONDS = 20.0
K, STEP = 64, 0.002
RARELY = 0.1  # ps between xTB calls, and looks at distances, in the runs that only look for holes


def look_for_holes(setup, positions, model: Path, temperature: float, trajectories: int) -> dict:
    """Faults and excursions of runs on the model alone."""
    subject = prepareCheck(setup.create(None), positions, model, setup.topology).withHydrogenMass(3.0)
    with tqdm(total=100, unit="%", desc=f"{trajectories} runs at {temperature:g} K", mininterval=10) as bar:
        runs = runOnModel(
            subject,
            temperature,
            PICOSECONDS,
            trajectories,
            interval=RARELY,
            samplesPerForces=1000,
            equilibration=1.0,
            advance=lambda share: bar.update(100 * share),
        )
    report = measureStability(subject, cutAtHoles(runs, temperature))
    return {
        "temperature": temperature,
        "trajectories": trajectories,
        "faults": report.faults,
        "excursions": report.excursions,
        "worst": report.worst,
    }


def measure(name: str, args: argparse.Namespace) -> None:
    folder = args.folder / name
    setup = readSetup(SETUPS[name])
    begin = time.perf_counter()
    made = makeModel(setup, folder, minutes=args.minutes, seed=args.seed)
    positions = np.load(folder / "relaxed.npy")
    result = {
        "name": name,
        "atoms": len(readContract(made.path).species),
        "minutes": made.minutes,
        "seconds_of_this_call": time.perf_counter() - begin,
        "frames": sum(made.improvements[-1].training.frames.values()),
        "held_out": made.improvements[-1].training.errors,
        "microseconds_per_call": made.improvements[-1].training.microsecondsPerCall,
        "check": json.loads((folder / "check" / "check.json").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "stability": [
            look_for_holes(setup, positions, made.path, temperature, count)
            for temperature, count in ((300.0, args.trajectories), (400.0, args.trajectories // 5))
            if count
        ],
    }
    (folder / "benchmark.json").write_text(json.dumps(result, indent=1))
    print(made)


def report(folder: Path) -> str:
    """What the check found along the model's own runs, and the runs that look for holes."""
    lines = [
        "                     min in all  frames  us/call  sd(D)  accepted  force error: own runs, alone  runs of 20 ps on the model"
    ]
    for path in sorted(folder.glob("*/benchmark.json")):
        r = json.loads(path.read_text())
        sampling = r["check"]["sampling"] or {"sd": {"value": float("nan")}, "acceptance": []}
        first = [a["first"]["value"] for a in sampling["acceptance"] if a["k"] == K and a["baseStepSize"] == STEP]
        forces = [
            r["check"][part]["force"]["value"] if r["check"][part] else float("nan") for part in ("errors", "gas")
        ]
        holes = ", ".join(
            f"{s['temperature']:.0f} K: {s['trajectories'] - len(s['faults'])} of {s['trajectories']} reached the end, "
            f"{s['excursions']} excursions"
            for s in r["stability"]
        )
        lines.append(
            f"{r['name']:12s}{r['atoms']:4d} atoms {sum(r['minutes'].values()):8.1f}{r['frames']:8d}{r['microseconds_per_call']:9.0f}"
            f"{sampling['sd']['value']:7.2f}{first[0] if first else float('nan'):10.3f}{forces[0]:15.1f}{forces[1]:8.1f}"
            f"       {holes}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "molecules", nargs="*", metavar="MOLECULE", help=f"{', '.join(SETUPS)}; none: only print what is there"
    )
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--trajectories", type=int, default=50, help="runs of 20 ps at 300 K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=HERE / "results" / "pipeline")
    args = parser.parse_args()
    for name in args.molecules:
        measure(name, args)
    print(report(args.folder))


if __name__ == "__main__":
    main()
