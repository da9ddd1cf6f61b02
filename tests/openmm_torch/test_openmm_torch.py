"""TorchForce against KStepModelForce, in an environment where openmm-torch works: `make test-openmm-torch`.

What was measured, and with which versions, goes into result.json beside this file where no test has failed.
"""

import copy
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "python"), str(ROOT / "tests" / "models")]

import generate  # noqa: E402
from conftest import energy_forces, energy_of, get_positions, run_python  # noqa: E402
from small_systems import BOXES, alanine_dipeptide, nonbonded_of, water_box, wrapped_at_random  # noqa: E402
from test_torchforce import cut_system, force_of  # noqa: E402

import openmmkstep  # noqa: E402
from openmmkstep import KStepIntegrator, XtbForce, cast, createQMMMSystem, readContract, saveModel  # noqa: E402
from openmmkstep.torchforce import addTorchForce, probeOpenMMTorch, replaceModelForce  # noqa: E402

MODEL = ROOT / "examples" / "alanine_dipeptide" / "model.pt"
DT = 0.5 * unit.femtosecond
TEMPERATURE = 300 * unit.kelvin
TOLERANCE = 1e-6  # nm
result = {}


@pytest.fixture(scope="module", autouse=True)
def results(request):
    torch.set_num_threads(1)
    yield
    if request.session.testsfailed:
        return
    packages = ("openmmkstep", "openmm", "openmmtorch", "torch", "xtb", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    versions |= {"python": platform.python_version(), "machine": platform.machine()}
    file = Path(__file__).with_name("result.json")
    old = json.loads(file.read_text()) if file.exists() else {}
    kept = old.get("measured", {}) if old.get("versions") == versions else {}
    new = {"versions": versions, "cuda": "not run: no GPU", "measured": dict(sorted({**kept, **result}.items()))}
    file.write_text(json.dumps(new, indent=2) + "\n")


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """The example's model with networks in double precision, so that the order of sums does not matter."""
    path = tmp_path_factory.mktemp("double") / "model.pt"
    saveModel(torch.jit.load(MODEL).double(), path, readContract(MODEL))
    return path


@pytest.fixture(scope="module")
def make(tmp_path_factory, double):
    """A function from 'droplet', 'box' or 'cut' to topology, System with a KStepModelForce, and positions."""
    folder = tmp_path_factory.mktemp("models")
    generate.write("phi_charges", folder / "water.pt")

    def get(kind: str):
        if kind == "droplet":  # the example's molecule and model among 30 waters
            topology, mm, x = alanine_dipeptide(30)
            return topology, createQMMMSystem(topology, mm, range(22), model=double, positions=x), x
        if kind == "box":  # a QM water in a periodic box, groups of charges switched off with distance
            topology, mm, x = water_box(40, "triclinic")
            radii = {"switchingDistance": 0.4, "cutoff": 0.7}
            system = createQMMMSystem(topology, mm, range(3), model=folder / "water.pt", **radii)
        else:
            with pytest.warns(UserWarning):  # of cuts through polar bonds
                topology, system, x = cut_system(folder, "three cuts", "rcd", "triclinic")
        nonbonded_of(system).setPMEParameters(3.5, 24, 24, 24)
        return topology, system, wrapped_at_random(topology, x, BOXES["triclinic"], 1)

    return get


def pair(system):
    """The System as it is, and a copy with a TorchForce."""
    other = copy.deepcopy(system)
    replaceModelForce(other)
    return system, other


def make_context(system, x, integrator=None, name="Reference"):
    for force in map(cast, system.getForces()):
        if isinstance(force, XtbForce):
            force.setAccuracy(0.01)
    integrator = integrator or openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(name))
    context.setPositions(x)
    return context


def make_integrator(scheme: str, k: int):
    integrator = KStepIntegrator(DT, k, scheme, temperature=TEMPERATURE if scheme == "metropolis" else None)
    integrator.setRandomNumberSeed(5)
    return integrator


def test_probe():
    probe = probeOpenMMTorch()
    assert probe.works and re.fullmatch(r"openmm-torch 1\.5 with torch 2\.9\..* works\.", probe.message)
    assert probe.message in openmmkstep.check_installation().splitlines()


@pytest.mark.parametrize("name", ["Reference", "CPU"])
@pytest.mark.parametrize("kind", ["droplet", "box", "cut"])
def test_energy_and_forces(kind, name, make):
    _, system, x = make(kind)
    system, other = pair(system)
    energy, forces = energy_forces(make_context(other, x, name=name), {2})
    expected, expected_forces = energy_forces(make_context(system, x, name=name), {2})
    # The CPU platform keeps positions and forces in single precision, for both in the same way.
    assert energy == pytest.approx(expected, rel=1e-9 if name == "Reference" else 1e-7)
    difference = np.abs(forces - expected_forces).max() / np.abs(expected_forces).max()
    assert difference < (1e-9 if name == "Reference" else 1e-6)
    result[f"relative difference of forces, {kind}, {name}"] = float(f"{difference:.1e}")


@pytest.mark.parametrize("scheme, k", [("impulse", 4), ("metropolis", 8)])
@pytest.mark.parametrize("kind", ["droplet", "box", "cut"])
def test_trajectory(kind, scheme, k, make):
    """100 macro-steps in double precision."""
    _, system, x = make(kind)
    x = minimized(system, x)
    ends = []
    for s in pair(system):
        integrator = make_integrator(scheme, k)
        context = make_context(s, x, integrator)
        context.setVelocitiesToTemperature(TEMPERATURE, 3)
        integrator.step(100)
        ends.append((get_positions(context), integrator.getStatistics(), context.getTime()._value))
    (expected, statistics, t), (found, other_statistics, other_t) = ends
    if statistics["accepted"] or scheme == "impulse":
        assert np.abs(expected - x).max() > 0.005
    assert np.abs(found - expected).max() < TOLERANCE
    for name in ("macroSteps", "accepted", "flips", "correctorCalls", "redone", "plainMacroSteps"):
        assert statistics[name] == other_statistics[name], name
    assert t == other_t
    result[f"largest deviation after 100 macro-steps, {kind}, {scheme}, k = {k} (nm)"] = float(
        f"{np.abs(found - expected).max():.1e}"
    )


def minimized(system, x):
    integrator = make_integrator("impulse", 1)
    context = make_context(copy.deepcopy(system), x, integrator)
    openmm.LocalEnergyMinimizer.minimize(context, 50, 20)
    return get_positions(context)


def test_who_sees_which_energy(make, tmp_path):
    """Reporters and the minimizer see the true energy; a bare getState() of all groups counts the region twice."""
    topology, system, x = make("droplet")
    energies, logs = [], []
    for n, s in enumerate(pair(system)):
        integrator = make_integrator("impulse", 4)
        simulation = app.Simulation(topology, s, integrator, openmm.Platform.getPlatformByName("Reference"))
        simulation.context.setPositions(x)
        simulation.minimizeEnergy(maxIterations=5)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, 3)
        log = tmp_path / f"{n}.csv"
        simulation.reporters.append(app.StateDataReporter(str(log), 1, potentialEnergy=True, totalEnergy=True))
        simulation.step(3)
        logs.append(np.loadtxt(log, delimiter=",", skiprows=1))
        energies.append([energy_of(simulation.context, g) for g in (-1, integrator.getIntegrationForceGroups(), {2})])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-7)
    (all_groups, true, model), (torch_all, torch_true, _) = energies
    assert all_groups == pytest.approx(true, rel=1e-12)
    assert torch_true == pytest.approx(true, rel=1e-9)
    assert torch_all == pytest.approx(true + model, rel=1e-9)


def test_barostat(make):
    """Its trials see the true energy too."""
    _, system, x = make("box")
    barostat = openmm.MonteCarloBarostat(1, TEMPERATURE, 2)
    barostat.setRandomNumberSeed(3)
    system.addForce(barostat)
    ends = []
    for s in pair(system):
        integrator = make_integrator("metropolis", 4)
        context = make_context(s, x, integrator)
        context.setVelocitiesToTemperature(TEMPERATURE, 3)
        integrator.step(40)
        ends.append((get_positions(context), context.getState().getPeriodicBoxVolume()._value))
    assert ends[0][1] != pytest.approx(2.2 * 2.0 * 1.9, rel=1e-6)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-9)
    assert np.abs(ends[1][0] - ends[0][0]).max() < TOLERANCE


def test_checkpoint(make):
    """A run that goes on from a checkpoint ends where the uninterrupted one does."""
    _, system, x = make("droplet")
    _, other = pair(system)
    integrator = make_integrator("metropolis", 4)
    context = make_context(other, x, integrator)
    context.setVelocitiesToTemperature(TEMPERATURE, 3)
    integrator.step(3)
    checkpoint = context.createCheckpoint()
    integrator.step(3)
    expected = get_positions(context)
    context.setPositions(x)
    context.loadCheckpoint(checkpoint)
    integrator.step(3)
    np.testing.assert_array_equal(get_positions(context), expected)


def test_added_to_a_system_without_a_model(double):
    topology, mm, x = alanine_dipeptide(5)
    with_model = createQMMMSystem(topology, mm, range(22), model=double, positions=x)
    system = createQMMMSystem(topology, mm, range(22))
    addTorchForce(system, topology, double, x)
    energy, forces = energy_forces(make_context(system, x), {2})
    expected, expected_forces = energy_forces(make_context(with_model, x), {2})
    assert energy == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(forces, expected_forces, rtol=1e-9, atol=1e-6)
    with pytest.raises(ValueError, match="without a force in the model's group"):
        addTorchForce(system, topology, double, x)
    with pytest.raises(ValueError, match="one KStepModelForce, found 0"):
        replaceModelForce(system)


def test_replacement_checks_the_system(make):
    _, system, _ = make("box")
    xtb = next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))
    system.addForce(copy.deepcopy(force_of(system)))
    with pytest.raises(ValueError, match="one KStepModelForce, found 2"):
        replaceModelForce(system)
    system.removeForce(system.getNumForces() - 1)
    number = system.getNumForces()
    other = XtbForce("GFN2-xTB", xtb.getParticles(), xtb.getAtomicNumbers(), 2)
    other.setForceGroup(1)
    system.addForce(other)
    with pytest.raises(ValueError, match="Expected a model for charge 2"):
        replaceModelForce(system)
    assert system.getNumForces() == number + 1 and force_of(system) is not None


@pytest.mark.parametrize("first", ["torch", "openmm"])
def test_order_of_imports(first):
    """openmm-torch's plugin is found wherever torch was imported before OpenMM, and loaded later where it was not."""
    code = f"""
import {first}
import openmm, torch
from openmmkstep import KStepModelForce
from openmmkstep.torchforce import createTorchForce
model = {str(MODEL)!r}
system = openmm.System()
for _ in range(22):
    system.addParticle(12)
system.addForce(createTorchForce(model, KStepModelForce(model, range(22))))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU"))
context.setPositions([(0.1 * i, 0.01 * i * i, 0) for i in range(22)])
print("energy", context.getState(energy=True).getPotentialEnergy()._value)
"""
    output = run_python(code)
    assert re.search(r"energy -?[0-9.]+", output.stdout), output.stderr


def test_without_our_torch_library():
    """A run with addTorchForce() never loads libOpenMMKStepTorch."""
    script = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "openmm-torch.md").read_text(), re.DOTALL).group(1)
    assert "simulation.step(100)" in script
    script = script.replace("simulation.step(100)", "simulation.step(3)").replace('"log.csv"', "os.devnull")
    script = f"import os\n{script}\nprint('maps', 'libOpenMMKStepTorch' in open('/proc/self/maps').read())"
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "maps False" in output.stdout, output.stderr


def test_cost(make):
    """CPU time of one evaluation of the model's group, forces included; for the record."""
    _, system, x = make("droplet")
    for name, s in zip(("KStepModelForce", "TorchForce"), pair(system), strict=True):
        context = make_context(s, x)
        times = []
        for n in range(60):
            context.setPositions(x + 1e-5 * n)
            start = time.process_time()
            context.getState(forces=True, groups={2})
            times.append(time.process_time() - start)
        result[f"CPU time of one call, droplet, {name} (ms)"] = round(1000 * float(np.median(times[20:])), 2)
