"""Simulated time a day for 22 QM atoms in a box of water: metropolis, plain xTB at 0.5 fs and plain MM side by side."""

from __future__ import annotations

import json
import time

import openmm
from systems import new_context, parser, solvated, with_model
from tqdm import tqdm

from openmmkstep import KStepIntegrator

SECONDS_A_DAY = 86400.0


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=20, help="of each run")
    args = arguments.parse_args()
    topology, mm, positions = solvated(args.atoms)
    runs = {
        "MM, LangevinMiddle 2 fs": (mm, openmm.LangevinMiddleIntegrator(300, 1, 0.002), 0.002, 20),
        "plain xTB 0.5 fs": (
            with_model(topology, mm, positions, model=False),
            openmm.LangevinMiddleIntegrator(300, 1, 0.0005),
            0.0005,
            5,
        ),
    }
    qmmm = with_model(topology, mm, positions)
    for k in (16, 64):
        integrator = KStepIntegrator(0.002, k, "metropolis", 300, 1)
        runs[f"metropolis k={k}, 2 fs"] = (qmmm, integrator, k * 0.002, 1)
    result = {"atoms": mm.getNumParticles(), "ns_per_day": {}, "statistics": {}}
    for name, (system, integrator, interval, steps) in runs.items():
        context = new_context(system, integrator, positions, args)
        integrator.step(steps)
        context.getState(getPositions=True)
        begin, done = time.perf_counter(), 0
        with tqdm(total=args.seconds, desc=name, unit="s", bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s") as bar:
            while (elapsed := time.perf_counter() - begin) < args.seconds:
                integrator.step(steps)
                context.getState(getPositions=True)
                done += steps
                bar.update(min(args.seconds, time.perf_counter() - begin) - bar.n)
        elapsed = time.perf_counter() - begin
        result["ns_per_day"][name] = 1e-3 * done * interval / elapsed * SECONDS_A_DAY
        if isinstance(integrator, KStepIntegrator):
            statistics = integrator.getStatistics()
            result["statistics"][name] = {
                key: float(getattr(statistics[key], "_value", statistics[key]))
                for key in ("macroSteps", "accepted", "firstAccepted", "flips", "sdD")
            }
    print(f"{result['atoms']} atoms, {args.platform}, {args.precision}: ns/day")
    for name, value in result["ns_per_day"].items():
        print(f"  {name:28s}{value:10.3f}  {result['statistics'].get(name, '')}")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
