"""An enzyme's side chain by xTB in ASE, cut from the protein with a link hydrogen: T4 lysozyme, its catalytic Glu11.

The force field is OpenMM's (AMBER), as an ASE calculator; xTB and the model, GFN-FF, get the side chain and its link
hydrogen. Atoms far away stand still. With mechanical embedding the side chain feels the protein by the force field; with
``--embedding electrostatic`` xTB sees the protein's charges too, by createQMMMSystem(). Prints energy, temperature and the
length of the cut bond. The default is short.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import units
from ase.constraints import FixAtoms
from openmm import app
from qmmm_systems.files import load_amber
from qmmm_systems.systems import atoms_of, side_chain

from openmmkstep import createQMMMSystem
from openmmkstep.ase import KStep, LinkAtoms, OpenMMCalculator, XtbForceCalculator, create_atoms

GLU11 = 10  # index of the residue
FILES = "T4-lysozyme-L99A-implicit/receptor"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picoseconds", type=float, default=0.02)
    parser.add_argument("--embedding", choices=("mechanical", "electrostatic"), default="mechanical")
    parser.add_argument("--scheme", choices=("impulse", "metropolis"), default="impulse")
    parser.add_argument("--friction", type=float, help="1/ps; by default 0 for impulse, 1 for metropolis")
    parser.add_argument("--mobile", type=float, default=6.0, help="Angstrom around the QM region that move")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trajectory", help="an ASE trajectory file to write")
    args = parser.parse_args()

    prmtop, inpcrd = load_amber(f"{FILES}.prmtop", f"{FILES}-minimized.crd")
    topology = prmtop.topology
    mm_system = prmtop.createSystem(nonbondedMethod=app.NoCutoff)
    qm = atoms_of(topology, side_chain(topology, GLU11))
    system = createQMMMSystem(
        topology, mm_system, qm, charge=-1, embedding=args.embedding, charges="forcefield", positions=inpcrd.positions
    )
    (link,) = [
        (a, b) if a in qm else (b, a)
        for a, b in ((bond.atom1.index, bond.atom2.index) for bond in topology.bonds())
        if (a in qm) != (b in qm)
    ]

    atoms = create_atoms(topology, system, inpcrd.positions)
    distances = np.linalg.norm(atoms.positions[:, None] - atoms.positions[list(qm)], axis=2).min(axis=1)
    residues = [atom.residue.index for atom in topology.atoms()]
    mobile = {residues[i] for i in np.flatnonzero(distances < args.mobile)}
    atoms.set_constraint(FixAtoms([i for i, r in enumerate(residues) if r not in mobile]))
    # At the minimum half of the kinetic energy is about to become potential energy.
    width = np.sqrt(2 * units.kB * args.temperature * atoms.get_masses())
    atoms.set_momenta(width[:, None] * np.random.default_rng(args.seed).standard_normal((len(atoms), 3)))

    # Force group 1 of the System is xTB; all others are what corrector and model share.
    common = OpenMMCalculator(system, [0, *range(2, 32)], platform="CPU")
    if args.embedding == "electrostatic":
        corrector = OpenMMCalculator(system, [1])
    else:
        corrector = LinkAtoms(XtbForceCalculator(charge=-1), qm, [link])
    model = LinkAtoms(XtbForceCalculator(method="GFN-FF", charge=-1), qm, [link])
    dynamics = KStep(
        atoms,
        0.5 * units.fs,
        4,
        args.scheme,
        common=common,
        corrector=corrector,
        model=model,
        temperature_K=args.temperature,
        friction=None if args.friction is None else args.friction / (1000 * units.fs),
        rng=args.seed,
        trajectory=args.trajectory,
    )
    print(
        f"{len(qm)} QM atoms and a link hydrogen between {link}; {3 * len(atoms) - atoms.constraints[0].get_removed_dof(atoms)}"
        f" of {3 * len(atoms)} coordinates move"
    )

    def report() -> None:
        print(
            f"{dynamics.get_time() / units.fs:8.1f} fs   total {atoms.get_total_energy():12.4f} eV   "
            f"{atoms.get_temperature():6.1f} K   cut bond {atoms.get_distance(*link):.3f} Angstrom   D "
            f"{dynamics.get_D():10.4f} eV"
        )

    steps = max(1, round(1000 * args.picoseconds / (dynamics.dt / units.fs)))
    dynamics.attach(report, interval=max(1, steps // 10))
    dynamics.run(steps)
    calls = dynamics.statistics.corrector_calls
    print(f"{calls} xTB calls for {dynamics.get_time() / (1000 * units.fs):.3f} ps; {dynamics.statistics}")


if __name__ == "__main__":
    main()
