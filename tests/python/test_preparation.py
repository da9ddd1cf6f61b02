"""What samplings and checks change in their copy of a System."""

import openmm
import pytest
from openmm import unit

from openmmkstep.data.region import Region
from openmmkstep.qmmm.preparation import make_hydrogens_heavy, remove_couplings

WATER = Region((8, 1, 1), (0, 1, 2), ((0, 1), (0, 2)))


def system_of(*masses) -> openmm.System:
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    return system


def masses(system) -> list[float]:
    return [system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())]


def test_couplings_are_removed_and_nothing_else():
    system = system_of(16.0)
    coupled = [
        openmm.MonteCarloBarostat(1.0, 300.0),
        openmm.MonteCarloAnisotropicBarostat(openmm.Vec3(1, 1, 1), 300.0),
        openmm.MonteCarloMembraneBarostat(1.0, 0.0, 300.0, 0, 0),
        openmm.MonteCarloFlexibleBarostat(1.0, 300.0),
        openmm.AndersenThermostat(300.0, 1.0),
    ]
    kept = [openmm.CMMotionRemover(), openmm.NonbondedForce(), openmm.CustomExternalForce("0")]
    for force in [kept[0], *coupled, *kept[1:]]:
        system.addForce(force)
    remove_couplings(system)
    assert [type(f).__name__ for f in system.getForces()] == [type(f).__name__ for f in kept]


def test_masses_of_the_region_and_of_flexible_hydrogens():
    """Rigid ones keep theirs, also if a HarmonicBondForce has them; two bonds lists of one hydrogen count once."""
    system = system_of(15.999, 1.008, 1.008, 12.0, 1.0, 16.0, 1.0, 14.0, 2.5, 12.0, 12.0)
    bonds = openmm.HarmonicBondForce()
    for pair in ((3, 4), (4, 3), (6, 5), (7, 8), (9, 10), (0, 1)):
        bonds.addBond(*pair, 0.1, 1e5)
    system.addForce(bonds)
    system.addConstraint(5, 6, 0.1)
    total = sum(masses(system))
    make_hydrogens_heavy(system, WATER, 3.0)
    assert masses(system) == pytest.approx([12.015, 3, 3, 10, 3, 16, 1, 13.5, 3, 12, 12])
    assert sum(masses(system)) == pytest.approx(total)


def test_a_heavy_atom_stays_heavier_than_its_hydrogens():
    methane = Region((6, 1, 1, 1, 1), tuple(range(5)), tuple((0, i) for i in range(1, 5)))
    system = system_of(12.0, 1.0, 1.0, 1.0, 1.0)
    make_hydrogens_heavy(system, methane, 4.0)
    assert masses(system) == pytest.approx([6.0, 4.0, 4.0, 1.0, 1.0])
