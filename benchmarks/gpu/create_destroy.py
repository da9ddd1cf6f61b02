"""Contexts that are made, used and destroyed by the thousand: the process must not grow."""

from __future__ import annotations

import json
from pathlib import Path

import openmm
from systems import new_context, parser
from tqdm import tqdm

from openmmkstep import KStepIntegrator


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    arguments = parser(__doc__, atoms=8)
    arguments.add_argument("--cycles", type=int, default=10_000)
    args = arguments.parse_args()
    system = openmm.System()
    for i in range(args.atoms):
        system.addParticle(4.0)
        if i % 2:
            system.addConstraint(i - 1, i, 0.1)
    for group in (1, 2):
        force = openmm.CustomExternalForce(f"{100 - group}*(x^2+y^2+z^2)")
        for i in range(args.atoms):
            force.addParticle(i)
        force.setForceGroup(group)
        system.addForce(force)
    positions = [(0.3 * (i // 2), 0.1 * (i % 2), 0) for i in range(args.atoms)]
    memory = []
    for cycle in tqdm(range(args.cycles), unit="Context"):
        integrator = KStepIntegrator(0.002, 4, "metropolis", 300, 1)
        context = new_context(system, integrator, positions, args)
        integrator.step(2)
        del context, integrator
        if cycle % max(1, args.cycles // 20) == 0:
            memory.append(resident())
    memory.append(resident())
    growth = 1e3 * (memory[-1] - memory[len(memory) // 4]) / (0.75 * args.cycles)
    print(
        f"memory (MB): {', '.join(f'{m:.0f}' for m in memory)}; over the last three quarters {growth:.2f} kB a Context"
    )
    if args.output:
        args.output.write_text(json.dumps({"cycles": args.cycles, "megabytes": memory}, indent=1))


if __name__ == "__main__":
    main()
