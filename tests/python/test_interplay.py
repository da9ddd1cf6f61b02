"""KStepIntegrator together with the rest of OpenMM: metadynamics, biases, threads, reporters, changed parameters."""

import threading

import numpy as np
import openmm
import pytest
from conftest import MOLECULES, get_positions, make_xtb
from openmm import app, unit

from openmmkstep import KStepIntegrator, XtbForce

NAME = "formaldehyde"
NUM = len(MOLECULES[NAME][0])
MASSES = {1: 1.008, 6: 12.011, 8: 15.999}


def make_system() -> openmm.System:
    """A QM molecule: GFN2-xTB as corrector, GFN-FF as a model that needs no training."""
    numbers = MOLECULES[NAME][0]
    system = openmm.System()
    for number in numbers:
        system.addParticle(MASSES[number])
    xtb, _ = make_xtb(NAME, "GFN2-xTB", accuracy=0.2)
    xtb.setForceGroup(1)
    model = XtbForce("GFN-FF", range(NUM), numbers)
    model.setForceGroup(2)
    system.addForce(xtb)
    system.addForce(model)
    return system


def make_topology() -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for i, number in enumerate(MOLECULES[NAME][0]):
        topology.addAtom(f"A{i}", app.element.Element.getByAtomicNumber(number), residue)
    return topology


def start(system, integrator) -> openmm.Context:
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(MOLECULES[NAME][1])
    context.setVelocitiesToTemperature(300, 3)
    return context


def distance_force() -> openmm.CustomBondForce:
    """The C-O distance as a collective variable."""
    force = openmm.CustomBondForce("r")
    force.addBond(0, 1)
    return force


def dynamics(scheme: str = "impulse", k: int = 2, seed: int = 7) -> KStepIntegrator:
    integrator = KStepIntegrator(0.0005, k, scheme, 300, 5)
    integrator.setRandomNumberSeed(seed)
    return integrator


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_metadynamics(scheme, tmp_path):
    """The bias that Metadynamics puts in a free force group acts as a common force, and grows where the bond is."""
    system = make_system()
    variable = app.BiasVariable(distance_force(), 0.10, 0.15, 0.002)
    meta = app.Metadynamics(system, [variable], 300, 5, 1.0, 10, saveFrequency=20, biasDir=str(tmp_path))
    simulation = app.Simulation(
        make_topology(), system, dynamics(scheme), openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions(MOLECULES[NAME][1])
    meta.step(simulation, 100)
    assert simulation.currentStep == 100
    (value,) = meta.getCollectiveVariables(simulation)
    assert 0.11 < value < 0.135
    energy = meta.getFreeEnergy().value_in_unit(unit.kilojoule_per_mole)
    grid = np.linspace(0.10, 0.15, len(energy))
    assert energy.min() < -5  # ten hills of up to 1 kJ/mol, scaled by 5/4
    assert grid[np.argmin(energy)] == pytest.approx(0.1206, abs=0.004)


def test_cv_force_is_a_common_force():
    """A CustomCVForce moves the atoms as the same bias written as a bond force does, and not as without a bias."""
    results = []
    for kind in ("cv", "bond", "none"):
        system = make_system()
        if kind == "cv":
            bias = openmm.CustomCVForce("-3000*d")
            bias.addCollectiveVariable("d", distance_force())
            system.addForce(bias)
        elif kind == "bond":
            bias = openmm.CustomBondForce("-3000*r")
            bias.addBond(0, 1)
            system.addForce(bias)
        integrator = KStepIntegrator(0.0005, 4)
        context = start(system, integrator)
        integrator.step(10)
        results.append(get_positions(context))
    np.testing.assert_allclose(results[0], results[1], atol=1e-8)
    assert np.abs(results[0] - results[2]).max() > 1e-4


def test_contexts_in_threads():
    """Several Contexts at the same time do what they do one after the other."""

    def run(seed, results):
        integrator = dynamics(seed=seed)
        context = start(make_system(), integrator)
        integrator.step(20)
        results[seed] = get_positions(context)

    serial, parallel = {}, {}
    for seed in (1, 2, 3):
        run(seed, serial)
    threads = [threading.Thread(target=run, args=(seed, parallel)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2, 3):
        np.testing.assert_array_equal(parallel[seed], serial[seed])
    assert not np.array_equal(serial[1], serial[2])


def test_centre_of_mass_motion_remover():
    """It acts between the macro-steps, and what remains is what the rest of the step gives: nothing, without friction."""
    system = make_system()
    system.addForce(openmm.CMMotionRemover(1))
    integrator = KStepIntegrator(0.0005, 2)
    context = start(system, integrator)
    context.setVelocities(np.full((NUM, 3), 1.0))
    integrator.step(3)
    masses = np.array([MASSES[n] for n in MOLECULES[NAME][0]])
    velocities = context.getState(velocities=True).getVelocities(asNumpy=True)._value
    assert np.abs(masses @ velocities).max() < 1e-3 * masses.sum()  # xTB's forces sum to zero within its accuracy


def test_reinitialize_and_go_on():
    simulation = app.Simulation(
        make_topology(), make_system(), KStepIntegrator(0.0005, 4), openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions(MOLECULES[NAME][1])
    simulation.context.setVelocitiesToTemperature(300, 5)
    simulation.step(5)
    x = get_positions(simulation.context)
    simulation.context.reinitialize(preserveState=True)
    np.testing.assert_array_equal(get_positions(simulation.context), x)
    assert simulation.currentStep == 5
    simulation.step(5)
    assert simulation.currentStep == 10
    assert simulation.context.getTime()._value == pytest.approx(0.02)


def test_settings_changed_between_steps():
    """What follows a change is what an integrator made with the new settings does (friction next to zero Kelvin)."""
    integrator = KStepIntegrator(0.0005, 4, "impulse", 300, 5)
    context = start(make_system(), integrator)
    integrator.step(3)
    integrator.setK(2)
    integrator.setTemperature(1e-10)
    integrator.setFriction(7)
    state = context.getState(positions=True, velocities=True)
    integrator.step(5)
    other = KStepIntegrator(0.0005, 2, "impulse", 1e-10, 7)
    fresh = start(make_system(), other)
    fresh.setPositions(state.getPositions())
    fresh.setVelocities(state.getVelocities())
    other.step(5)
    # The warm start of the SCF (accuracy 0.2) is all that differs, and noise of sqrt(kT/m) = 1e-6 nm/ps.
    np.testing.assert_allclose(get_positions(context), get_positions(fresh), atol=1e-6)


def test_reporters_come_and_go(tmp_path):
    """Reporters added later and removed; DCD's frame spacing is that of macro-steps."""
    simulation = app.Simulation(
        make_topology(), make_system(), dynamics(k=4), openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions(MOLECULES[NAME][1])
    simulation.step(2)
    table = tmp_path / "a.csv"
    reporter = app.StateDataReporter(str(table), 2, step=True, time=True)
    simulation.reporters.append(reporter)
    simulation.step(4)
    simulation.reporters.remove(reporter)
    simulation.step(4)
    simulation.reporters.append(reporter)
    simulation.reporters.append(app.DCDReporter(str(tmp_path / "a.dcd"), 1))
    simulation.step(2)
    simulation.reporters.clear()
    del reporter
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows[:, 0], [4, 6, 12])
    np.testing.assert_allclose(rows[:, 1], 0.002 * rows[:, 0])
    spacing = np.frombuffer((tmp_path / "a.dcd").read_bytes()[44:48], "<f4")[0]
    assert spacing * 0.04888821 == pytest.approx(0.002, rel=1e-6)
