"""The integrator's own cost: time per base step with trivial forces, as a ratio to LangevinMiddleIntegrator.

517 particles (the demo's droplet, with and without rigid water), CPU platform, one thread, all in one process. The
best of several repeats is taken for each integrator in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import openmm

from openmmkstep import KStepIntegrator

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from alanine_dipeptide.droplet import Droplet

DT = 0.001  # ps
BASE_STEPS = 2048


def trivial_system(rigid: bool) -> tuple[openmm.System, object]:
    """The droplet's particles and constraints, with a zero force in each of the groups 1 and 2."""
    droplet = Droplet()
    original = droplet.create_system(with_model=False)
    system = openmm.System()
    for i in range(original.getNumParticles()):
        system.addParticle(original.getParticleMass(i))
    for i in range(original.getNumConstraints() if rigid else 0):
        system.addConstraint(*original.getConstraintParameters(i))
    for group in (1, 2):
        force = openmm.CustomExternalForce("0*x")
        force.addParticle(0)
        force.setForceGroup(group)
        system.addForce(force)
    return system, droplet.positions


def integrators() -> dict[str, tuple[openmm.Integrator, int]]:
    """Name -> (integrator, base steps per step())."""
    return {
        "LangevinMiddle": (openmm.LangevinMiddleIntegrator(300, 1, DT), 1),
        "Verlet": (openmm.VerletIntegrator(DT), 1),
        "impulse k=4, NVE": (KStepIntegrator(DT, 4), 4),
        "impulse k=4, friction 1/ps": (KStepIntegrator(DT, 4, temperature=300, friction=1), 4),
        "metropolis k=64": (KStepIntegrator(DT, 64, "metropolis", temperature=300), 64),
    }


def measure(rigid: bool, repeats: int) -> dict[str, float]:
    """Microseconds per base step."""
    system, positions = trivial_system(rigid)
    platform = openmm.Platform.getPlatformByName("CPU")
    best: dict[str, float] = {}
    contexts = {}
    for name, (integrator, k) in integrators().items():
        context = openmm.Context(system, integrator, platform, {"Threads": "1"})
        context.setPositions(positions)
        context.setVelocitiesToTemperature(300, 1)
        contexts[name] = (context, integrator, k)
    for _ in range(repeats):
        for name, (_, integrator, k) in contexts.items():
            start = time.perf_counter()
            integrator.step(BASE_STEPS // k)
            elapsed = 1e6 * (time.perf_counter() - start) / BASE_STEPS
            best[name] = min(elapsed, best.get(name, elapsed))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    numbers = {}
    for rigid in (True, False):
        title = "rigid water" if rigid else "no constraints"
        numbers[title] = measure(rigid, args.repeats)
        print(f"{title}: us per base step (ratio to LangevinMiddleIntegrator)")
        for name, value in numbers[title].items():
            print(f"  {name:28s}{value:8.1f}  {value / numbers[title]['LangevinMiddle']:5.2f}")
    if args.output:
        args.output.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
