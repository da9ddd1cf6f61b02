"""Dynamics of a QM water among rigid TIP3P waters, with xTB."""

import numpy as np
import openmm
import pytest
from conftest import KT_300, energy_forces, energy_of, get_positions
from openmm import unit

from openmmkstep import KStepIntegrator, KStepModelForce, XtbForce

TRUE_GROUPS = {0, 1}


def with_model(droplet, model) -> openmm.System:
    """The droplet's QM/MM System with GFN-FF, which needs no training, or a model file in group 2."""
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(droplet.system))
    force = XtbForce("GFN-FF", range(3), [8, 1, 1]) if model == "GFN-FF" else KStepModelForce(model, range(3))
    force.setForceGroup(2)
    system.addForce(force)
    return system


def start(system, droplet, integrator, platform="Reference") -> openmm.Context:
    integrator.setConstraintTolerance(1e-8)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions(droplet.positions)
    context.setVelocities(droplet.velocities)
    return context


def total_energy(context) -> float:
    state = context.getState(getEnergy=True, groups=TRUE_GROUPS)
    return (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole)


def energies_along(context, blocks: int, steps: int) -> np.ndarray:
    energies = []
    for _ in range(blocks):
        context.getIntegrator().step(steps)
        energies.append(total_energy(context))
    return np.array(energies)


def test_impulse_conserves_energy(droplet):
    """k = 4 at 0.5 fs with GFN-FF as the model, against velocity Verlet at 0.5 fs with four times as many xTB calls."""
    plain = start(droplet.system, droplet, KStepIntegrator(0.0005, 1))  # k = 1: velocity Verlet, group by group
    integrator = KStepIntegrator(0.0005, 4)
    impulse = start(with_model(droplet, "GFN-FF"), droplet, integrator)
    reference = energies_along(plain, 50, 8)
    energies = energies_along(impulse, 50, 2)
    assert plain.getTime() / unit.picosecond == pytest.approx(0.2)
    assert impulse.getTime() / unit.picosecond == pytest.approx(0.2)
    assert integrator.getStatistics()["correctorCalls"] == 101
    # Seen: a spread of 0.02 kJ/mol for Verlet (its shadow Hamiltonian) and 0.18 for the impulse, whose kicks of 2 fs
    # carry the difference of GFN2 and GFN-FF (sd of D: 4 kJ/mol). A wrong sign of dF or a forgotten half kick gives tens
    # to thousands.
    assert reference.std() < 0.05
    assert energies.std() < 0.5
    slope = np.polyfit(np.linspace(0, 0.2, 50), energies, 1)[0]
    assert abs(slope) * 0.2 < 0.5
    # Both follow the same trajectory at first: 40 fs.
    for context in (plain, impulse):
        context.reinitialize()
        context.setPositions(droplet.positions)
        context.setVelocities(droplet.velocities)
    plain.getIntegrator().step(80)
    impulse.getIntegrator().step(20)
    moved = np.abs(get_positions(plain) - droplet.positions).max()
    assert np.abs(get_positions(plain) - get_positions(impulse)).max() < 0.01 * moved  # seen: 0.2 %


def test_impulse_without_a_model_is_respa(droplet):
    """Corrector every second step only; the common forces in between."""
    integrator = KStepIntegrator(0.00025, 2)
    context = start(droplet.system, droplet, integrator)
    energies = energies_along(context, 20, 5)
    # 100 macro-steps, the start, and the periods of two O-H stretches (two calls each).
    assert integrator.getStatistics()["correctorCalls"] == 105
    assert energies.std() < 0.05  # seen: 0.01, velocity Verlet's own


def test_k1_agrees_with_verlet(droplet):
    """OpenMM's VerletIntegrator is leapfrog: from v(-dt/2) it gives the same positions as velocity Verlet from v(0)."""
    dt = 0.0005
    context = start(droplet.system, droplet, KStepIntegrator(dt, 1))
    context.applyVelocityConstraints(1e-9)
    state = context.getState(getVelocities=True, getForces=True)
    masses = np.array([droplet.system.getParticleMass(i)._value for i in range(droplet.system.getNumParticles())])
    v = state.getVelocities(asNumpy=True)._value - 0.5 * dt * state.getForces(asNumpy=True)._value / masses[:, None]
    context.getIntegrator().step(20)
    leapfrog = start(droplet.system, droplet, openmm.VerletIntegrator(dt))
    leapfrog.setVelocities(v)
    leapfrog.getIntegrator().step(20)
    # The half step back ignores the constraint forces on the waters, whose part along the bonds SHAKE discards. Errors:
    # constraint tolerance 1e-8 of 0.1 nm a step and rounding, which 20 steps amplify by less than 100.
    assert np.abs(get_positions(leapfrog) - droplet.positions).max() > 5e-3
    np.testing.assert_allclose(get_positions(leapfrog), get_positions(context), atol=1e-6)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_metropolis_bookkeeping(droplet, platform):
    k, dt = 8, 0.0005
    integrator = KStepIntegrator(dt, k, "metropolis", 300, 1)
    integrator.setRandomNumberSeed(11)
    context = start(with_model(droplet, "GFN-FF"), droplet, integrator, platform)
    macro_steps, calls = 25, 0
    positions, flips = get_positions(context), 0
    for _ in range(macro_steps):
        before = integrator.getStatistics()
        velocities = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value.copy()
        integrator.step(1)
        after = integrator.getStatistics()
        new = get_positions(context)
        chances = after["chances"] - before["chances"]
        assert 1 <= chances <= 4
        if after["flips"] > before["flips"]:
            flips += 1
            assert chances == 4
            np.testing.assert_array_equal(new, positions)
            found = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value
            # The QM atoms are free; the others' velocities are equal up to the constraint tolerance.
            np.testing.assert_array_equal(found[:3], -velocities[:3])
            np.testing.assert_allclose(found, -velocities, atol=1e-5)
        else:
            assert np.abs(new - positions).max() > 1e-4
        positions = new
        calls += chances
    statistics = integrator.getStatistics()
    assert statistics["macroSteps"] == macro_steps == context.getStepCount()
    assert statistics["chances"] == calls
    assert statistics["correctorCalls"] == calls + 1  # one at the start; none after a rejection
    assert statistics["accepted"] + statistics["flips"] == macro_steps
    assert statistics["flips"] == flips
    assert statistics["firstAccepted"] <= statistics["accepted"]
    assert context.getTime() / unit.picosecond == pytest.approx(calls * k * dt)
    # GFN-FF differs from GFN2 by a few kT along a vibration: neither all nor none of the 25 steps pass (seen: 11).
    assert statistics["accepted"] >= 3
    assert statistics["flips"] >= 3
    assert statistics["sdD"] / unit.kilojoule_per_mole > 0.1
    # D is that of the state seen from outside.
    integrator.resetStatistics()
    integrator.step(1)
    D = energy_of(context, {1}) - energy_of(context, {2})
    assert integrator.getStatistics()["meanD"].value_in_unit(unit.kilojoule_per_mole) == pytest.approx(D, abs=1e-3)


def test_a_perfect_model_is_always_accepted(droplet):
    """xTB itself as the model: D = 0 up to the SCF's noise, so the test must pass at once every time."""
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(droplet.system))
    force = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system.getForce(system.getNumForces() - 1)))
    force.setForceGroup(2)
    system.addForce(force)
    integrator = KStepIntegrator(0.0005, 4, "metropolis", 300, 1)
    context = start(system, droplet, integrator)
    integrator.step(20)
    assert context.getStepCount() == 20
    statistics = integrator.getStatistics()
    # A rejection needs dD of more than kT ln(1/u): with |dD| < 1e-4 kJ/mol its probability is 4e-5 a step.
    assert statistics["firstAccepted"] == 20 and statistics["chances"] == 20
    assert abs(statistics["meanD"]._value) < 1e-4 and statistics["sdD"]._value < 1e-4


def test_scf_failure_is_a_rejection(droplet, models):
    """A model that tears the molecule apart: xTB cannot give an energy there, and the state stays as it was."""
    path = models("explode")
    k, dt = 16, 0.0005
    system = with_model(droplet, path)
    # Where the proposal goes, xTB fails:
    there = start(system, droplet, openmm.VerletIntegrator(dt))
    there.getIntegrator().setIntegrationForceGroups({0, 2})
    there.getIntegrator().step(k)
    with pytest.raises(openmm.OpenMMException, match="failed at the current positions"):
        energy_of(there, {1})
    integrator = KStepIntegrator(dt, k, "metropolis", 300, 1)
    integrator.setRandomNumberSeed(3)
    context = start(system, droplet, integrator)
    before = energy_of(context, {1})
    integrator.step(5)
    statistics = integrator.getStatistics()
    assert (statistics["flips"], statistics["accepted"], statistics["macroSteps"]) == (5, 0, 5)
    np.testing.assert_array_equal(get_positions(context), droplet.positions)
    # After an odd number of flips: velocities are reversed.
    v = context.getState(getVelocities=True).getVelocities(asNumpy=True)._value
    np.testing.assert_allclose(v, -droplet.velocities, atol=1e-4)
    # The failures left no trace in xTB: warm against cold start at accuracy 0.05.
    assert energy_of(context, {1}) == pytest.approx(before, abs=1e-4)
    # In 'impulse' the macro-step is undone and made in two halves.
    impulse = KStepIntegrator(dt, k)
    impulse.setAllowResonance(True)
    context = start(system, droplet, impulse)
    impulse.step(1)
    (event,) = impulse.getEvents()
    assert (event["kind"], event["step"], event["fromK"], event["toK"]) == ("convergenceFailure", 0, 16, 8)
    statistics = impulse.getStatistics()
    assert (statistics["redone"], statistics["convergenceFailures"], statistics["currentK"]) == (1, 1, 8)
    # The same as a run with half the interval, but for warm and cold starts of xTB (some 0.1 kJ/mol/nm).
    halves = KStepIntegrator(dt, k // 2)
    reference = start(system, droplet, halves)
    halves.step(2)
    np.testing.assert_allclose(get_positions(context), get_positions(reference), atol=1e-5)
    assert context.getState().getTime()._value == pytest.approx(k * dt, rel=1e-12)
    # Without recovery it is an error, and the Context keeps the state before the step.
    impulse = KStepIntegrator(dt, k)
    impulse.setErrorRecovery(False)
    context = start(system, droplet, impulse)
    with pytest.raises(openmm.OpenMMException):
        impulse.step(1)
    np.testing.assert_array_equal(get_positions(context), droplet.positions)
    assert context.getStepCount() == 0
    assert np.isfinite(energy_of(context, {1}))


def test_langevin_impulse_keeps_the_temperature(droplet):
    """Friction of 20/ps from a cold start: BAOAB's bath works on QM and MM atoms."""
    integrator = KStepIntegrator(0.0005, 4, "impulse", 300, 20)
    integrator.setRandomNumberSeed(9)
    context = start(with_model(droplet, "GFN-FF"), droplet, integrator)
    context.setVelocities(np.zeros_like(droplet.velocities))
    integrator.step(150)  # 0.3 ps = 6 relaxation times
    kinetic = []
    for _ in range(20):
        integrator.step(10)
        kinetic.append(context.getState(getEnergy=True).getKineticEnergy()._value)
    degrees = 3 * droplet.system.getNumParticles() - droplet.system.getNumConstraints()
    # One value spreads by sqrt(2/183) = 10 %; 20 of them over 0.4 ps are about 8 correlation times of 1/(2 gamma),
    # 0.05 ps: the mean's standard deviation is about 3 %. 15 % is five of them.
    assert np.mean(kinetic) == pytest.approx(0.5 * degrees * KT_300, rel=0.15)


def test_minimizer_and_forces(droplet):
    """Simulation's minimizer works on the QM/MM System from the droplet's state and lowers the energy."""
    context = start(droplet.system, droplet, KStepIntegrator(0.0005, 4))
    before = energy_of(context)
    openmm.LocalEnergyMinimizer.minimize(context, 10)
    energy, forces = energy_forces(context)
    assert energy < before - 100
    x = get_positions(context)
    # Water's O-H in GFN2-xTB: 0.096 nm.
    assert np.linalg.norm(x[0] - x[1]) == pytest.approx(0.096, abs=0.003)
