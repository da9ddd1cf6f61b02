"""KStepReporter's columns against values computed by other ways, on a QM water among rigid TIP3P waters."""

import csv
import sys

import numpy as np
import openmm
import pytest
import tethered
from conftest import KT_300, energy_of
from openmm import app, unit

from openmmkstep import KStepIntegrator, KStepReporter, XtbForce
from openmmkstep.analysis import ReweightingWeights, degreesOfFreedom

COLUMNS = (
    '#"Step","Time (ps)","D (kJ/mole)","Mean D (kJ/mole)","SD D (kJ/mole)","Acceptance","First Acceptance","Flips/ps",'
    '"k","Potential Energy (kJ/mole)","Conserved Energy (kJ/mole)","Drift (kJ/mole)","T QM (K)","T MM (K)",'
    '"xTB Calls/ps","Faults","Redone"'
)
BONDS = [(0, 1, 0.096), (0, 2, 0.096)]


def simulate(droplet, integrator) -> app.Simulation:
    """The droplet with GFN-FF as the model."""
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(droplet.system))
    model = XtbForce("GFN-FF", range(3), [8, 1, 1])
    model.setForceGroup(2)
    system.addForce(model)
    integrator.setRandomNumberSeed(4)
    integrator.setConstraintTolerance(1e-8)
    simulation = app.Simulation(droplet.topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(droplet.positions)
    simulation.context.setVelocities(droplet.velocities)
    return simulation


def rows_of(path) -> list[dict]:
    header, *lines = path.read_text().splitlines()
    names = [name.strip('#"') for name in header.split(",")]
    return [dict(zip(names, line, strict=True)) for line in csv.reader(lines)]


class Truth:
    """A reporter that computes the same in the open, with as many xTB calls as it likes, on a Context of its own."""

    def __init__(self, droplet, simulation):
        self.rows = []
        # Not the run's own Context, in which xTB would be disturbed: a copy with the same positions.
        self.copy = simulate(droplet, KStepIntegrator(0.0005, 1))
        self.integrator = simulation.integrator

    def describeNextReport(self, simulation):
        return {"steps": 2 - simulation.currentStep % 2, "periodic": None, "include": ["positions", "velocities"]}

    def report(self, simulation, state):
        context = self.copy.context
        positions = state.getPositions(asNumpy=True)
        context.setPositions(positions)
        common, model = energy_of(context, {0}), energy_of(context, {2})
        if self.integrator.getMollification():
            context.setPositions(self.integrator.mollifyPositions(positions))
        D = energy_of(context, {1}) - energy_of(context, {2})
        velocities = self.integrator.computeHalfStepVelocities()._value
        masses = np.array([simulation.system.getParticleMass(i)._value for i in range(len(velocities))])
        kinetic = 0.5 * masses * (velocities**2).sum(axis=1)
        self.rows.append(
            {
                "common": common,
                "model": model,
                "D": D,
                "kinetic": kinetic.sum(),
                "QM": kinetic[:3].sum(),
                "time": state.getTime()._value,
            }
        )


def run(droplet, integrator, path, steps=8, **kwargs):
    """The reporter's rows, the truth for each, and the xTB calls that the run would make without a reporter."""
    alone = simulate(droplet, type(integrator)(*ARGUMENTS[integrator.getScheme()]))
    alone.integrator.setMollification([(a, b, c) for a, b, c in integrator.getMollification()])
    alone.integrator.setFriction(integrator.getFriction())
    alone.step(steps)
    simulation = simulate(droplet, integrator)
    simulation.reporters = [KStepReporter(path, 2, totalSteps=steps, **kwargs), Truth(droplet, simulation)]
    simulation.step(steps)
    assert integrator.getStatistics()["correctorCalls"] == alone.integrator.getStatistics()["correctorCalls"]
    return rows_of(path), simulation.reporters[1].rows, simulation


ARGUMENTS = {
    "impulse": (0.0005, 4),
    "metropolis": (0.0005, 8, "metropolis", 300, 1),
    "reweight": (0.0005, 8, "reweight", 300, 1),
}


def check_common(rows, truth, simulation):
    statistics = simulation.integrator.getStatistics()
    freedom = degreesOfFreedom(simulation.system, range(3, 90))
    assert freedom == 29 * 6
    for row, true in zip(rows, truth, strict=True):
        # xTB at accuracy 0.05 from another starting guess: 1e-4 kJ/mol.
        assert float(row["D (kJ/mole)"]) == pytest.approx(true["D"], abs=2e-3)
        assert float(row["Time (ps)"]) == true["time"]
        assert float(row["T QM (K)"]) == pytest.approx(true["QM"] / (0.5 * 9 * KT_300 / 300))
        mm = (true["kinetic"] - true["QM"]) / (0.5 * freedom * KT_300 / 300)
        assert float(row["T MM (K)"]) == pytest.approx(mm, rel=1e-6)
        assert (row["Faults"], row["Redone"]) == ("0", "0")
        assert float(row["Speed (ns/day)"]) > 0
    assert [int(row["Step"]) for row in rows] == [2, 4, 6, 8]
    assert int(rows[-1]["Time Left (s)"]) == 0 and float(rows[0]["Time Left (s)"]) >= 0
    assert float(rows[-1]["Mean D (kJ/mole)"]) == statistics["meanD"]._value
    assert float(rows[-1]["SD D (kJ/mole)"]) == statistics["sdD"]._value > 0
    assert int(rows[-1]["k"]) == simulation.integrator.getK()


@pytest.mark.parametrize("mollified", [False, True])
def test_impulse(droplet, tmp_path, mollified):
    integrator = KStepIntegrator(*ARGUMENTS["impulse"])
    integrator.setMollification(BONDS if mollified else [])
    rows, truth, simulation = run(droplet, integrator, tmp_path / "run.csv", progress=False)
    check_common(rows, truth, simulation)
    for row, true in zip(rows, truth, strict=True):
        potential = true["common"] + true["model"] + true["D"]
        assert float(row["Potential Energy (kJ/mole)"]) == pytest.approx(potential, abs=2e-3)
        conserved = float(row["Conserved Energy (kJ/mole)"])
        assert conserved == pytest.approx(potential + true["kinetic"], abs=2e-3)
        assert float(row["Drift (kJ/mole)"]) == conserved - float(rows[0]["Conserved Energy (kJ/mole)"])
        assert row["Acceptance"] == row["First Acceptance"] == row["Flips/ps"] == ""
    assert conserved == pytest.approx(integrator.computeConservedEnergy()._value, abs=1e-9)
    # 8 macro-steps of 2 fs, a call each and one at the start.
    assert float(rows[-1]["xTB Calls/ps"]) == pytest.approx(9 / 0.016)
    header = (tmp_path / "run.csv").read_text().splitlines()[0]
    assert header == COLUMNS + ',"Speed (ns/day)","Time Left (s)"'


def test_friction_leaves_nothing_conserved(droplet, tmp_path):
    integrator = KStepIntegrator(0.0005, 4, "impulse", 300, 5)
    simulation = simulate(droplet, integrator)
    simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, regions={"O": [0]}, progress=False))
    simulation.step(2)
    assert [row["Conserved Energy (kJ/mole)"] for row in rows_of(tmp_path / "run.csv")] == ["", ""]
    assert list(rows_of(tmp_path / "run.csv")[0])[12] == "T O (K)"


def test_metropolis(droplet, tmp_path):
    integrator = KStepIntegrator(*ARGUMENTS["metropolis"])
    rows, truth, simulation = run(droplet, integrator, tmp_path / "run.csv", progress=False)
    check_common(rows, truth, simulation)
    for row, true in zip(rows, truth, strict=True):
        potential = true["common"] + true["model"] + true["D"]
        assert float(row["Potential Energy (kJ/mole)"]) == pytest.approx(potential, abs=2e-3)
    s = integrator.getStatistics()
    time = truth[-1]["time"]
    assert time == pytest.approx(s["chances"] * 0.004)
    assert float(rows[-1]["Acceptance"]) == s["accepted"] / 8
    assert float(rows[-1]["First Acceptance"]) == s["firstAccepted"] / 8
    assert float(rows[-1]["Flips/ps"]) == pytest.approx(s["flips"] / time)
    assert float(rows[-1]["xTB Calls/ps"]) == pytest.approx(s["correctorCalls"] / time)
    assert 0 < s["firstAccepted"] < 8  # else the columns above would agree for the wrong reasons


def test_reweight(droplet, tmp_path):
    integrator = KStepIntegrator(*ARGUMENTS["reweight"])
    rows, truth, simulation = run(droplet, integrator, tmp_path / "run.csv", progress=False)
    check_common(rows, truth, simulation)
    for row, true in zip(rows, truth, strict=True):
        assert float(row["Potential Energy (kJ/mole)"]) == pytest.approx(true["common"] + true["model"], abs=1e-6)
        assert float(row["Log Weight"]) == pytest.approx(-float(row["D (kJ/mole)"]) / KT_300)
    weights = ReweightingWeights([float(row["D (kJ/mole)"]) for row in rows], 300).weights
    assert np.diff(np.log(weights)) == pytest.approx(np.diff([float(row["Log Weight"]) for row in rows]))


def test_jump(tmp_path):
    """A direct model has no D: what follows from it is blank, the rest is there."""
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in tethered.MASSES:
        topology.addAtom("C", app.element.carbon, residue)
    integrator = tethered.make_jump(tethered.exact(tmp_path, 4), 4, 10.0)
    simulation = app.Simulation(
        topology, tethered.tethered_system(), integrator, openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions(tethered.X0)
    simulation.context.setVelocities(tethered.V0)
    regions = {"QM": tethered.QM, "MM": tethered.MM}
    simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, regions=regions, progress=False))
    simulation.step(5)
    row = rows_of(tmp_path / "run.csv")[-1]
    blank = {name for name, value in row.items() if value == ""}
    assert blank == {
        *("D (kJ/mole)", "Mean D (kJ/mole)", "SD D (kJ/mole)", "Acceptance", "First Acceptance", "Flips/ps"),
        *("Potential Energy (kJ/mole)", "Conserved Energy (kJ/mole)", "Drift (kJ/mole)"),
    }
    v = integrator.computeHalfStepVelocities()._value
    assert float(row["T QM (K)"]) == pytest.approx(
        (tethered.MASSES[:, None] * v**2)[tethered.QM].sum() / (6 * KT_300 / 300)
    )
    calls = integrator.getStatistics()["correctorCalls"]
    assert float(row["xTB Calls/ps"]) == pytest.approx(calls / 0.02)
    assert calls == 1 + 2 * 5  # the scheme makes two a macro-step and one at the start; the reporter adds none


def test_append_goes_on_with_the_drift(droplet, tmp_path):
    path = tmp_path / "run.csv"
    simulation = simulate(droplet, KStepIntegrator(*ARGUMENTS["impulse"]))
    simulation.reporters.append(KStepReporter(path, 1, progress=False))
    simulation.step(2)
    checkpoint = simulation.context.createCheckpoint()
    simulation.step(3)
    whole = path.read_text()
    simulation.context.loadCheckpoint(checkpoint)
    simulation.reporters = [KStepReporter(path, 1, progress=False, append=True)]
    simulation.step(3)
    keep = [[v for k, v in row.items() if k != "Speed (ns/day)"] for row in rows_of(path)]
    path.write_text(whole)
    assert keep == [[v for k, v in row.items() if k != "Speed (ns/day)"] for row in rows_of(path)]
    simulation.reporters = [KStepReporter(path, 1, regions={"O": [0]}, progress=False, append=True)]
    with pytest.raises(ValueError, match="expected the columns"):
        simulation.step(1)


def simulate_bond(scheme, calls, broken=()) -> app.Simulation:
    """One bond; its corrector is in Python, counts its calls, by whomever they are made, and fails at some of them."""

    def bond(state):
        calls.append(1)
        x = state.getPositions(asNumpy=True)._value
        d = x[1] - x[0]
        r = np.linalg.norm(d)
        force = -2.0e5 * (r - 0.1) / r * d
        return float("nan") if len(calls) in broken else 1.0e5 * (r - 0.1) ** 2, np.array([-force, force])

    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("OH", topology.addChain())
    for element, mass in ((app.element.oxygen, 16), (app.element.hydrogen, 1)):
        topology.addAtom(element.symbol, element, residue)
        system.addParticle(mass)
    corrector, model = openmm.PythonForce(bond, {}), openmm.HarmonicBondForce()
    model.addBond(0, 1, 0.1, 1.9e5)
    for force, group in ((corrector, 1), (model, 2)):
        force.setForceGroup(group)
        system.addForce(force)
    integrator = KStepIntegrator(*ARGUMENTS["impulse" if scheme == "mollified" else scheme])
    integrator.setRandomNumberSeed(1)
    integrator.setMollification([(0, 1, 0.1)] if scheme == "mollified" else [])
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions([(0, 0, 0), (0.102, 0, 0)])
    simulation.context.setVelocitiesToTemperature(300, 1)
    return simulation


@pytest.mark.parametrize("scheme", ["impulse", "mollified", "metropolis", "reweight"])
def test_no_call_of_the_corrector_is_added(scheme, tmp_path):
    counts = []
    for report in (False, True):
        calls = []
        simulation = simulate_bond(scheme, calls)
        if report:
            simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, progress=False))
        simulation.step(10)
        counts.append(len(calls))
    assert counts[0] == counts[1] >= 10


def test_faults_and_steps_without_the_model(tmp_path):
    """Three failures in a row bring k from 4 to 2, 1 and 0, steps without the model; then it comes back."""
    counts = []
    for report in (False, True):
        calls = []
        simulation = simulate_bond("impulse", calls, broken=(6, 7, 8))
        if report:
            simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, progress=False))
        simulation.step(60)
        counts.append(len(calls))
    assert counts[0] == counts[1]
    rows = rows_of(tmp_path / "run.csv")
    statistics = simulation.integrator.getStatistics()
    assert statistics["nonFinite"] == 3 and statistics["plainMacroSteps"] >= 8
    assert [int(row["Faults"]) for row in rows] == [0] * 4 + [3] * 56
    assert [int(row["Redone"]) for row in rows] == [0] * 4 + [statistics["redone"]] * 56
    k = [int(row["k"]) for row in rows]
    assert k[:5] == [4, 4, 4, 4, 0] and k[-1] == 4 and {0, 1, 2, 4} == set(k)
    # The step that brings k back to 1 was still made without the model.
    plain = [0 in k[max(0, i - 1) : i + 1] for i in range(60)]
    assert sum(plain) == statistics["plainMacroSteps"]
    for row, is_plain in zip(rows, plain, strict=True):
        for name in ("D (kJ/mole)", "Potential Energy (kJ/mole)", "Conserved Energy (kJ/mole)", "Drift (kJ/mole)"):
            assert (row[name] == "") == is_plain


def test_live_progress(droplet, tmp_path, capsys, monkeypatch):
    simulation = simulate(droplet, KStepIntegrator(*ARGUMENTS["metropolis"]))
    simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, totalSteps=4))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    simulation.step(4)
    shown = capsys.readouterr().err
    assert "\r" in shown and "4/4" in shown and "accepted" in shown and "sd(D)" in shown


def test_progress_line(droplet, tmp_path, capsys):
    simulation = simulate(droplet, KStepIntegrator(*ARGUMENTS["impulse"]))
    simulation.reporters.append(KStepReporter(tmp_path / "run.csv", 1, totalSteps=4))
    simulation.step(4)
    # Not a terminal: one line at the end of a run shorter than 15 s.
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "4/4" in lines[0] and "ns/day" in lines[0] and "drift" in lines[0] and "QM" in lines[0]


def test_refusals(droplet, tmp_path):
    with pytest.raises(ValueError, match="at least one macro-step"):
        KStepReporter(tmp_path / "a.csv", 0)
    simulation = simulate(droplet, KStepIntegrator(*ARGUMENTS["impulse"]))
    reporter = KStepReporter(tmp_path / "a.csv", 1)
    simulation.reporters = [app.CheckpointReporter(str(tmp_path / "a.chk"), 1), reporter]
    with pytest.raises(ValueError, match="before the CheckpointReporter"):
        simulation.step(1)
    simulation.reporters = [KStepReporter(tmp_path / "a.csv", 1, weights=True)]
    with pytest.raises(ValueError, match="weights belong to the scheme 'reweight'"):
        simulation.step(1)
    simulation.reporters = [KStepReporter(tmp_path / "a.csv", 1, regions={"nothing": []})]
    with pytest.raises(ValueError, match="'nothing' has no degrees of freedom"):
        simulation.step(1)
    assert not (tmp_path / "a.csv").exists()
    other = app.Simulation(droplet.topology, droplet.system, openmm.VerletIntegrator(0.001 * unit.picosecond))
    other.reporters = [KStepReporter(tmp_path / "a.csv", 1)]
    with pytest.raises(ValueError, match="found a VerletIntegrator"):
        other.step(1)
