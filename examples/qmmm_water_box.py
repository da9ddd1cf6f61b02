"""One QM water in a box of TIP3P water, all in ASE: EIQMMM, rigid waters, k-step dynamics or sampling.

GFN2-xTB sees the charges of all MM waters (electrostatic embedding). The model is GFN-FF, which needs no training: it knows
the molecule but not the charges, which is enough for macro-steps of 2 fs. Prints time, energy and temperature, and what
was saved. The default is short; a picosecond takes a few minutes, most of them in ASE's constraints.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import Atoms, units
from ase.calculators.qmmm import EIQMMM, LJInteractions
from ase.calculators.tip3p import TIP3P, angleHOH, epsilon0, rOH, sigma0
from ase.constraints import FixBondLengths
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from openmmkstep.ase import KStep, LinkAtoms, XtbForceCalculator, split_qmmm

SPACING = 3.106  # Angstrom between molecules, for the density of water
QM = [0, 1, 2]


def water_box(side: int, seed: int) -> Atoms:
    """side^3 molecules (O, H, H) on a lattice, turned at random; all but the first are rigid."""
    half = np.radians(angleHOH) / 2
    molecule = rOH * np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]])
    rng = np.random.default_rng(seed)
    positions = []
    for cell in np.ndindex(side, side, side):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        positions.append(molecule @ (q * np.sign(np.diag(r))) + SPACING * np.array(cell))
    atoms = Atoms("OH2" * side**3, positions=np.vstack(positions), cell=[side * SPACING] * 3, pbc=True)
    pairs = [(i + a, i + b) for i in range(3, len(atoms), 3) for a, b in ((0, 1), (0, 2), (1, 2))]
    lengths = [rOH, rOH, 2 * rOH * np.sin(half)]
    atoms.set_constraint(FixBondLengths(pairs, bondlengths=lengths * (side**3 - 1)))
    return atoms


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=3, help="molecules along each edge of the box")
    parser.add_argument("--picoseconds", type=float, default=0.02)
    parser.add_argument("--scheme", choices=("impulse", "metropolis"), default="impulse")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trajectory", help="an ASE trajectory file to write")
    args = parser.parse_args()

    atoms = water_box(args.side, args.seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=args.temperature, rng=np.random.default_rng(args.seed))
    mm = TIP3P(rc=0.5 * args.side * SPACING - 0.01)
    interaction = LJInteractions({("O", "O"): (epsilon0, sigma0)})
    # The waters are computed once an inner step, xTB in their field once a macro-step.
    common, corrector = split_qmmm(EIQMMM(QM, XtbForceCalculator(), mm, interaction))
    dynamics = KStep(
        atoms,
        0.5 * units.fs,
        4,
        args.scheme,
        common=common,
        corrector=corrector,
        model=LinkAtoms(XtbForceCalculator(method="GFN-FF"), QM),
        temperature_K=args.temperature,
        friction=0.005 / units.fs,
        rng=args.seed,
        trajectory=args.trajectory,
    )

    def report() -> None:
        oh = np.linalg.norm(atoms.positions[1:3] - atoms.positions[0], axis=1)
        print(
            f"{dynamics.get_time() / units.fs:8.1f} fs   {atoms.get_potential_energy():12.4f} eV   "
            f"{atoms.get_temperature():6.1f} K   O-H {oh[0]:.3f} {oh[1]:.3f} A   D {dynamics.get_D():9.4f} eV"
        )

    steps = max(1, round(1000 * args.picoseconds / (dynamics.dt / units.fs)))
    dynamics.attach(report, interval=max(1, steps // 10))
    dynamics.run(steps)
    statistics = dynamics.statistics
    print(f"{statistics.corrector_calls} xTB calls for {dynamics.get_time() / (1000 * units.fs):.3f} ps; {statistics}")


if __name__ == "__main__":
    main()
