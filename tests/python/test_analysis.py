"""Temperatures by region, weights and correlated series, against analytic results."""

import numpy as np
import openmm
import pytest
from conftest import KT_300, water_positions, water_system
from openmm import unit

from openmmkstep import KStepIntegrator
from openmmkstep.analysis import (
    ReweightingWeights,
    UnconvergedError,
    byElement,
    degreesOfFreedom,
    heating_rate,
    mean_and_error,
    qmRegions,
    statistical_inefficiency,
    temperatures,
)


def test_degrees_of_freedom():
    system = openmm.System()
    for mass in (12, 1, 16, 0, 4):
        system.addParticle(mass)
    system.addConstraint(0, 1, 0.1)
    system.addConstraint(1, 2, 0.1)
    assert degreesOfFreedom(system, range(5)) == 4 * 3 - 2
    assert degreesOfFreedom(system, [0, 1]) == 6 - 1 - 0.5
    assert degreesOfFreedom(system, [2]) == 3 - 0.5
    assert degreesOfFreedom(system, [3]) == 0
    system.addForce(openmm.CMMotionRemover())
    assert degreesOfFreedom(system, range(5)) == pytest.approx(7)
    assert degreesOfFreedom(system, [4]) == pytest.approx(3 - 3 * 4 / 33)
    with pytest.raises(ValueError, match="indices from 0 to 4"):
        degreesOfFreedom(system, [5])
    with pytest.raises(ValueError, match="twice"):
        degreesOfFreedom(system, [1, 1])


def test_a_lone_constraint_is_shared_by_inverse_mass():
    system = openmm.System()
    for mass in (16, 1):
        system.addParticle(mass)
    system.addConstraint(0, 1, 0.1)
    x = np.array([[0, 0, 0], [0.06, 0.08, 0]])
    assert degreesOfFreedom(system, [0], x) == pytest.approx(3 - 1 / 17)
    assert degreesOfFreedom(system, [1], x * unit.nanometer) == pytest.approx(3 - 16 / 17)


def test_temperature_of_elements_in_rigid_water():
    """Velocities drawn at 300 K: oxygens and hydrogens have this temperature each, with the exact share only."""
    topology, system = water_system(200, "amber14/tip4pew.xml")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(water_positions(200, 1, virtual_sites=True))
    context.applyConstraints(1e-8)
    regions = byElement(topology, range(system.getNumParticles()), "MM")
    assert list(regions) == ["MM O", "MM H"]
    assert [len(r) for r in regions.values()] == [200, 400]
    positions = context.getState(positions=True).getPositions()
    freedom = {name: degreesOfFreedom(system, r, positions) for name, r in regions.items()}
    assert sum(freedom.values()) == pytest.approx(200 * 6)
    found = []
    for seed in range(20):
        context.setVelocitiesToTemperature(300, seed + 1)
        found.append([t / unit.kelvin for t in temperatures(context, regions, freedom).values()])
    # 20 x 563 degrees of freedom of the oxygens, 20 x 637 of the hydrogens: errors of 300 sqrt(2/11000) = 4 K. With
    # half of each constraint on either end the two would be off by 40 K and more.
    np.testing.assert_allclose(np.mean(found, axis=0), 300, atol=16)
    assert 520 < freedom["MM O"] < 600


def test_temperature_under_friction_is_the_half_step_one(droplet):
    """Of KStepIntegrator under friction, the kinetic energy of State is that of all regions together."""
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(droplet.system))
    integrator = KStepIntegrator(0.001, 2, "impulse", 300, 5)
    integrator.setAllowResonance(True)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(droplet.positions)
    context.setVelocities(droplet.velocities)
    integrator.step(5)
    regions = qmRegions(system)
    assert regions["QM"] == [0, 1, 2] and regions["MM"] == list(range(3, 90))
    found = temperatures(context, regions)
    kinetic = sum(
        0.5 * degreesOfFreedom(system, r) * KT_300 * (found[name] / (300 * unit.kelvin)) for name, r in regions.items()
    )
    state = context.getState(energy=True, velocities=True)
    assert kinetic == pytest.approx(state.getKineticEnergy()._value, rel=1e-6)
    masses = np.array([system.getParticleMass(i)._value for i in range(90)])
    on_step = 0.5 * (masses[:, None] * state.getVelocities(asNumpy=True)._value ** 2).sum()
    assert abs(on_step - kinetic) > 1e-3 * kinetic
    with pytest.raises(ValueError, match="'none' has no degrees of freedom"):
        temperatures(context, {"none": []})


@pytest.mark.parametrize("sd", [0.1, 0.5, 1.0])
def test_weights_of_a_gaussian_d(sd):
    """D ~ N(m, s^2): the weighted mean of D is m - s^2/kT and the effective fraction exp(-s^2/kT^2)."""
    D = np.random.default_rng(3).normal(7, sd * KT_300, 20000)
    weights = ReweightingWeights(D * unit.kilojoule_per_mole, 300 * unit.kelvin)
    assert weights.weights.sum() == pytest.approx(1)
    # The spread of the fraction over samples is below 2 % (seen over 50 seeds for sd = 1).
    assert weights.effectiveFraction() == pytest.approx(np.exp(-(sd**2)), rel=0.08)
    assert weights.isConverged() and weights.paretoK() < 0.5
    mean, error = weights.mean(D)
    assert abs(mean - (7 - sd**2 * KT_300)) < 4 * error
    # Delta method: the variance of w (a - mean) for a Gaussian is s^2 (1 + s^2/kT^2) exp(s^2/kT^2).
    expected = sd * KT_300 * np.sqrt((1 + sd**2) * np.exp(sd**2) / 20000)
    assert error == pytest.approx(expected, rel=0.25)
    both, errors = weights.mean(np.column_stack([D, 2 * D]))
    assert both[1] == pytest.approx(2 * mean) and errors[1] == pytest.approx(2 * error)
    quantity, _ = weights.mean(D * unit.kilojoule_per_mole)
    assert quantity / unit.kilojoule_per_mole == pytest.approx(mean)


def test_unconverged_weights_are_refused():
    rng = np.random.default_rng(4)
    weights = ReweightingWeights(rng.normal(0, 5 * KT_300, 5000), 300)
    assert weights.paretoK() > 0.7
    with pytest.raises(UnconvergedError, match=r"k-hat is \d.*effective sample size \d"):
        weights.mean(np.ones(5000))
    assert weights.mean(np.ones(5000), allowUnconverged=True)[0] == pytest.approx(1)
    # Enough effective samples, but a tail without a variance.
    heavy = ReweightingWeights(0.85 * KT_300 * np.log(rng.uniform(size=300_000)), 300)
    assert heavy.effectiveSampleSize() > 100 and not heavy.isConverged()
    # A good model, but too few frames.
    few = ReweightingWeights(rng.normal(0, 0.1 * KT_300, 45), 300)
    assert few.paretoK() < 0.7 and not few.isConverged()
    assert np.isnan(ReweightingWeights(np.zeros(3), 300).paretoK())
    assert ReweightingWeights(np.full(100, 3.0), 300).isConverged()  # a constant D is a perfect model
    for wrong in ([], [[1.0]], [np.nan]):
        with pytest.raises(ValueError, match="finite numbers"):
            ReweightingWeights(wrong, 300)
    with pytest.raises(ValueError, match="positive temperature"):
        ReweightingWeights([1.0], 0)
    with pytest.raises(ValueError, match="each of the 5000 frames"):
        weights.mean([1.0], allowUnconverged=True)


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_pareto_index_of_pareto_weights(shape):
    """w = u^-k has the tail index k: k-hat finds it within the spread of 1,000 tail points."""
    u = np.random.default_rng(5).uniform(size=100_000)
    found = ReweightingWeights(KT_300 * shape * np.log(u), 300).paretoK()
    # The estimator's standard error is (1+k)/sqrt(949): 0.04-0.065.
    assert found == pytest.approx(shape, abs=0.2 * (1 + shape) / 1.5)


def test_weights_are_safe_from_overflow():
    D = np.array([-1e6, -1e6 + KT_300, -1e6 + 2 * KT_300])
    np.testing.assert_allclose(ReweightingWeights(D, 300).weights, np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum())


def test_error_of_a_correlated_mean():
    """AR(1) with coefficient a: g = (1+a)/(1-a)."""
    rng = np.random.default_rng(6)
    a, n = 0.9, 100_000
    noise = rng.normal(size=n)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = a * x[i - 1] + noise[i]
    assert statistical_inefficiency(x) == pytest.approx(19, rel=0.15)
    mean, error = mean_and_error(x)
    assert error == pytest.approx(1 / (1 - a) / np.sqrt(n), rel=0.1)
    assert abs(mean) < 4 * error
    weighted, weighted_error = ReweightingWeights(np.zeros(n), 300).mean(x)
    assert weighted == pytest.approx(mean) and weighted_error == pytest.approx(error, rel=1e-6)


def test_heating_rate_of_a_random_walk():
    """A walk with the variance 2 B s beside noise: B/kT, with the spread of 50 runs of 60 ps as the error."""
    rng = np.random.default_rng(3)
    interval, B, kT = 0.02, 0.05, 8.31446261815324e-3 * 320
    t = np.arange(0, 60, interval)
    rates = []
    for _ in range(50):
        walk = np.sqrt(2 * B * interval) * rng.normal(size=len(t)).cumsum()
        rates.append(heating_rate(t, 5 + walk + rng.normal(scale=0.3, size=len(t)), 320))
    error = np.std(rates) / np.sqrt(len(rates))
    assert error < 0.07 * B / kT
    assert abs(np.mean(rates) - B / kT) < 4 * error
    with pytest.raises(ValueError, match="at least 8"):
        heating_rate(t[:300], t[:300])
