"""The predicted drift of impulse runs against the measured one, on clusters with analytic forces."""

import numpy as np
import openmm
import pytest
from conftest import energy_of

from openmmkstep import KStepIntegrator
from openmmkstep.validation import DriftPrediction, predictDrift
from openmmkstep.validation.drift import _RateOfD, predict_drifts

DT = 0.002  # ps
SIZE, CLUSTERS = 4, 50
TETRAHEDRON = np.array([[0, 0, 0], [0.3, 0, 0], [0.15, 0.26, 0], [0.15, 0.09, 0.245]])


def clusters(mollified: bool):
    """Independent tetrahedra with anharmonic bonds, which the model makes 3 % too soft; the vibrations are chaotic.

    Returns the System, positions (nm), and one bond of each cluster, which is stiff where it is to be mollified.
    """
    system = openmm.System()
    for _ in range(SIZE * CLUSTERS):
        system.addParticle(4.0)
    for group, factor in ((1, 1.03), (2, 1.0)):
        force = openmm.CustomBondForce(f"{factor}*(c*(r-0.3)^2+2500*(r-0.3)^3+6000*(r-0.3)^4)")
        force.addPerBondParameter("c")
        force.setForceGroup(group)
        for first in range(0, SIZE * CLUSTERS, SIZE):
            for i in range(SIZE):
                for j in range(i):
                    force.addBond(first + j, first + i, [3000.0 if mollified and (j, i) == (0, 1) else 1000.0])
        system.addForce(force)
    positions = np.concatenate([TETRAHEDRON + np.array([2.0 * n, 0, 0]) for n in range(CLUSTERS)])
    bonds = [(i, i + 1, 0.3) for i in range(0, SIZE * CLUSTERS, SIZE)] if mollified else []
    return system, positions, bonds


def measured_drift(system, positions, bonds, k: int, runs: int = 6, picoseconds: float = 6.0) -> float:
    """Mean slope (kJ/mol/ps) of the conserved energy over runs from a thermostatted run on the model."""
    platform = openmm.Platform.getPlatformByName("Reference")
    bath = openmm.LangevinMiddleIntegrator(300, 5, DT)
    bath.setRandomNumberSeed(11)
    bath.setIntegrationForceGroups({2})
    thermal = openmm.Context(system, bath, platform)
    thermal.setPositions(positions)
    thermal.setVelocitiesToTemperature(300, 12)
    bath.step(1500)
    integrator = KStepIntegrator(DT, k)
    integrator.setErrorRecovery(False)
    integrator.setMollification(bonds)
    context = openmm.Context(system, integrator, platform)
    slopes = []
    steps = round(picoseconds / (20 * k * DT))
    for _ in range(runs):
        bath.step(500)
        state = thermal.getState(positions=True, velocities=True)
        context.setPositions(state.getPositions())
        context.setVelocities(state.getVelocities())
        energies = []
        for _ in range(20):
            integrator.step(steps)
            energies.append(integrator.computeConservedEnergy()._value)
        slopes.append(np.polyfit(np.arange(20) * steps * k * DT, energies, 1)[0])
    return float(np.mean(slopes))


def test_prediction_agrees_with_the_measured_drift():
    """Plain and mollified, at two macro-steps: each within a factor of two, all together within 1.4.

    Standard errors are 15 % (predicted) and 7 to 12 % (measured); a mistaken one-sided density would be off by 2.
    """
    ratios = []
    for mollified in (False, True):
        system, positions, bonds = clusters(mollified)
        prediction = predictDrift(
            system,
            positions,
            bonds,
            picoseconds=4.0,
            interval=0.01,
            baseStepSize=DT,
            equilibration=4.0,
            platform=openmm.Platform.getPlatformByName("Reference"),
            progress=False,
        )
        for k in (30, 35):
            predicted, error = prediction.drift(k * DT)
            assert 0 < error < 0.3 * predicted
            ratios.append(predicted / measured_drift(system, positions, bonds, k))
        # Below the onset the drift vanishes by orders of magnitude, so k is found between.
        assert prediction.drift(0.02)[0] < 1e-3 * prediction.drift(0.06)[0]
        k = prediction.proposeK(DT, 1.0, 0.1)
        assert 15 <= k < 30 and prediction.drift(k * DT)[0] < 1.0 < prediction.drift((k + 1) * DT)[0]
    assert all(0.5 < ratio < 2 for ratio in ratios), ratios
    assert 1 / 1.4 < np.exp(np.mean(np.log(ratios))) < 1.4, ratios


def test_several_mollifications_along_one_run():
    """Each prediction is what it is alone."""
    system, positions, bonds = clusters(True)
    reference = openmm.Platform.getPlatformByName("Reference")
    shares = []
    settings = (300.0, 2, 0.1, 0.01, DT, 0.1)
    together = predict_drifts(system, positions, [[], bonds], settings, (1, 2), 1, (reference, {}), shares.append)
    assert sum(shares) == pytest.approx(1)
    for found, mollification in zip(together, ([], bonds), strict=True):
        alone = predictDrift(
            system,
            positions,
            mollification,
            pieces=2,
            picoseconds=0.1,
            interval=0.01,
            baseStepSize=DT,
            equilibration=0.1,
            platform=reference,
            progress=False,
        )
        np.testing.assert_allclose(found.rates, alone.rates, rtol=1e-9)
    assert np.abs(together[0].rates - together[1].rates).max() > 1


def test_rate_of_d():
    """Along a straight path, against the difference of the energies D(A(x)); a virtual site hangs on the moved atom."""
    system = openmm.System()
    for mass in (12.0, 1.0, 16.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(3, openmm.TwoParticleAverageSite(1, 2, 0.4, 0.6))
    for group, energy in ((1, "1000*(r-0.1)^2+3/r"), (2, "900*(r-0.11)^2+2/r^2")):
        force = openmm.CustomBondForce(energy)
        for pair in ((0, 1), (0, 2), (1, 2), (0, 3)):
            force.addBond(*pair)
        force.setForceGroup(group)
        system.addForce(force)
    mapper = KStepIntegrator(1e-4, 1)
    mapper.setMollification([(0, 1, 0.12)])
    context = openmm.Context(system, openmm.VerletIntegrator(1e-4), openmm.Platform.getPlatformByName("Reference"))
    x = np.array([[0, 0, 0], [0.1, 0.02, 0.01], [-0.05, 0.12, 0.03], [0, 0, 0]])
    v = np.array([[0.3, -0.2, 0.5], [-2.0, 1.5, 2.5], [0.4, 0.1, -0.6], [0.5, 0.6, 0.7]])

    def d(positions) -> float:
        context.setPositions(mapper.mollifyPositions(positions))
        context.computeVirtualSites()
        return energy_of(context, {1}) - energy_of(context, {2})

    points = [x + time * v for time in (-1e-4, 0, 1e-4)]
    expected = (d(points[2]) - d(points[0])) / 2e-4
    assert abs(expected) > 10
    assert _RateOfD(context, mapper, (1, 2))(*points) == pytest.approx(expected, rel=1e-4)


def test_normalization():
    """A sine of known amplitude, and white noise, of which the sampled spectrum is known."""
    interval, kT = 0.002, 8.31446261815324e-3 * 250
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(256, 500))
    prediction = DriftPrediction(noise, interval, 250.0)
    # Two-sided density of white noise: interval * variance. m - 1 of m points of the spectrum count.
    for multiple in (2, 3, 4, 5):
        expected = (multiple - 1) * interval / (2 * kT)
        found, error = prediction.drift(multiple * interval)
        assert error < 0.1 * expected and found == pytest.approx(expected, abs=4 * error)
    # A line at 1.235/h lies between the harmonics of h and on that of h/1.235.
    line = np.sin(2 * np.pi / 0.01 * 1.235 * interval * np.arange(500) + rng.uniform(0, 6, size=(8, 1)))
    prediction = DriftPrediction(line, interval, 250.0)
    assert prediction.drift(0.01)[0] < 1e-6 * prediction.drift(0.01 / 1.235)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": 0.0005}, "at least twice"),
        ({"interval": 0.0013}, "multiple of the base step"),
        ({"pieces": 1}, "at least two pieces"),
        ({"modelForceGroup": 7}, r"force in the model's group \(7\)"),
    ],
)
def test_bad_arguments(arguments, message):
    system, positions, _ = clusters(False)
    with pytest.raises(ValueError, match=message):
        predictDrift(system, positions, progress=False, **arguments)


def test_too_short_a_step():
    prediction = DriftPrediction(np.ones((2, 100)), 0.002, 300.0)
    with pytest.raises(ValueError, match="at least two sampling intervals of 2 fs, found 3 fs"):
        prediction.drift(0.003)
