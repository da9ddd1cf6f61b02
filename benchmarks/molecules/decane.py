"""Set-up file for the command kstep: decane alone, by GFN2-xTB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from structures import gas_phase

from openmmkstep import KStepModelForce

topology, positions, _ = gas_phase("decane")


def create(model):
    """The System, with a model if there is a file of one."""
    _, _, system = gas_phase("decane")
    if model is not None:
        force = KStepModelForce(model, range(system.getNumParticles()))
        force.setForceGroup(2)
        system.addForce(force)
    return system
