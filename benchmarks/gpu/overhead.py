"""The integrator's own cost on a GPU platform: time per base step with a trivial corrector and model.

A PME box of water; LangevinMiddleIntegrator and KStepIntegrator take turns in one process, and the best of several
repeats counts. The goal is a ratio below 1.15.
"""

from __future__ import annotations

import copy
import json
import time

import openmm
from systems import new_context, parser, solvated
from tqdm import tqdm

from openmmkstep import KStepIntegrator

DT = 0.002


def integrators(k: int) -> dict[str, tuple[openmm.Integrator, int]]:
    """Name -> (integrator, base steps per step())."""
    return {
        "LangevinMiddle": (openmm.LangevinMiddleIntegrator(300, 1, DT), 1),
        "impulse k=4, friction 1/ps": (KStepIntegrator(DT, 4, temperature=300, friction=1), 4),
        f"metropolis k={k}": (KStepIntegrator(DT, k, "metropolis", temperature=300), k),
    }


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=2048, help="base steps of a repeat")
    arguments.add_argument("--k", type=int, default=64)
    args = arguments.parse_args()
    _, system, positions = solvated(args.atoms)
    trivial = copy.deepcopy(system)
    for group in (1, 2):
        force = openmm.CustomExternalForce("0*x")
        force.addParticle(0)
        force.setForceGroup(group)
        trivial.addForce(force)
    runs = {name: (new_context(trivial, i, positions, args), i, k) for name, (i, k) in integrators(args.k).items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for context, integrator, k in runs.values():
        integrator.step(max(1, 8 // k))
        context.getState(getPositions=True)
    for _ in tqdm(range(args.repeats), unit="repeat"):
        for name, (context, integrator, k) in runs.items():
            start = time.perf_counter()
            integrator.step(max(1, args.steps // k))
            context.getState(getPositions=True)
            times[name].append(1e6 * (time.perf_counter() - start) / (k * max(1, args.steps // k)))
    best = {name: min(t) for name, t in times.items()}
    print(f"{system.getNumParticles()} atoms, {args.platform}, {args.precision}: us per base step (ratio)")
    for name, value in best.items():
        print(f"  {name:28s}{value:12.1f}  {value / best['LangevinMiddle']:5.3f}")
    if args.output:
        args.output.write_text(json.dumps({"atoms": system.getNumParticles(), "us_per_step": times}, indent=1))


if __name__ == "__main__":
    main()
