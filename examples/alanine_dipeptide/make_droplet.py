"""Build the alanine dipeptide droplet: ACE-ALA-NME in 165 rigid TIP3P waters.

The droplet is non-periodic and centred on the origin.  Two flat-bottom
restraints keep it together; they are defined here (``add_restraints``) so that
every script of the demo uses the same ones.
"""

import argparse
import io

import numpy as np
import openmm as mm
from openmm import app, unit

N_WATERS = 165
DROPLET_RADIUS = 1.15  # nm, flat bottom of every heavy atom
SOLUTE_RADIUS = 0.35  # nm, flat bottom of the solute's alpha carbon
RESTRAINT_K = 1000.0  # kJ/mol/nm^2
ALPHA_CARBON = 8  # index of ALA CA
PHI_ATOMS = (4, 6, 8, 14)
PSI_ATOMS = (6, 8, 14, 16)

SOLUTE_PDB = """\
ATOM      1  H1  ACE A   1       2.000   1.000  -0.000  1.00  0.00           H
ATOM      2  CH3 ACE A   1       2.000   2.090   0.000  1.00  0.00           C
ATOM      3  H2  ACE A   1       1.486   2.454   0.890  1.00  0.00           H
ATOM      4  H3  ACE A   1       1.486   2.454  -0.890  1.00  0.00           H
ATOM      5  C   ACE A   1       3.427   2.641  -0.000  1.00  0.00           C
ATOM      6  O   ACE A   1       4.391   1.877  -0.000  1.00  0.00           O
ATOM      7  N   ALA A   2       3.555   3.970  -0.000  1.00  0.00           N
ATOM      8  H   ALA A   2       2.733   4.556  -0.000  1.00  0.00           H
ATOM      9  CA  ALA A   2       4.853   4.614  -0.000  1.00  0.00           C
ATOM     10  HA  ALA A   2       5.408   4.316   0.890  1.00  0.00           H
ATOM     11  CB  ALA A   2       5.661   4.221  -1.232  1.00  0.00           C
ATOM     12  HB1 ALA A   2       5.123   4.521  -2.131  1.00  0.00           H
ATOM     13  HB2 ALA A   2       6.630   4.719  -1.206  1.00  0.00           H
ATOM     14  HB3 ALA A   2       5.809   3.141  -1.241  1.00  0.00           H
ATOM     15  C   ALA A   2       4.713   6.129   0.000  1.00  0.00           C
ATOM     16  O   ALA A   2       3.601   6.653   0.000  1.00  0.00           O
ATOM     17  N   NME A   3       5.846   6.835   0.000  1.00  0.00           N
ATOM     18  H   NME A   3       6.737   6.359  -0.000  1.00  0.00           H
ATOM     19  C   NME A   3       5.846   8.284   0.000  1.00  0.00           C
ATOM     20  H1  NME A   3       4.819   8.648   0.000  1.00  0.00           H
ATOM     21  H2  NME A   3       6.360   8.648   0.890  1.00  0.00           H
ATOM     22  H3  NME A   3       6.360   8.648  -0.890  1.00  0.00           H
END
"""


def force_field():
    """The force field of everything classical."""
    return app.ForceField("amber14-all.xml", "amber14/tip3p.xml")


def add_restraints(system, topology):
    """Add the flat-bottom restraints that keep the droplet at the origin and the solute inside it."""
    restraint = mm.CustomExternalForce("0.5*restraintK*max(0, sqrt(x*x+y*y+z*z)-radius)^2")
    restraint.addGlobalParameter("restraintK", RESTRAINT_K)
    restraint.addPerParticleParameter("radius")
    restraint.setName("Restraint")
    for atom in topology.atoms():
        if atom.element is not app.element.hydrogen:
            radius = SOLUTE_RADIUS if atom.index == ALPHA_CARBON else DROPLET_RADIUS
            restraint.addParticle(atom.index, [radius])
    system.addForce(restraint)


def nearest_waters(modeller):
    """Keep the N_WATERS waters nearest to the solute."""
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    solute = np.array([atom.index for atom in modeller.topology.atoms() if atom.residue.name != "HOH"])
    waters = [res for res in modeller.topology.residues() if res.name == "HOH"]
    oxygens = [next(res.atoms()).index for res in waters]
    separation = positions[oxygens][:, None] - positions[solute][None]
    distance = np.linalg.norm(separation, axis=2).min(axis=1)
    order = np.argsort(distance, kind="stable")
    modeller.delete([waters[i] for i in order[N_WATERS:]])


def build(seed):
    """Return the topology and positions (nm) of the solvated solute."""
    pdb = app.PDBFile(io.StringIO(SOLUTE_PDB))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addSolvent(force_field(), model="tip3p", boxSize=mm.Vec3(3.2, 3.2, 3.2) * unit.nanometer)
    nearest_waters(modeller)
    modeller.topology.setPeriodicBoxVectors(None)
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return modeller.topology, positions - positions[ALPHA_CARBON]


def main():
    """Build, minimise, equilibrate and write the droplet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="alanine_droplet.pdb")
    parser.add_argument("--picoseconds", type=float, default=100.0, help="length of the classical equilibration")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    topology, positions = build(args.seed)
    system = force_field().createSystem(
        topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, rigidWater=True, removeCMMotion=False
    )
    add_restraints(system, topology)
    integrator = mm.LangevinMiddleIntegrator(300.0, 2.0, 0.002)
    integrator.setRandomNumberSeed(args.seed)
    platform = mm.Platform.getPlatform("CPU")
    simulation = app.Simulation(topology, system, integrator, platform, {"Threads": "1"})
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(300.0, args.seed)
    blocks = 10
    for block in range(blocks):
        simulation.step(int(args.picoseconds / 0.002 / blocks))
        state = simulation.context.getState(energy=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        print(f"{(block + 1) * args.picoseconds / blocks:7.1f} ps  potential energy {energy:9.1f} kJ/mol", flush=True)
    state = simulation.context.getState(positions=True)
    with open(args.output, "w") as handle:
        app.PDBFile.writeFile(topology, state.getPositions(), handle, keepIds=True)
    print(f"{topology.getNumAtoms()} atoms written to {args.output}")


if __name__ == "__main__":
    main()
