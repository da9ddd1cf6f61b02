"""What a call of each xTB engine costs: CPU milliseconds of energy and forces at 3, 9, 22 and 50 atoms, without charges.

One process, one thread, the engines in turn. Positions follow a trajectory of 0.5 fs steps at 300 K, as in dynamics with a
warm start; cold calls start without a wavefunction. CPU time, and
the least over the calls, so that other processes on the machine count little.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import XtbForce

DROPLET = Path(__file__).parent.parent / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb"
METHODS = ("GFN2-xTB", "GFN1-xTB")
STEP = 0.0005  # ps


def alkane(carbons: int) -> tuple[list[int], np.ndarray]:
    """An all-trans alkane along x: elements, and positions in nm."""
    numbers, x = [], []
    for i in range(carbons):
        side = 1 if i % 2 else -1
        numbers.append(6)
        x.append([0.1265 * i, 0.043 * side, 0.0])
        for z in (-1, 1):
            numbers.append(1)
            x.append([0.1265 * i, 0.107 * side, 0.0885 * z])
    for end, direction in ((0, -1), (carbons - 1, 1)):
        side = 1 if end % 2 else -1
        numbers.append(1)
        x.append([0.1265 * end + direction * 0.0945, (0.043 - 0.054) * side, 0.0])
    return numbers, np.array(x)


def molecules() -> dict[str, tuple[list[int], np.ndarray]]:
    """Name -> elements and positions in nm."""
    pdb = app.PDBFile(str(DROPLET))
    dipeptide = [a.element.atomic_number for a in pdb.topology.atoms()][:22]
    positions = pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    ethanol = [
        [-0.0887, 0.0175, -0.0017],
        [0.0460, -0.0516, 0.0002],
        [0.1442, 0.0471, 0.0013],
        [-0.0950, 0.0815, 0.0864],
    ]
    ethanol += [[-0.0950, 0.0800, -0.0909], [-0.1699, -0.0553, -0.0010], [0.0573, -0.1153, 0.0891]]
    ethanol += [[0.0573, -0.1150, -0.0890], [0.2310, 0.0060, 0.0010]]
    return {
        "water": ([8, 1, 1], np.array([[0.01, -0.02, 0.03], [0.09, 0.0356, 0.0111], [-0.0657, 0.0386, -0.0212]])),
        "ethanol": ([6, 6, 8, 1, 1, 1, 1, 1, 1], np.array(ethanol)),
        "alanine dipeptide": (dipeptide, positions[:22]),
        "hexadecane": alkane(16),
    }


def make_context(numbers: list[int], x: np.ndarray, method: str, engine: str) -> openmm.Context:
    system = openmm.System()
    for z in numbers:
        system.addParticle(app.Element.getByAtomicNumber(z).mass)
    force = XtbForce(method, range(len(numbers)), numbers)
    force.setEngine(engine)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(STEP), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    return context


def trajectory(numbers: list[int], x: np.ndarray, calls: int) -> list[np.ndarray]:
    context = make_context(numbers, x, "GFN2-xTB", "libxtb")
    context.setVelocitiesToTemperature(300, 1)
    frames = []
    for _ in range(calls):
        context.getIntegrator().step(1)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value.copy())
    return frames


def measure(context: openmm.Context, frames: list[np.ndarray], cold: bool) -> list[float]:
    times = []
    for x in frames:
        if cold:
            context.reinitialize()  # a new calculator, without a wavefunction
        context.setPositions(x)
        start = time.thread_time()
        context.getState(energy=True, forces=True)
        times.append(1e3 * (time.thread_time() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    numbers = {}
    for engine in ("libxtb", "tblite"):
        version, file = XtbForce.getEngineInfo(engine)
        print(f"{engine} {version}: {file}")
    for name, (elements, x) in molecules().items():
        frames = trajectory(elements, x, args.calls)
        contexts = {(m, e): make_context(elements, x, m, e) for m in METHODS for e in ("libxtb", "tblite")}
        for (method, engine), context in contexts.items():
            warm = measure(context, frames, False)[1:]
            cold = measure(context, frames, True)
            numbers[f"{name}, {len(elements)} atoms, {method}, {engine}"] = [min(warm), min(cold)]
            print(f"{name:18} {len(elements):3} {method} {engine}: warm {min(warm):8.3f} cold {min(cold):8.3f} ms")
    if args.output:
        args.output.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
