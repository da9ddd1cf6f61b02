"""Contexts that are made, used and destroyed by the thousand: the process must not grow, or no more than with plain OpenMM.

A water molecule by GFN2-xTB among fixed charges with KStepIntegrator, and the same particles with OpenMM's own forces and
LangevinMiddleIntegrator, each in a process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import openmm
from systems import new_context, parser
from tqdm import tqdm

from openmmkstep import KStepIntegrator, XtbForce

WATER = np.array([[0.0, 0, 0], [0.0757, 0.0586, 0], [-0.0757, 0.0586, 0]])
PARTS = 20


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def make_system(atoms: int, qm: bool) -> tuple[openmm.System, np.ndarray]:
    """A water molecule and particles around it, with positions in nm."""
    system = openmm.System()
    charges = range(3, atoms)
    places = np.random.default_rng(1).normal(size=(len(charges), 3))
    positions = np.vstack([WATER, places / np.linalg.norm(places, axis=1)[:, None] * 0.8])
    for mass in [16.0, 3.0, 3.0] + [20.0] * len(charges):
        system.addParticle(mass)
    tethers = openmm.CustomExternalForce("500*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("x0", "y0", "z0"):
        tethers.addPerParticleParameter(name)
    for i in charges:
        tethers.addParticle(i, positions[i])
    bonds = openmm.CustomBondForce("200000*(r-r0)^2")
    bonds.addPerBondParameter("r0")
    for i, j in ((0, 1), (0, 2), (1, 2)):
        bonds.addBond(i, j, [np.linalg.norm(WATER[i] - WATER[j])])
    bonds.setForceGroup(2)
    system.addForce(tethers)
    system.addForce(bonds)
    if qm:
        xtb = XtbForce("GFN2-xTB", range(3), [8, 1, 1])
        xtb.setForceGroup(1)
        for i in charges:
            xtb.addEmbeddingCharge(i, 0.1 * (-1) ** i)
        system.addForce(xtb)
    return system, positions


def run(args, ours: bool) -> dict[str, list[float]]:
    """Memory (MB) after each part of the cycles, and Contexts a second in each."""
    system, positions = make_system(args.atoms, ours)
    memory, rate = [], []
    name = "openmmkstep" if ours else "plain OpenMM"
    with tqdm(total=args.cycles, unit="Context", desc=name, mininterval=5) as bar:
        for _ in range(PARTS):
            begin = time.perf_counter()
            for _ in range(args.cycles // PARTS):
                if ours:
                    integrator = KStepIntegrator(0.001, 4, "metropolis", 300, 1)
                else:
                    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
                context = new_context(system, integrator, positions, args)
                integrator.step(1 if ours else 4)
                del context, integrator
                bar.update()
            memory.append(resident())
            rate.append(args.cycles // PARTS / (time.perf_counter() - begin))
    return {"megabytes": memory, "per_second": rate}


def main() -> None:
    arguments = parser(__doc__, atoms=20)
    arguments.add_argument("--cycles", type=int, default=10_000)
    args = arguments.parse_args()
    result: dict = {"cycles": args.cycles}
    for ours in (False, True):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(run, args, ours).result()
        memory, quarter = found["megabytes"], PARTS // 4
        found["kilobytes_a_context"] = (
            1e3 * (memory[-1] - memory[quarter]) / (args.cycles * (1 - (quarter + 1) / PARTS))
        )
        result["openmmkstep" if ours else "openmm"] = found
        print(
            f"{'openmmkstep' if ours else 'plain OpenMM'}: {', '.join(f'{m:.0f}' for m in memory)} MB, in the last three "
            f"quarters {found['kilobytes_a_context']:.2f} kB a Context; {found['per_second'][0]:.1f} Contexts a second at "
            f"first, {found['per_second'][-1]:.1f} at the end"
        )
    if args.output:
        args.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
