"""The droplet as a set-up file for the command kstep (`kstep model examples/alanine_dipeptide/system.py`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from alanine_dipeptide.droplet import Droplet

_droplet = Droplet(None)
topology, positions = _droplet.topology, _droplet.positions


def create(model):
    """The QM/MM System, with a model if there is a file of one."""
    return Droplet(model).create_system(with_model=model is not None, heavy_hydrogen=True)
