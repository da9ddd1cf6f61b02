"""OpenCL and CUDA against Reference, with real xTB, models and boxes. Skipped where OpenMM has no device for them.

The platform named by the environment variable OPENMMKSTEP_REQUIRE must be there: its tests fail then instead.
"""

import copy
import gc
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from small_systems import alanine_dipeptide
from tethered import DT, V0, X0, exact, make_context, make_jump, tethered_system

import openmmkstep
from openmmkstep import KStepIntegrator, createQMMMSystem

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alanine_dipeptide.droplet import Droplet

DOUBLE, MIXED, SINGLE = "double", "mixed", "single"
# Lengths in nm after some 100 steps, and forces relative to the largest.
LENGTHS = {DOUBLE: 2e-7, MIXED: 4e-6, SINGLE: 2e-5}
FORCES = {DOUBLE: 1e-6, MIXED: 1e-5, SINGLE: 1e-4}


def find_platform(name: str) -> openmm.Platform:
    """The platform, if a Context can be made on it."""
    try:
        platform = openmm.Platform.getPlatformByName(name)
        system = openmm.System()
        system.addParticle(1)
        openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    except openmm.OpenMMException as e:
        if os.environ.get("OPENMMKSTEP_REQUIRE") == name:
            raise
        pytest.skip(f"OpenMM's platform {name} cannot be used here: {e}")
    return platform


@pytest.fixture(scope="module", params=["OpenCL", "CUDA"])
def platform(request) -> openmm.Platform:
    return find_platform(request.param)


def start(system, integrator, x, platform="Reference", precision=None, seed=4) -> openmm.Context:
    if isinstance(platform, str):
        platform = openmm.Platform.getPlatformByName(platform)
    properties = {} if precision is None else {"Precision": precision}
    context = openmm.Context(system, integrator, platform, properties)
    context.setPositions(x)
    context.setVelocitiesToTemperature(300, seed)
    return context


def get(context, what: str, groups=-1) -> np.ndarray:
    state = context.getState(**{f"get{what}": True}, groups=groups)
    return np.array(getattr(state, f"get{what}")(asNumpy=True)._value)


def energy_of(context, groups=-1) -> float:
    return context.getState(getEnergy=True, groups=groups).getPotentialEnergy()._value


def assert_forces(expected, found, precision: str) -> None:
    largest = np.linalg.norm(expected, axis=1).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=FORCES[precision] * largest)


@pytest.fixture(scope="module")
def solvated():
    """The example's droplet with model, at rest."""
    droplet = Droplet()
    return droplet.create_system(with_model=True, heavy_hydrogen=True), np.array(
        droplet.positions.value_in_unit(unit.nanometer)
    )


@pytest.fixture(scope="module")
def cut_in_box():
    """A methyl group of alanine dipeptide as QM region (a link atom, virtual charges) in a PME box with switched groups."""
    options = {"nonbondedMethod": app.PME, "ewaldErrorTolerance": 1e-4, "constraints": app.HBonds}
    topology, mm, x = alanine_dipeptide(60, "triclinic", **options)
    # The walls go through the molecule.
    return createQMMMSystem(topology, mm, [10, 11, 12, 13], cutoff=0.55, switchingDistance=0.30), x - x[10] + 0.03


@pytest.mark.parametrize("precision", [DOUBLE, MIXED, SINGLE])
def test_forces_in_a_droplet(precision, platform, solvated):
    system, x = solvated
    contexts = [
        start(system, KStepIntegrator(0.002, 8, "metropolis", 300, 1), x, *where)
        for where in ((), (platform, precision))
    ]
    for groups in ({1}, {2}, {0, 2}, {0, 1, 2}):
        expected, found = (get(c, "Forces", groups) for c in contexts)
        assert_forces(expected, found, precision)
        a, b = (energy_of(c, groups) for c in contexts)
        assert b == pytest.approx(a, abs={DOUBLE: 1e-3, MIXED: 0.05, SINGLE: 0.3}[precision])
    # The model stands back where the corrector is asked for.
    both, corrector, common = (energy_of(contexts[1], groups) for groups in ({0, 1, 2}, {1}, {0}))
    assert both == pytest.approx(corrector + common, abs=0.1)


@pytest.mark.parametrize("precision", [DOUBLE, MIXED])
def test_forces_in_a_box(precision, platform, cut_in_box):
    """Images, switching, a link atom and virtual charges, also after molecules have crossed the walls and were sorted."""
    system, x = cut_in_box
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.001)
    context = start(system, integrator, x, platform, precision)
    reference = start(system, openmm.VerletIntegrator(0.001), x)
    for _ in range(4):
        here = context.getState(getPositions=True, enforcePeriodicBox=False).getPositions(asNumpy=True)
        reference.setPositions(here)
        assert_forces(get(reference, "Forces", {1}), get(context, "Forces", {1}), precision)
        assert energy_of(context, {1}) == pytest.approx(energy_of(reference, {1}), abs=1e-3)
        integrator.step(60)


@pytest.mark.parametrize("precision", [DOUBLE, MIXED, SINGLE])
@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_paths(scheme, precision, platform, solvated):
    """Without noise to speak of, real xTB and a model give the same path as on Reference."""
    system, x = solvated
    results = []
    for where in ((), (platform, precision)):
        integrator = KStepIntegrator(0.001, 4, scheme, 300, 0 if scheme == "impulse" else 1e-13)
        integrator.setRandomNumberSeed(5)
        integrator.setConstraintTolerance(1e-7)
        context = start(system, integrator, x, *where)
        integrator.step(8)
        results.append((get(context, "Positions"), integrator.getStatistics(), integrator.computeD()))
    (x0, s0, d0), (x1, s1, d1) = results
    assert np.abs(x0 - x).max() > 0.01
    np.testing.assert_allclose(x1, x0, rtol=0, atol=LENGTHS[precision])
    assert (s0["accepted"], s0["flips"], s0["correctorCalls"]) == (s1["accepted"], s1["flips"], s1["correctorCalls"])
    assert d1._value == pytest.approx(d0._value, abs=0.05)


@pytest.mark.parametrize("precision", [DOUBLE, MIXED])
def test_jump(precision, platform, tmp_path):
    results = []
    for where, properties in (("Reference", {}), (platform.getName(), {"Precision": precision})):
        for name, value in properties.items():
            openmm.Platform.getPlatformByName(where).setPropertyDefaultValue(name, value)
        integrator = make_jump(exact(tmp_path, 5), 5)
        context = make_context(tethered_system(), integrator, platform=where)
        integrator.step(40)
        results.append((get(context, "Positions"), get(context, "Velocities")))
    assert np.abs(results[0][0] - X0).max() > 0.01
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=10 * LENGTHS[precision])


def test_production_with_noise(platform, solvated):
    """Metropolis with friction and sorting: accepted as the example is, the temperature near the thermostat's."""
    system, x = solvated
    integrator = KStepIntegrator(0.002, 16, "metropolis", 300, 2)
    integrator.setRandomNumberSeed(8)
    context = start(system, integrator, x, platform, MIXED)
    temperatures = []
    for _ in range(30):
        integrator.step(1)
        temperatures.append(context.getState(getEnergy=True).getKineticEnergy()._value)
    statistics = integrator.getStatistics()
    assert statistics["firstAccepted"] >= 24  # 0.96 on other platforms: fewer than 24 of 30 by chance 1e-5
    degrees = 3 * system.getNumParticles() - system.getNumConstraints()
    mean = np.mean(temperatures[10:]) / (0.5 * degrees * 8.31446e-3)
    assert 270 < mean < 330  # the fluctuation of one frame is 8 K


def test_torch_on_the_same_device(platform, solvated):
    """OpenMM's and torch's contexts of the driver take turns on one GPU."""
    if platform.getName() != "CUDA" or not torch.cuda.is_available():
        pytest.skip("needs OpenMM's and torch's CUDA")
    system, x = solvated
    onDevice = copy.deepcopy(system)
    (model,) = [f for f in map(openmmkstep.cast, onDevice.getForces()) if isinstance(f, openmmkstep.KStepModelForce)]
    model.setDevice("cuda")
    positions = []
    for each in (system, onDevice):
        context = start(each, KStepIntegrator(0.001, 4, "impulse"), x, platform, DOUBLE)
        context.getIntegrator().step(8)
        positions.append(get(context, "Positions"))
    np.testing.assert_allclose(positions[1], positions[0], rtol=0, atol=1e-6)


def test_several_contexts(platform, solvated):
    """Contexts side by side do not disturb each other: each repeats the path that it makes alone."""
    system, x = solvated

    def make():
        integrator = KStepIntegrator(0.001, 4, "impulse")
        return start(system, integrator, x, platform, DOUBLE), integrator

    alone, integrator = make()
    integrator.step(4)
    expected = get(alone, "Positions")
    pair = [make(), make()]
    for _ in range(4):
        for _, integrator in pair:
            integrator.step(1)
    for context, _ in pair:
        np.testing.assert_allclose(get(context, "Positions"), expected, rtol=0, atol=1e-9)


def test_created_and_destroyed(platform):
    """Contexts leave no memory behind (benchmarks/gpu/create_destroy.py makes ten thousand)."""

    def cycle():
        integrator = KStepIntegrator(DT, 4)
        context = make_context(tethered_system(), integrator, X0, V0, platform.getName())
        integrator.step(1)
        del context

    for _ in range(20):
        cycle()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(60):
        cycle()
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB: 500 for a Context


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a polar cut
def test_before_any_evaluation(platform):
    """The check for resonances sorts atoms and comes before OpenMM has set any charge: neither may be kept or lost."""
    topology, mm, x = alanine_dipeptide(60, "cubic", nonbondedMethod=app.PME, ewaldErrorTolerance=1e-4)
    system = createQMMMSystem(topology, mm, range(8, 16), cutoff=0.5, switchingDistance=0.3)
    velocities = []
    for evaluateFirst in (False, True):
        integrator = KStepIntegrator(1e-5, 2)
        context = start(system, integrator, x, platform, DOUBLE)
        before = get(context, "Velocities")
        if evaluateFirst:
            get(context, "Forces")
        integrator.step(1)
        velocities.append(get(context, "Velocities"))
        # A bond to hydrogen was stretched in the check, and its atoms are where they were.
        assert np.abs(get(context, "Positions") - x - 2e-5 * before).max() < 2e-4
    np.testing.assert_allclose(velocities[0], velocities[1], rtol=0, atol=1e-8)


def test_page(platform):
    """The script of docs/gpu.md runs as it is printed."""
    root = Path(__file__).parents[2]
    (script,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "gpu.md").read_text(), re.DOTALL)
    script = script.replace('"OpenCL"', repr(platform.getName())) + "\nprint(integrator.getStatistics()['macroSteps'])"
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "2"


def test_reported(platform):
    """What `openmmkstep.check_installation()` prints names the platform."""
    assert platform.getName() in openmmkstep.check_installation().splitlines()[1]
