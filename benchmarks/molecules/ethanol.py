"""Set-up file for the command kstep: ethanol in a drop of 125 TIP3P waters."""

import sys
from pathlib import Path

from openmm import app

sys.path.insert(0, str(Path(__file__).parent))
from structures import HERE, droplet

from openmmkstep import createQMMMSystem

_force_field = app.ForceField("amber14/tip3p.xml", str(HERE / "ethanol.xml"))
topology, positions, _mm = droplet("ethanol", {"ETH": 9}, _force_field, 125, 1.05)


def create(model):
    """The QM/MM System, with a model if there is a file of one."""
    return createQMMMSystem(topology, _mm, range(9), model=model, positions=positions)
