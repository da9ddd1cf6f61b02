"""The classical half of the QM/MM reference agrees with OpenMM, term by term: what it says of QM/MM counts then.

Tolerances: OpenMM's Ewald sum (error tolerance 1e-9) leaves 1e-5 kJ/mol, its mesh in triclinic boxes (100^3) 1e-4;
all else is rounding.
"""

import numpy as np
import openmm
import pytest
from conftest import energy_of
from openmm import app
from qmmm_classical import ForceField, box_of
from small_systems import alanine_dipeptide, nonbonded_of, water_box

REFERENCE = openmm.Platform.getPlatformByName("Reference")
KIND = {
    "HarmonicBondForce": ["bonds"],
    "HarmonicAngleForce": ["angles"],
    "PeriodicTorsionForce": ["torsions"],
    "RBTorsionForce": ["rb_torsions"],
    "CMAPTorsionForce": ["cmaps"],
    "NonbondedForce": ["exceptions", "Lennard-Jones", "Coulomb", "dispersion correction"],
}


def check(system, x, atol=1e-8):
    """Compare force by force; returns the reference's energies."""
    box = box_of(system)
    energies = ForceField.of(system).energies(x, box)
    for i, force in enumerate(system.getForces()):
        force.setForceGroup(i)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)
    context.setPositions(x)
    for i, force in enumerate(system.getForces()):
        expected = sum(energies.get(kind, 0.0) for kind in KIND.get(force.getName(), []))
        assert energy_of(context, {i}) == pytest.approx(expected, abs=atol), force.getName()
    return energies


@pytest.mark.parametrize("force_field", ["amber14/protein.ff14SB.xml", "amber19/protein.ff19SB.xml"])
def test_protein_without_box(force_field):
    _, system, x = alanine_dipeptide(waters=2, protein=force_field)
    energies = check(system, x)
    assert abs(energies["exceptions"]) > 1 and abs(energies["torsions"]) > 1
    assert (abs(energies["cmaps"]) > 0.1) == ("19" in force_field)


def test_ryckaert_bellemans():
    system = openmm.System()
    force, nonbonded = openmm.RBTorsionForce(), openmm.NonbondedForce()
    for _ in range(4):
        system.addParticle(1)
        nonbonded.addParticle(0, 1, 0)
    force.addTorsion(0, 1, 2, 3, 9.3, 12.2, -13.1, -3.1, 26.2, -31.5)
    system.addForce(force)
    system.addForce(nonbonded)
    check(system, np.array([[0, 0.1, 0.02], [0, 0, 0], [0.15, 0, 0], [0.17, 0.03, -0.09]]))


@pytest.mark.parametrize("box", ["cubic", "orthorhombic", "triclinic"])
@pytest.mark.parametrize("variant", ["plain", "switched", "corrected", "both", "charged", "tip4pew"])
def test_water_in_a_box(variant, box):
    _, system, x = water_box(40, box, "tip4pew.xml" if variant == "tip4pew" else "amber14/tip3p.xml")
    nonbonded = nonbonded_of(system)
    nonbonded.setUseDispersionCorrection(variant in ("corrected", "both"))
    nonbonded.setUseSwitchingFunction(variant in ("switched", "both"))
    nonbonded.setSwitchingDistance(0.6)
    if variant == "charged":  # with a neutralizing background
        _, sigma, epsilon = nonbonded.getParticleParameters(0)
        nonbonded.setParticleParameters(0, 0.3, sigma, epsilon)
    check(system, x, atol=2e-4)


def test_particle_mesh():
    _, system, x = water_box(40, "cubic", nonbondedMethod=app.PME)
    check(system, x, atol=2e-4)


def test_protein_in_a_box():
    _, system, x = alanine_dipeptide(waters=20, box="triclinic")
    check(system, x, atol=2e-4)
