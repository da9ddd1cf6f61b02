"""Changes to the copy of a System that this package's own runs, samplings and checks, move in; and its free force groups."""

from __future__ import annotations

import openmm
from openmm import unit

_LIGHT = 4.0
"""Particles of the surroundings below this mass (u) are hydrogens."""
_COUPLED = ("Barostat", "AndersenThermostat")


def unused_groups(system: openmm.System, used: set[int]) -> list[int]:
    """The force groups that no force is in."""
    used = used | {f.getForceGroup() for f in system.getForces()}
    return [g for g in range(32) if g not in used]


def remove_couplings(system: openmm.System) -> None:
    """Remove barostats and thermostats: a run has its own, and its box stays as it is."""
    for i in reversed(range(system.getNumForces())):
        if any(word in type(system.getForce(i)).__name__ for word in _COUPLED):
            system.removeForce(i)


def make_hydrogens_heavy(system: openmm.System, region, mass: float) -> None:
    """Move mass to flexible hydrogens from the heavy atoms they are bonded to.

    Flexible are the hydrogens of the region, and those of the surroundings that are in a HarmonicBondForce; those of a
    constraint are left alone, and so is a heavy atom that would become lighter than its hydrogens.

    Parameters
    ----------
    system : System
        is changed
    region : Region
    mass : float
        what hydrogens have at least after it (u)
    """
    constrained = {p for i in range(system.getNumConstraints()) for p in system.getConstraintParameters(i)[:2]}
    for light, heavy in _bonds_of_hydrogens(system, region):
        before, other = (system.getParticleMass(p).value_in_unit(unit.dalton) for p in (light, heavy))
        moved = mass - before
        if moved > 0 and other - moved > mass and light not in constrained:
            system.setParticleMass(light, mass)
            system.setParticleMass(heavy, other - moved)


def _bonds_of_hydrogens(system: openmm.System, region) -> list[tuple[int, int]]:
    """(hydrogen, heavy atom), each hydrogen once."""
    particles, species = region.particles, region.species
    pairs = {}
    for a, b in region.bonds:
        if b < len(particles) and (species[a] == 1) != (species[b] == 1):
            light, heavy = (a, b) if species[a] == 1 else (b, a)
            pairs.setdefault(particles[light], particles[heavy])
    inside = set(particles)
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for i in range(force.getNumBonds()):
                ends = sorted(force.getBondParameters(i)[:2], key=lambda p: system.getParticleMass(p)._value)
                light, heavy = (system.getParticleMass(p)._value for p in ends)
                if not inside.intersection(ends) and 0 < light < _LIGHT < heavy:
                    pairs.setdefault(*ends)
    return list(pairs.items())
