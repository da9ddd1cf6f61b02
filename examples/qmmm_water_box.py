"""A QM water in a periodic box of flexible TIP3P water, in ASE: k-step dynamics or sampling.

GFN2-xTB sees the charges of the waters within the cutoff, switched off smoothly; the classical forces, with PME, are OpenMM's.
The model is GFN-FF, which needs no training: it knows the molecule but not the charges, which is enough for macro-steps of
2 fs. Prints energy and temperature, the QM water's bonds against those of the force field's waters, and what was saved. The
default is short.
"""

from __future__ import annotations

import argparse

import numpy as np
import openmm
from ase import Atoms, units
from openmm import app, unit

from openmmkstep import createQMMMSystem
from openmmkstep.ase import KStep, LinkAtoms, OpenMMCalculator, XtbForceCalculator, create_atoms

QM = [0, 1, 2]


def water_box(edge: float, cutoff: float, temperature: float, seed: int) -> tuple[Atoms, openmm.System]:
    """ASE Atoms of a box (nm) of water, after a picosecond by the force field, and its QM/MM System."""
    forcefield = app.ForceField("amber14/tip3p.xml")
    modeller = app.Modeller(app.Topology(), [] * unit.nanometer)
    modeller.addSolvent(forcefield, boxSize=openmm.Vec3(edge, edge, edge) * unit.nanometer)
    options = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.9 * unit.nanometer, "rigidWater": False}
    mm = forcefield.createSystem(modeller.topology, **options)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 5.0, 0.0005)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(mm, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=50)
    context.setVelocitiesToTemperature(temperature, seed)
    integrator.step(2000)
    state = context.getState(getPositions=True, getVelocities=True)
    system = createQMMMSystem(modeller.topology, mm, QM, positions=state.getPositions(), cutoff=cutoff * unit.nanometer)
    atoms = create_atoms(modeller.topology, system, state.getPositions())
    velocities = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
    atoms.set_velocities(velocities * units.nm / (1000 * units.fs))
    return atoms, system


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=float, default=2.0, help="nm, of the box")
    parser.add_argument("--cutoff", type=float, default=0.85, help="nm, of the embedding")
    parser.add_argument("--picoseconds", type=float, default=0.02)
    parser.add_argument("--scheme", choices=("impulse", "metropolis"), default="impulse")
    parser.add_argument("--friction", type=float, help="1/ps; by default 0 for impulse, 1 for metropolis")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trajectory", help="an ASE trajectory file to write")
    args = parser.parse_args()

    atoms, system = water_box(args.edge, args.cutoff, args.temperature, args.seed)
    dynamics = KStep(
        atoms,
        0.5 * units.fs,
        4,
        args.scheme,
        common=OpenMMCalculator(system, [0, *range(2, 32)], platform="CPU"),
        corrector=OpenMMCalculator(system, [1]),  # xTB in the field of the waters
        model=LinkAtoms(XtbForceCalculator(method="GFN-FF"), QM),
        temperature_K=args.temperature,
        friction=None if args.friction is None else args.friction / (1000 * units.fs),
        rng=args.seed,
        trajectory=args.trajectory,
    )
    print(f"{len(atoms) // 3} waters")
    bonds = []

    def report() -> None:
        x = atoms.positions.reshape(-1, 3, 3)
        bonds.append(np.linalg.norm(x[:, 1:] - x[:, :1], axis=2).mean(axis=1))
        print(
            f"{dynamics.get_time() / units.fs:8.1f} fs   potential {atoms.get_potential_energy():12.4f} eV   total "
            f"{atoms.get_total_energy():12.4f} eV   {atoms.get_temperature():6.1f} K   D {dynamics.get_D():10.4f} eV"
        )

    steps = max(1, round(1000 * args.picoseconds / (dynamics.dt / units.fs)))
    dynamics.attach(report, interval=max(1, steps // 10))
    dynamics.run(steps)
    lengths = np.array(bonds)
    print(f"O-H {lengths[:, 0].mean():.4f} Angstrom in the QM water, {lengths[:, 1:].mean():.4f} in the others")
    calls = dynamics.statistics.corrector_calls
    print(f"{calls} xTB calls for {dynamics.get_time() / (1000 * units.fs):.3f} ps; {dynamics.statistics}")


if __name__ == "__main__":
    main()
