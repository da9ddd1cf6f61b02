"""KStepReporter and the analysis where the model or the corrector has no energy, and in unusual Systems."""

import csv

import numpy as np
import openmm
import pytest
from openmm import app

from openmmkstep import KStepIntegrator, KStepReporter
from openmmkstep.analysis import ReweightingWeights, degreesOfFreedom

CORRECTOR, MODEL = "500*(x^2+y^2+z^2)", "300*(x^2+y^2+z^2)"
BEYOND = "select(step(x-0.05), sqrt(-1-x^2), {})"
"""An energy that does not exist beyond x = 0.05 nm, where the particle often is."""


def simulate(corrector: str, model: str, integrator) -> app.Simulation:
    """One particle in two wells."""
    system = openmm.System()
    system.addParticle(12)
    for group, expression in ((1, corrector), (2, model)):
        force = openmm.CustomExternalForce(expression)
        force.addParticle(0)
        force.setForceGroup(group)
        system.addForce(force)
    topology = app.Topology()
    topology.addAtom("C", app.element.carbon, topology.addResidue("C", topology.addChain()))
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions([(0.01, 0.01, 0.01)])
    simulation.context.setVelocitiesToTemperature(300, 7)
    return simulation


def seeded(*args) -> KStepIntegrator:
    integrator = KStepIntegrator(*args)
    integrator.setRandomNumberSeed(7)
    return integrator


def rows_of(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text()[1:].splitlines()))


def test_model_without_an_energy(tmp_path):
    """Impulse makes plain steps then; a report must neither fail nor make a corrector call."""
    statistics = []
    for reports in (True, False):
        simulation = simulate(CORRECTOR, BEYOND.format(MODEL), seeded(0.005, 4, "impulse", 300, 5))
        if reports:
            simulation.reporters.append(KStepReporter(tmp_path / "a.csv", 1, progress=False))
        simulation.step(600)
        statistics.append(simulation.integrator.getStatistics())
    assert statistics[0] == statistics[1]
    assert statistics[0]["plainMacroSteps"] > 10
    rows = rows_of(tmp_path / "a.csv")
    assert len(rows) == 600
    blank = [row["D (kJ/mole)"] == "" for row in rows]
    assert sum(blank) == statistics[0]["plainMacroSteps"]
    assert all(b for b, row in zip(blank, rows, strict=True) if row["k"] == "0")


def test_corrector_without_an_energy_in_reweight(tmp_path):
    """Such frames have the weight 0: the run goes on, and averages leave them out."""
    simulation = simulate(BEYOND.format(CORRECTOR), MODEL, seeded(0.01, 10, "reweight", 300, 5))
    simulation.reporters.append(KStepReporter(tmp_path / "a.csv", 1, progress=False))
    simulation.step(500)
    D = np.array([float(row["D (kJ/mole)"]) for row in rows_of(tmp_path / "a.csv")])
    failed = np.isinf(D)
    assert 0 < failed.sum() == simulation.integrator.getStatistics()["convergenceFailures"] < 250
    weights = ReweightingWeights(D, 300)
    assert (weights.weights[failed] == 0).all() and weights.weights.sum() == pytest.approx(1)
    assert weights.paretoK() == pytest.approx(ReweightingWeights(D[~failed], 300).paretoK(), abs=0.3)
    values = np.arange(500.0)
    expected, _ = ReweightingWeights(D[~failed], 300).mean(values[~failed], allowUnconverged=True)
    assert weights.mean(values, allowUnconverged=True)[0] == pytest.approx(expected)


@pytest.mark.parametrize("D", [[np.inf, np.inf], [0.0, -np.inf], [0.0, np.nan]])
def test_weights_need_a_finite_number(D):
    with pytest.raises(ValueError, match="finite numbers"):
        ReweightingWeights(D, 300)


def test_member_of_a_compound_integrator(tmp_path):
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(openmm.VerletIntegrator(0.001))
    compound.addIntegrator(KStepIntegrator(0.01, 2))
    simulation = simulate(CORRECTOR, MODEL, compound)
    compound.setCurrentIntegrator(1)
    simulation.reporters.append(KStepReporter(tmp_path / "a.csv", 1, progress=False))
    simulation.step(2)
    assert [row["k"] for row in rows_of(tmp_path / "a.csv")] == ["2", "2"]


def test_constraint_between_frozen_particles():
    """It takes nothing away: the particles have no degrees of freedom in the first place."""
    system = openmm.System()
    for mass in (1, 2, 0, 0):
        system.addParticle(mass)
    system.addConstraint(2, 3, 0.1)
    positions = np.eye(4, 3)
    assert degreesOfFreedom(system, [2, 3]) == 0
    assert degreesOfFreedom(system, range(4)) == 6
    assert degreesOfFreedom(system, [0, 2], positions) == 3
