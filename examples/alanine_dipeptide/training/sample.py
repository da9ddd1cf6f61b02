"""Sample the droplet by xTB or by a model, and label frames with xTB.

Every run starts from the classical force field pulled to given Ramachandran angles, switches to the QM/MM Hamiltonian
and records frames at a fixed stride. With --model the trajectory follows the model and only the recorded frames cost
an xTB call (active learning); when the model fails, the frames that led there are labelled.
"""

from __future__ import annotations

import argparse
import collections
import time

import numpy as np
import openmm
from openmm import app, unit

from ..droplet import NUM_QM, PLATFORM, PLATFORM_PROPERTIES, Droplet
from ..make_droplet import PHI_ATOMS, PSI_ATOMS, add_restraints, force_field
from .labels import Labeller

TIMESTEP = 0.002  # ps, with hydrogen mass 3 u
FRICTION = 2.0  # 1/ps
TRAIL = 100  # frames kept to look into a failure of the model
FAILURE = 40.0  # kJ/mol; a D so far from its median counts as a failure
HIGHEST = 600.0  # kJ/mol above the median energy: frames beyond are of no use


def add_torsion_bias(system: openmm.System) -> None:
    """Add a bias on phi and psi, off until its strength is set."""
    for name, atoms in (("phi0", PHI_ATOMS), ("psi0", PSI_ATOMS)):
        bias = openmm.CustomTorsionForce(f"bias*(1-cos(theta-{name}))")
        bias.addGlobalParameter("bias", 0.0)
        bias.addGlobalParameter(name, 0.0)
        bias.addTorsion(*atoms, [])
        system.addForce(bias)


def set_bias(context: openmm.Context, strength: float, angles) -> None:
    """Set the bias strength (kJ/mol) and centre (degrees)."""
    context.setParameter("bias", strength)
    context.setParameter("phi0", np.radians(angles[0]))
    context.setParameter("psi0", np.radians(angles[1]))


def make_context(system, positions, temperature: float, seed: int, groups=0xFFFFFFFF) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(temperature, FRICTION, TIMESTEP)
    integrator.setRandomNumberSeed(seed)
    integrator.setIntegrationForceGroups(groups)
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    context = openmm.Context(system, integrator, platform, PLATFORM_PROPERTIES)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(temperature, seed)
    return context


def get_positions(context: openmm.Context) -> np.ndarray:
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def get_energy(context: openmm.Context, groups: set[int]) -> float:
    state = context.getState(energy=True, groups=groups)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def classical_start(droplet: Droplet, angles, temperature: float, picoseconds: float, seed: int) -> np.ndarray:
    """Pull the classical droplet to Ramachandran angles; return positions."""
    system = force_field().createSystem(
        droplet.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, rigidWater=True, removeCMMotion=False
    )
    add_restraints(system, droplet.topology)
    add_torsion_bias(system)
    context = make_context(system, droplet.positions, temperature, seed)
    for fraction in np.linspace(0.1, 1.0, 10):
        set_bias(context, 400.0 * fraction, angles)
        context.getIntegrator().step(int(picoseconds / TIMESTEP / 10))
    return get_positions(context)


class Recorder:
    """Labels frames and writes them to an npz file."""

    def __init__(self, q_mm: np.ndarray, temperature: float, trajectory: int):
        self.labeller = Labeller(q_mm)
        self.temperature, self.trajectory = temperature, trajectory
        self.rows: list[dict] = []

    def add(self, positions: np.ndarray, difference: float = np.nan) -> None:
        """Label one frame; ``difference`` is D = E_xTB - E_model, if there is a model."""
        row = self.labeller.label(positions[:NUM_QM], positions[NUM_QM:])
        row.update(
            difference=difference,
            x_mm=positions[NUM_QM:].astype(np.float32),
            temperature=self.temperature,
            trajectory=self.trajectory,
        )
        self.rows.append(row)

    def add_failure(self, trail) -> None:
        """Label frames that led into a failure, until they become absurd."""
        limit = np.median([row["energy"] for row in self.rows]) + HIGHEST if self.rows else np.inf
        for positions in list(trail)[::5]:
            if not np.isfinite(positions).all():
                break
            try:
                self.add(positions)
            except openmm.OpenMMException:  # the SCF does not converge there
                break
            if self.rows[-1]["energy"] > limit:
                break

    def has_failed(self) -> bool:
        """Whether D of the last frame is far from its median."""
        differences = [row["difference"] for row in self.rows]
        return abs(differences[-1] - np.median(differences)) > FAILURE

    def write(self, path: str) -> None:
        np.savez(path, **{name: np.array([row[name] for row in self.rows]) for name in self.rows[0]})


def run(args) -> None:
    droplet = Droplet(args.model)
    positions = classical_start(droplet, args.start, args.temperature, args.pull, args.seed)
    system = droplet.create_system(with_model=args.model is not None, heavy_hydrogen=True)
    add_torsion_bias(system)
    # Corrector or model, never both.
    groups = {0, 1} if args.model is None else {0, 2}
    context = make_context(system, positions, args.temperature, args.seed + 1, groups)
    integrator = context.getIntegrator()
    set_bias(context, 100.0, args.start)
    integrator.step(int(args.discard / TIMESTEP))
    strength = 0.0 if args.sweep is None else args.bias
    target = np.array(args.start if args.sweep is None else args.sweep)
    recorder = Recorder(droplet.mm_charges(), args.temperature, args.trajectory)
    trail: collections.deque = collections.deque(maxlen=TRAIL)
    frames = int(args.picoseconds / TIMESTEP / args.stride)
    begin = time.time()
    for frame in range(frames):
        set_bias(context, strength, (1 - frame / frames) * np.array(args.start) + frame / frames * target)
        try:
            for _ in range(args.stride):
                integrator.step(1)
                if args.model is not None:
                    trail.append(get_positions(context))
        except openmm.OpenMMException:
            if args.model is None:
                raise
            print(f"{args.output}: the model failed in frame {frame}")
            recorder.add_failure(trail)
            break
        if args.model is None:
            recorder.add(get_positions(context))
        else:
            # The subtractive term is the same in both groups and cancels.
            recorder.add(get_positions(context), get_energy(context, {1}) - get_energy(context, {2}))
            if recorder.has_failed():
                print(f"{args.output}: D {recorder.rows[-1]['difference']:.0f} kJ/mol in frame {frame}")
                recorder.add_failure(trail)
                break
        if (frame + 1) % 200 == 0:
            recorder.write(args.output)
            print(f"{args.output}: frame {frame + 1} of {frames}, {time.time() - begin:.0f} s", flush=True)
    recorder.write(args.output)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="npz file")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--pull", type=float, default=10.0, help="classical pulling, ps")
    parser.add_argument("--discard", type=float, default=1.0, help="equilibration on the QM/MM forces, ps")
    parser.add_argument("--stride", type=int, default=10, help="steps of 2 fs between frames")
    parser.add_argument("--start", type=float, nargs=2, default=(-75.0, 145.0), metavar=("PHI", "PSI"), help="degrees")
    parser.add_argument("--sweep", type=float, nargs=2, metavar=("PHI", "PSI"), help="drag phi and psi here in the run")
    parser.add_argument("--bias", type=float, default=60.0, help="strength of the sweep, kJ/mol")
    parser.add_argument("--model", help="model file that drives the trajectory")
    parser.add_argument("--trajectory", type=int, default=0, help="number of the trajectory, for splitting the data")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    run(parser().parse_args())
