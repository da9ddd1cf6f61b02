"""Set-up file for the command kstep: the zwitterion of glycylglycine (17 atoms) in a drop of 150 TIP3P waters."""

import sys
from pathlib import Path

from openmm import app

sys.path.insert(0, str(Path(__file__).parent))
from structures import droplet

from openmmkstep import createQMMMSystem

RESIDUES = {"NGLY": 9, "CGLY": 8}
_force_field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
topology, positions, _mm = droplet("diglycine", RESIDUES, _force_field, 150, 1.15)


def create(model):
    """The QM/MM System, with a model if there is a file of one."""
    return createQMMMSystem(topology, _mm, range(17), model=model, positions=positions)
