"""The parts of a System that several modules beside this one look at."""

from __future__ import annotations

import openmm
from openmm import app

from .._units import CHARGE
from ..forces import XtbForce, cast

PERIODIC_METHODS = (openmm.NonbondedForce.PME, openmm.NonbondedForce.Ewald, openmm.NonbondedForce.LJPME)


def check_same_size(topology: app.Topology, system: openmm.System) -> None:
    """Raise ValueError if topology and System are not of the same number of particles."""
    if topology.getNumAtoms() != system.getNumParticles():
        raise ValueError(
            f"The topology has {topology.getNumAtoms()} atoms but the System has {system.getNumParticles()} particles; they must be of the same system."
        )


def find_corrector(system: openmm.System) -> XtbForce:
    """The XtbForce of a QM/MM System; ValueError if there is none."""
    xtb = next((f for f in map(cast, system.getForces()) if isinstance(f, XtbForce)), None)
    if xtb is None:
        raise ValueError("Expected a System with an XtbForce, as createQMMMSystem() makes, found none.")
    return xtb


def find_nonbonded(system: openmm.System) -> openmm.NonbondedForce:
    """The only NonbondedForce of a System; ValueError if its charges cannot be embedded consistently."""
    found = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    if len(found) != 1:
        raise ValueError(f"Expected one NonbondedForce in the System, found {len(found)}.")
    force = found[0]
    if force.getNonbondedMethod() not in (openmm.NonbondedForce.NoCutoff, *PERIODIC_METHODS):
        raise ValueError(
            "The NonbondedForce uses a cutoff for the Coulomb interaction, which would not agree with the embedding. Create "
            "the System with nonbondedMethod=PME, or NoCutoff if it is not periodic."
        )
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise ValueError(
            "The NonbondedForce has parameter offsets: charges that change with a parameter cannot be embedded."
        )
    return force


def particle_charges(nonbonded: openmm.NonbondedForce) -> list[float]:
    """The charge (e) of each particle."""
    return [nonbonded.getParticleParameters(i)[0].value_in_unit(CHARGE) for i in range(nonbonded.getNumParticles())]
