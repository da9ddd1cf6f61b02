"""tblite as XtbForce's engine: right energies and derivatives, a restart to the last bit, failures, threads, memory.

Tolerances of forces as in test_xtb_force.py: 2e-3 kJ/mol/nm for differences at accuracy 0.01.
"""

import numpy as np
import openmm
import pytest
from conftest import (
    CHARGES,
    KJ_PER_HARTREE,
    MOLECULES,
    NM_PER_BOHR,
    energy_forces,
    energy_of,
    get_positions,
    in_threads,
    make_context,
    make_xtb,
    memory,
    numerical_forces,
    rotation_matrix,
    run_python,
)
from openmm import unit
from small_systems import alanine_dipeptide
from training_molecules import ETHANOL, ETHANOL_X

from openmmkstep import KStepIntegrator, XtbForce

pytest.importorskip("tblite", reason="needs the package tblite")


def can_load(engine: str) -> bool:
    try:
        return bool(XtbForce.getEngineInfo(engine))
    except openmm.OpenMMException:
        return False


needs_libxtb = pytest.mark.skipif(not can_load("libxtb"), reason="needs libxtb, to compare with")

METHODS = ["GFN1-xTB", "GFN2-xTB"]
FORCE_TOLERANCE = 2e-3  # kJ/mol/nm
MIXED = ["water", "CO2", "bent water", "formaldehyde", "ammonium", "formate", "O2", "methyl", "ethanol", "dipeptide"]


def make(name: str, method: str, engine: str = "tblite", accuracy: float = 0.01):
    if name == "ethanol":
        force, x = XtbForce(method, range(9), ETHANOL[0]), ETHANOL_X.copy()
        force.setAccuracy(accuracy)
    elif name == "dipeptide":
        topology, _, x = alanine_dipeptide(0, None)
        force = XtbForce(method, range(22), [a.element.atomic_number for a in topology.atoms()])
        force.setAccuracy(accuracy)
    else:
        force, x = make_xtb(name, method, accuracy=accuracy)
    force.setEngine(engine)
    assert force.findEngine() == engine
    return force, x


def charges_of(force, context):
    return np.array([q.value_in_unit(unit.elementary_charge) for q in force.getPartialCharges(context)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["water", "HCN", "CO2", "formaldehyde", "ammonium", "formate", "O2", "methyl"])
@pytest.mark.parametrize("frame", ["aligned", "rotated"])
def test_forces_are_minus_the_gradient(name, method, frame):
    force, x = make(name, method)
    if frame == "rotated":
        x = x @ rotation_matrix(5).T + [0.3, -0.2, 1.1]
    context = make_context(force, len(x), x)
    forces = energy_forces(context)[1]
    np.testing.assert_allclose(forces, numerical_forces(context), atol=FORCE_TOLERANCE, rtol=0)
    assert np.abs(forces).max() > 10
    assert charges_of(force, context).sum() == pytest.approx(MOLECULES[name][2], abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bent water", "ammonium", "formate", "methyl", "ethanol"])
def test_same_as_the_python_interface_of_tblite(name, method):
    """Without our rotation, and with tblite's own reading of charge and spin."""
    from tblite.interface import Calculator

    force, x = make(name, method)
    calculator = Calculator(
        method,
        np.array(force.getAtomicNumbers()),
        x / NM_PER_BOHR,
        charge=float(force.getCharge()),
        uhf=force.getMultiplicity() - 1,
    )
    for key, value in (("verbosity", 0), ("accuracy", 0.01), ("temperature", 400 * 3.166808578545117e-06)):
        calculator.set(key, value)
    result = calculator.singlepoint()
    force.setElectronicTemperature(400)
    energy, forces = energy_forces(context := make_context(force, len(x), x))
    # Two SCF runs of the same input in frames rotated against each other: 1e-10 of the energy.
    assert energy == pytest.approx(float(result["energy"]) * KJ_PER_HARTREE, abs=1e-6)
    np.testing.assert_allclose(-forces * NM_PER_BOHR / KJ_PER_HARTREE, result["gradient"], atol=1e-7, rtol=0)
    np.testing.assert_allclose(charges_of(force, context), result["charges"], atol=1e-6, rtol=0)


@needs_libxtb
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MIXED)
def test_engines_agree(name, method):
    results = {}
    for engine in ("libxtb", "tblite"):
        force, x = make(name, method, engine, accuracy=1e-4)
        context = make_context(force, len(x), x)
        state = force.computeQMRegion(context)
        energy, forces = energy_forces(context)
        assert state.energy == energy
        np.testing.assert_array_equal(state.forces, forces)
        results[engine] = (energy, forces, state.charges)
    (e1, f1, q1), (e2, f2, q2) = results.values()
    # Converged SCF: what is left is 1.3e-9 of the energy (6e-5 kJ/mol for the dipeptide) and 2e-4 kJ/mol/nm, of forces of
    # hundreds, at most; 9e-9 e.
    assert abs(e1 - e2) < 2.5e-9 * abs(e1)
    np.testing.assert_allclose(f1, f2, atol=4e-4, rtol=0)
    assert np.linalg.norm(f1 - f2) < 1e-6 * np.linalg.norm(f1) or name == "O2"  # which is near its minimum
    np.testing.assert_allclose(q1, q2, atol=1e-7)


@needs_libxtb
def test_settings_reach_tblite():
    """Each changes the result as it does with libxtb: smearing lowers the free energy by the same amount."""
    drops = []
    for engine in ("libxtb", "tblite"):
        energies = []
        for temperature in (300, 6000):
            force, x = make("formaldehyde", "GFN2-xTB", engine)
            force.setElectronicTemperature(temperature * unit.kelvin)
            energies.append(energy_of(make_context(force, 4, x)))
        drops.append(energies[0] - energies[1])
    assert drops[0] > 0.1
    assert drops[1] == pytest.approx(drops[0], abs=1e-4)
    exact, loose = (
        energy_of(make_context(make("formaldehyde", "GFN2-xTB", accuracy=a)[0], 4, x)) for a in (0.001, 100)
    )
    assert 1e-7 < abs(exact - loose) < 1


@pytest.mark.parametrize("method", METHODS)
def test_scf_failure_and_recovery(method):
    force, x = make("formaldehyde", method, accuracy=0.2)
    expected = energy_of(make_context(force, 4, x))
    force, _ = make("formaldehyde", method, accuracy=0.2)
    force.setMaxIterations(2)
    context = make_context(force, 4, x)
    for _ in range(3):
        message = r"(?s)failed at the current positions.*converge.*setMaxIterations"
        with pytest.raises(openmm.OpenMMException, match=message):
            energy_of(context)
    force.setMaxIterations(250)
    context.reinitialize()
    context.setPositions(x)
    assert energy_of(context) == pytest.approx(expected, abs=1e-6)


def test_a_failed_scf_is_a_rejection():
    """A proposal where the SCF does not converge is rejected, and no error: that takes a ConvergenceError."""

    def corrector(iterations: int):
        force, x = make("formaldehyde", "GFN2-xTB")
        force.setMaxIterations(iterations)
        force.setForceGroup(1)
        return force, x

    def converges(iterations: int, positions) -> bool:
        try:
            energy_of(make_context(corrector(iterations)[0], 4, positions))
        except openmm.OpenMMException:
            return False
        return True

    x = corrector(250)[1]
    stretched = x + [[0, 0, 0.15], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    enough = next(n for n in range(2, 100) if converges(n, x))
    assert not converges(enough, stretched) and converges(250, stretched)
    model = openmm.CustomExternalForce("-10*(z-z0)/(0.5*0.002^2/12)*0.015")  # 0.15 nm in 2 fs from rest
    model.addPerParticleParameter("z0")
    model.addParticle(0, [x[0, 2]])
    model.setForceGroup(2)
    integrator = KStepIntegrator(0.0005, 4, "metropolis", 300)
    context = make_context([corrector(enough)[0], model], 4, x, integrator)
    integrator.step(1)
    statistics = integrator.getStatistics()
    assert (statistics["macroSteps"], statistics["accepted"]) == (1, 0)
    np.testing.assert_array_equal(get_positions(context), x)


def test_warm_start_is_forgotten_for_restarts():
    """A run that wrote a checkpoint and the one that reads it go on alike, to the last bit."""

    def start():
        force, x = make("ethanol", "GFN2-xTB", accuracy=1)
        force.setForceGroup(1)
        model = openmm.HarmonicBondForce()
        for a, b in ETHANOL[1]:
            model.addBond(a, b, float(np.linalg.norm(x[a] - x[b])), 2e5)
        model.setForceGroup(2)
        return make_context([force, model], 9, x, KStepIntegrator(0.0005, 2, "impulse", 300, 1))

    context = start()
    context.getIntegrator().setRandomNumberSeed(3)
    context.reinitialize(preserveState=True)
    context.getIntegrator().step(5)
    checkpoint = context.createCheckpoint()
    x = get_positions(context)
    context.getIntegrator().step(5)
    other = start()
    other.getIntegrator().step(2)
    other.loadCheckpoint(checkpoint)
    other.getIntegrator().step(5)
    np.testing.assert_array_equal(get_positions(other), get_positions(context))
    # The test has something to find: at this accuracy a warm start leaves its mark.
    warm, cold = (make_context(make("ethanol", "GFN2-xTB", accuracy=1)[0], 9, ETHANOL_X) for _ in range(2))
    energy_of(warm)
    warm.setPositions(x)
    cold.setPositions(x)
    assert energy_of(warm) != energy_of(cold)


VIOLENT = {
    "two atoms in one place": [[0, 0, 0], [0.09, 0.03, 0], [0.09, 0.03, 0]],
    "atoms nearly in one place": [[0, 0, 0], [0.09, 0.03, 0], [0.09, 0.03, 1e-5]],
    "all atoms in 0.001 nm": [[0, 0, 0], [0.0005, 0, 0], [0, 0.0005, 0]],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", VIOLENT)
def test_violent_geometry(case, method):
    """Either a finite energy or an exception that says what failed; good positions work as before afterwards."""
    force, x = make("bent water", method)
    expected, forces = energy_forces(make_context(force, 3, x))
    force, _ = make("bent water", method)
    context = make_context(force, 3, x)
    for start in ("warm", "cold after a failure"):
        if start == "warm":
            energy_of(context)
        context.setPositions(VIOLENT[case])
        try:
            assert np.isfinite(energy_of(context))
        except openmm.OpenMMException as e:
            assert "XtbForce: " in str(e) and "at the current positions" in str(e)
        context.setPositions(x)
        energy, forces2 = energy_forces(context)
        assert energy == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(forces2, forces, atol=2e-3, rtol=0)


def test_no_growth():
    """See test_xtb_contexts.py: a leak of one list in each of 3000 calls is 0.2 MB, one of tblite's results 6 MB."""
    force, x = make("bent water", "GFN2-xTB", accuracy=1)
    context = make_context(force, 3, x, openmm.VerletIntegrator(1e-5))
    context.getIntegrator().step(1000)

    def cycle(times):
        for _ in range(times):
            energy_of(make_context(make("bent water", "GFN1-xTB")[0], 3, x))

    cycle(50)
    start = memory()
    context.getIntegrator().step(3000)
    cycle(200)
    assert memory() - start < 2


def trajectory(name: str, method: str, engine: str) -> np.ndarray:
    force, x = make(name, method, engine)
    context = make_context(force, len(x), x)
    context.getIntegrator().step(50)
    return energy_forces(context)[1]


@needs_libxtb
def test_contexts_in_threads():
    """Both engines at the same time, each in several threads, give bit for bit what they give alone."""
    cases = [(n, m, e) for n, m in (("water", "GFN2-xTB"), ("formate", "GFN1-xTB")) for e in ("libxtb", "tblite")]
    expected = [trajectory(*case) for case in cases]
    for result, forces in zip(in_threads(trajectory, cases), expected, strict=True):
        np.testing.assert_array_equal(result, forces)


ALONE = """
import os, sys
import openmm, openmmkstep
system = openmm.System()
for mass in (16, 1, 1):
    system.addParticle(mass)
force = openmmkstep.XtbForce("GFN2-xTB", range(3), [8, 1, 1])
force.setEngine("tblite")
force.setNumThreads(int(sys.argv[1]))
system.addForce(force)
context = openmm.Context(system, openmm.VerletIntegrator(1e-4), openmm.Platform.getPlatformByName("Reference"))
context.setPositions([(0, 0, 0), (0.09, 0.03, 0.01), (-0.03, 0.09, 0.0)])
before = len(os.listdir("/proc/self/task"))
context.getIntegrator().step(3)
print(len(os.listdir("/proc/self/task")) - before, "tblite" in sys.modules)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_silence(threads):
    """As many threads as asked for, whatever OpenMP's default; nothing printed; tblite's Python part not imported."""
    result = run_python(ALONE, {"OMP_NUM_THREADS": "3"}, [str(threads)])
    assert (result.stdout, result.stderr) == (f"{threads - 1} False\n", "")


def test_what_tblite_lacks():
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    force.setEngine("tblite")
    for call in (force.findEngine, lambda: make_context(force, len(x), x)):
        with pytest.raises(openmm.OpenMMException, match=r"no point charges, .* 3 of them.*setEngine\(\"libxtb\"\)"):
            call()
    virtual, _ = make_xtb("bent water", "GFN2-xTB")
    virtual.addVirtualCharge([0, 1], [0.5, 0.5], 0.1)
    virtual.setEngine("tblite")
    with pytest.raises(openmm.OpenMMException, match="no point charges"):
        make_context(virtual, 3, x[:3])
    gfnff, _ = make_xtb("bent water", "GFN-FF")
    gfnff.setEngine("tblite")
    with pytest.raises(openmm.OpenMMException, match="tblite has no GFN-FF"):
        make_context(gfnff, 3, x[:3])
    with pytest.raises(openmm.OpenMMException, match="expected the engine 'auto', 'libxtb' or 'tblite', found 'mopac'"):
        make_xtb("bent water", "GFN-FF")[0].setEngine("mopac")
