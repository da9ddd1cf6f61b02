"""Set-up file for the command kstep: Ace-Asp-NMe (24 atoms, charge -1) in a drop of 160 TIP3P waters."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from openmm import unit
from qmmm_systems import systems as _systems
from qmmm_systems.equilibration import equilibrate
from qmmm_systems.files import load_dhfr
from qmmm_systems.peptides import capped_peptide, droplet_restraint, force_field, make_droplet

from openmmkstep import createQMMMSystem

_modeller = capped_peptide(*load_dhfr(), 26, 26)
_solute = list(range(_modeller.topology.getNumAtoms()))
make_droplet(_modeller, 160)
topology = _modeller.topology
_centre = next(a.index for a in topology.atoms() if a.name == "CA")
_mm = force_field().createSystem(topology, hydrogenMass=3 * unit.dalton, **_systems.options(0, periodic=False))
_mm.addForce(droplet_restraint(topology, 1.15, _centre))
positions, _ = equilibrate("aspartate-droplet", topology, _mm, _modeller.positions, 20.0, True)


def create(model):
    """The QM/MM System, with a model if there is a file of one."""
    return createQMMMSystem(topology, _mm, _solute, charge=-1, model=model, positions=positions * unit.nanometer)
