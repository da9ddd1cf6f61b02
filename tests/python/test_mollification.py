"""The mollified impulse from Python: finding its bonds, and a real QM/MM run."""

import copy
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from openmmkstep import KStepIntegrator, cast, findMollification

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alanine_dipeptide.droplet import PLATFORM, PLATFORM_PROPERTIES, Droplet

BONDS = [(1, 2, 0.109), (6, 7, 0.1013 * unit.nanometer)]


@pytest.fixture(scope="module")
def alanine():
    droplet = Droplet()
    return droplet, droplet.create_system(with_model=True)


def test_settings_survive_copies():
    integrator = KStepIntegrator(0.0005, 8)
    assert integrator.getMollification() == []
    integrator.setMollification(BONDS)
    clone = cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(integrator)))
    for copied in (integrator, copy.deepcopy(integrator), clone):
        assert [(a, b, r.value_in_unit(unit.nanometer)) for a, b, r in copied.getMollification()] == [
            (1, 2, 0.109),
            (6, 7, 0.1013),
        ]
    with pytest.raises(openmm.OpenMMException, match="positive"):
        integrator.setMollification([(0, 1, -0.1)])


def test_finds_the_bonds_to_hydrogen(alanine):
    droplet, system = alanine
    bonds = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2)
    assert sorted((a, b) for a, b, _ in bonds) == [
        (1, 0), (1, 2), (1, 3), (6, 7), (8, 9), (10, 11), (10, 12), (10, 13), (16, 17), (18, 19), (18, 20), (18, 21),
    ]  # fmt: skip
    lengths = {(a, b): r.value_in_unit(unit.nanometer) for a, b, r in bonds}
    # GFN2's equilibrium lengths are 0.1007 (N-H) and 0.108-0.110 nm (C-H); thermal motion adds less than 0.002.
    for pair, length in lengths.items():
        low, high = (0.0995, 0.1035) if pair[0] in (6, 16) else (0.1070, 0.1120)
        assert low < length < high


def test_needs_an_xtb_force(alanine):
    droplet, _ = alanine
    with pytest.raises(ValueError, match="Expected a System with an XtbForce"):
        findMollification(droplet.topology, openmm.System(), droplet.positions)


def test_conserves_its_energy_at_4_fs(alanine):
    """0.4 ps of the real droplet at h = 4 fs: K + U_common + U_model(x) + D(A(x)) stays, one xTB call a macro-step."""
    droplet, system = alanine
    bonds = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2)
    integrator = KStepIntegrator(0.0005, 8)
    integrator.setMollification(bonds)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(PLATFORM), PLATFORM_PROPERTIES)
    context.setPositions(droplet.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 30)
    context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(20):
        integrator.step(5)
        energies.append(integrator.computeConservedEnergy().value_in_unit(unit.kilojoule_per_mole))
    # The step error of velocity Verlet with C-H stretches at 0.5 fs is some 0.3 kJ/mol; the total energy's parts move
    # by a hundred.
    assert np.std(energies) < 1.0
    assert integrator.getStatistics()["correctorCalls"] == 101
    # D at A(x) differs from D at x by what the model gets wrong in the stretches: little, but not nothing.
    state = context.getState(energy=True, groups=integrator.getIntegrationForceGroups())
    total = (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole)
    assert 0 < abs(total - energies[-1]) < 3.0
