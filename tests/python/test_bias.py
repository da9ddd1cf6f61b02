"""Biases in the common force groups: CustomCVForce, and Metadynamics of a QM bond."""

import numpy as np
import openmm
import pytest
from conftest import KT_300, energy_forces, energy_of, get_positions, make_context
from openmm import app, unit
from test_interplay import DT, make
from test_qmmm_dynamics import with_model

from openmmkstep import KStepIntegrator


@pytest.mark.parametrize("name", ["langevin", "metropolis", "reweight"])
def test_collective_variable_bias(name):
    """A CustomCVForce pulls one coordinate of a particle in a well: x is Gaussian about k0 x0/(k + k0)."""
    k, k0, x0 = 1000.0, 1500.0, 0.1
    wells = []
    for group, factor in ((1, 1.0), (2, 1.15)):
        force = openmm.CustomExternalForce(f"0.5*{k * factor}*(x^2+y^2+z^2)")
        force.addParticle(0)
        force.setForceGroup(group)
        wells.append(force)
    coordinate = openmm.CustomExternalForce("x")
    coordinate.addParticle(0)
    bias = openmm.CustomCVForce(f"0.5*{k0}*(q-{x0})^2")
    bias.addCollectiveVariable("q", coordinate)
    integrator = make(name, dt=0.005, k=4, friction=3)
    context = make_context([*wells, bias], 1, [(0.05, 0, 0)], integrator)
    integrator.step(200)
    samples, weights = [], []
    for _ in range(8000):
        integrator.step(1)
        samples.append(get_positions(context)[0])
        weights.append(-integrator.computeD()._value / KT_300 if name == "reweight" else 0)
    weights = np.exp(weights - np.max(weights))
    blocks = [
        np.average(b, axis=0, weights=w)
        for b, w in zip(np.split(np.array(samples), 20), np.split(weights, 20), strict=True)
    ]
    mean, error = np.mean(blocks, axis=0), np.std(blocks, axis=0, ddof=1) / np.sqrt(20)
    expected = k0 * x0 / (k + k0)
    assert error.max() < 0.004
    # The model alone would give 0.0566 instead of 0.06; without the bias it is 0.
    np.testing.assert_allclose(mean, [expected, 0, 0], atol=4 * error.max())
    spread = np.sqrt(np.average((np.array(samples)[:, 0] - mean[0]) ** 2, weights=weights))
    # Some 1,000 independent samples: 2.2 %; the step of 20 fs at a period of 435 fs: (omega h)^2/8 = 1 % in the square.
    assert spread == pytest.approx(np.sqrt(KT_300 / (k + k0)), rel=0.1)


def oh_distance() -> app.BiasVariable:
    distance = openmm.CustomBondForce("r")
    distance.addBond(0, 1)
    return app.BiasVariable(distance, 0.08, 0.13, 0.005, False, 51)


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
@pytest.mark.parametrize("groups", [(1, 2), (31, 30)])
def test_metadynamics(scheme, groups, droplet):
    """A bond of the QM water is biased; Metadynamics takes a free force group, which is common to corrector and model."""
    corrector, model = groups
    system = with_model(droplet, "GFN-FF")
    for force in system.getForces():
        force.setForceGroup({1: corrector, 2: model}.get(force.getForceGroup(), force.getForceGroup()))
    # Hills so high that a few of them are seen.
    metadynamics = app.Metadynamics(system, [oh_distance()], 300, 10, 8.0, 4)
    bias = system.getForce(system.getNumForces() - 1).getForceGroup()
    assert bias == (31 if groups == (1, 2) else 29) and bias not in groups
    integrator = KStepIntegrator(DT, 4, scheme, 300, 2)
    integrator.setCorrectorForceGroup(corrector)
    integrator.setModelForceGroup(model)
    integrator.setRandomNumberSeed(2)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(droplet.topology, system, integrator, platform)
    simulation.context.setPositions(droplet.positions)
    simulation.context.setVelocities(droplet.velocities)
    assert integrator.getIntegrationForceGroups() >> bias & 1
    metadynamics.step(simulation, 40)
    assert simulation.currentStep == 40
    # Ten hills, each a little lower than the last where they overlap.
    assert 8 < -metadynamics.getFreeEnergy().min() / unit.kilojoule_per_mole < 100
    # D is what it is without the bias.
    context = simulation.context
    D = energy_of(context, {corrector}) - energy_of(context, {model})
    assert integrator.computeD()._value == pytest.approx(D, abs=1e-3)
    # The bias pulls in the next step: against the same step, noise included, without it.
    integrator.setExtraChances(1)
    for _ in range(30):
        pull = energy_forces(context, {bias})[1][:2]
        checkpoint, flips = context.createCheckpoint(), integrator.getStatistics()["flips"]
        ends, flipped = [], False
        for common in (set(range(32)) - {bias}, set(range(32))):
            context.loadCheckpoint(checkpoint)
            integrator.setIntegrationForceGroups(common)
            integrator.step(1)
            flipped |= integrator.getStatistics()["flips"] > flips
            ends.append(get_positions(context)[:2])
        if not flipped and np.abs(pull).max() > 100:
            break
    else:
        pytest.fail("Expected a macro-step that is accepted with and without the bias, and a bias that pulls.")
    expected = 0.5 * pull / np.array([[15.999], [1.008]]) * (4 * DT) ** 2
    # Along the bond, but not just as far: in 2 fs the hydrogen goes through a good part of a hill.
    difference = ends[1] - ends[0]
    assert np.vdot(difference, expected) > 0.95 * np.linalg.norm(difference) * np.linalg.norm(expected)
    assert 0.3 < np.linalg.norm(difference) / np.linalg.norm(expected) < 3
