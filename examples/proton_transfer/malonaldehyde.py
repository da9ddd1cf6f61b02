"""Set-up file for the command kstep: the enol of malonaldehyde (C3H4O2) in the gas phase, by GFN2-xTB.

Its proton goes back and forth between the two oxygens. Both O-H bonds are in the topology: the bonds of a region tell
what to describe more closely, and here that is either.
"""

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import KStepModelForce, XtbForce

HYDROGEN_MASS = 3.0  # u, for steps of 2 fs; averages over positions do not depend on masses

# Relaxed by GFN2-xTB; O1 holds the proton H4. In angstrom.
ATOMS = {
    "C1": (1.186, 0.418, 0.004),
    "C2": (0.038, 1.127, 0.110),
    "C3": (-1.226, 0.447, 0.085),
    "O1": (1.231, -0.883, -0.169),
    "O2": (-1.370, -0.755, -0.086),
    "H1": (2.161, 0.884, 0.047),
    "H2": (0.063, 2.199, 0.251),
    "H3": (-2.123, 1.074, 0.234),
    "H4": (0.295, -1.226, -0.209),
}
BONDS = "C1-C2 C2-C3 C1-O1 C3-O2 C1-H1 C2-H2 C3-H3 O1-H4 O2-H4"


def _topology() -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("MAL", topology.addChain())
    atoms = {name: topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ATOMS}
    for bond in BONDS.split():
        topology.addBond(*(atoms[name] for name in bond.split("-")))
    return topology


topology = _topology()
positions = 0.1 * np.array(list(ATOMS.values())) * unit.nanometer


def create(model):
    """The System, with a model if there is a file of one."""
    system = openmm.System()
    for atom in topology.atoms():
        is_hydrogen = atom.element is app.element.hydrogen
        system.addParticle(HYDROGEN_MASS if is_hydrogen else atom.element.mass)
    xtb = XtbForce("GFN2-xTB", range(len(ATOMS)), [a.element.atomic_number for a in topology.atoms()])
    xtb.setForceGroup(1)
    system.addForce(xtb)
    if model is not None:
        force = KStepModelForce(str(model), range(len(ATOMS)))
        force.setForceGroup(2)
        system.addForce(force)
    return system
