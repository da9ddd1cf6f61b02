"""The scheme 'jump': what is refused, warned of, and how a macro-step that fails ends."""

import jumps
import numpy as np
import openmm
import pytest
from conftest import MOLECULES
from test_integrator_python import full_state
from test_model_files import replace_contract
from tethered import (
    DT,
    MASSES,
    MM,
    QM,
    V0,
    X0,
    common_forces,
    corrector_forces,
    exact,
    exact_jump,
    make_context,
    make_jump,
    tethered_system,
)

from openmmkstep import KStepIntegrator, KStepModelForce, XtbForce

K = 5


def refused(match: str, integrator, system=None):
    with pytest.raises(openmm.OpenMMException, match=match):
        openmm.Context(system or tethered_system(), integrator, openmm.Platform.getPlatformByName("Reference"))


def test_contract_of_another_stride(tmp_path):
    expected = (
        r"expected a jump model that covers k-1 = {} base steps of {} ps, found one for 4 of 0.001 ps.  Set k to 5"
    )
    refused(expected.format(5, 0.001), make_jump(exact(tmp_path, K), 6))
    refused(expected.format(4, 0.0005), make_jump(exact(tmp_path, K), K, dt=0.0005))
    integrator = make_jump(exact(tmp_path, K), K, dt=DT * (1 + 1e-10))  # within rounding
    context = make_context(tethered_system(), integrator)
    integrator.step(1)
    # Settings that are changed later are checked at the next step.
    integrator.setBaseStepSize(DT * (1 + 1e-8))
    with pytest.raises(openmm.OpenMMException, match="found one for 4 of 0.001 ps"):
        integrator.step(1)
    integrator.setBaseStepSize(DT)
    integrator.setK(4)
    with pytest.raises(openmm.OpenMMException, match="covers k-1 = 3 base steps"):
        integrator.step(1)
    integrator.setK(1)
    with pytest.raises(openmm.OpenMMException, match="needs k of at least 2"):
        integrator.step(1)
    assert context.getStepCount() == 1


def test_contract_of_another_molecule_or_kind(tmp_path, models):
    refused(
        "jump model is for 2 atoms, but 3 particles were given", make_jump(exact(tmp_path, K), K, particles=[0, 1, 3])
    )
    refused("expected a model of kind 'jump', found 'potential'", make_jump(models("energy"), K, particles=[0, 1, 3]))
    system = tethered_system()
    force = KStepModelForce(exact(tmp_path, K), QM)
    force.setForceGroup(2)
    system.addForce(force)
    refused(
        "KStepModelForce: expected a model of kind 'potential', found 'jump'", make_jump(exact(tmp_path, K), K), system
    )


def test_particles_that_cannot_jump(tmp_path):
    refused("acts on particle 4, but the System has 4 particles", make_jump(exact(tmp_path, K), K, particles=[0, 4]))
    refused("acts on particle -1", make_jump(exact(tmp_path, K), K, particles=[0, -1]))
    refused("particle 3, which has no mass", make_jump(exact(tmp_path, K), K), tethered_system(mobile=[0, 1, 2]))
    system = tethered_system()
    system.addConstraint(1, 3, 0.2)
    refused("constraints, but 1 and 3 are constrained", make_jump(exact(tmp_path, K), K), system)
    system = tethered_system(mobile=[1, 2, 3])
    system.setVirtualSite(0, openmm.TwoParticleAverageSite(1, 2, 0.5, 0.5))
    refused("particle 0, which is a virtual site", make_jump(exact(tmp_path, K), K), system)
    for particles in ([], [0, 0]):
        with pytest.raises(openmm.OpenMMException, match="needs particles, each given once"):
            make_jump(exact(tmp_path, K), K, particles=particles)


def test_other_settings(tmp_path):
    refused("needs a direct model; call setJumpModel", KStepIntegrator(DT, K, "jump", 300))
    with pytest.raises(openmm.OpenMMException, match="belongs to the scheme 'jump'; 'impulse'"):
        KStepIntegrator(DT, K).setJumpModel(exact(tmp_path, K), QM)
    with pytest.raises(openmm.OpenMMException, match="only the scheme 'jump'"):
        KStepIntegrator(DT, K).setAllowJumpWithoutThermostat(True)
    with pytest.raises(openmm.OpenMMException, match="needs k of at least 2"):
        KStepIntegrator(DT, 1, "jump", 300)
    with pytest.raises(openmm.OpenMMException, match="a positive temperature is required"):
        KStepIntegrator(DT, K, "jump")
    integrator = make_jump(exact(tmp_path, K), K)
    with pytest.raises(openmm.OpenMMException, match="k cannot be adaptive in the scheme 'jump'"):
        integrator.setAdaptive(True)
    with pytest.raises(openmm.OpenMMException, match="number of threads must be at least 1"):
        integrator.setJumpNumThreads(0)
    with pytest.raises(openmm.OpenMMException, match="mollification belongs to the scheme 'impulse'"):
        integrator.setMollification([(0, 3, 0.1)])
        make_context(tethered_system(), integrator)
    integrator = make_jump(exact(tmp_path, K), K)
    context = make_context(tethered_system(), integrator)
    with pytest.raises(openmm.OpenMMException, match="cannot be changed while the integrator is used by a Context"):
        integrator.setJumpModel(exact(tmp_path, K), QM)
    for call in (integrator.computeD, integrator.computeConservedEnergy):
        with pytest.raises(openmm.OpenMMException, match="scheme 'jump' has no D|only the scheme 'impulse'"):
            call()
    assert context.getStepCount() == 0
    with pytest.raises(openmm.OpenMMException, match="no Force in the corrector's force group"):
        system = openmm.System()
        for _ in range(4):
            system.addParticle(1.0)
        make_context(system, make_jump(exact(tmp_path, K), K))


def test_model_files(tmp_path):
    integrator = KStepIntegrator(DT, K, "jump", 300)
    with pytest.raises(OSError):
        integrator.setJumpModel(tmp_path / "absent.pt", QM)
    data = bytearray(exact(tmp_path, K).read_bytes())
    data[len(data) // 2] ^= 0xFF
    bad = tmp_path / "bad.pt"
    bad.write_bytes(data)
    with pytest.raises(ValueError, match="truncated or corrupt"):
        integrator.setJumpModel(bad, QM)
    assert integrator.getJumpModelData() == b""
    # The XML of an integrator with a damaged model.
    integrator.setJumpModel(exact(tmp_path, K), QM)
    xml = openmm.XmlSerializer.serialize(integrator)
    start = xml.index('base64="') + 8
    with pytest.raises(openmm.OpenMMException, match="model in the XML of a KStepIntegrator is corrupt"):
        openmm.XmlSerializer.deserialize(xml[:start] + "?" + xml[start + 1 :])


JUMP_XML_CHANGES = [
    ('k="4"', 'k="0"', "must declare k .* found '0' and '0.001'"),
    ('k="4"', 'k="four"', "four"),
    ('dt="0.001"', 'dt="-0.001"', "must declare k"),
    ('dt="0.001"', 'dt="inf"', "must declare k"),
    ('dt="0.001"', "", "dt"),
    ("<Jump", "<Leap", "Jump"),
    ('name="velocities"', 'name="speeds"', "must take positions and velocities"),
    (
        '<Input name="positions" />',
        '<Input name="positions" /><Input name="box" />',
        "must take positions and velocities",
    ),
    ('name="displacements"', 'name="positions"', "must return displacements"),
]


@pytest.mark.parametrize("old, new, message", JUMP_XML_CHANGES)
def test_contract_that_cannot_be_used(old, new, message, tmp_path):
    def change(data):
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    replace_contract(exact(tmp_path, K), tmp_path / "changed.pt", change)
    expected = f"(?s)KStepIntegrator: the contract in the model file cannot be used: .*{message}"
    refused(expected, make_jump(tmp_path / "changed.pt", K))


def test_no_thermostat(tmp_path):
    integrator = make_jump(exact(tmp_path, K), K)
    integrator.setAllowJumpWithoutThermostat(False)
    refused(r"needs a thermostat .* call setAllowJumpWithoutThermostat\(true\)", integrator)
    # A thermostat on the others does not help, and one that is taken away is noticed.
    integrator = make_jump(exact(tmp_path, K), K)
    integrator.setAllowJumpWithoutThermostat(False)
    integrator.setRegion(MM, 300, 10)
    refused("needs a thermostat", integrator)
    integrator = make_jump(exact(tmp_path, K), K, friction=10)
    integrator.setAllowJumpWithoutThermostat(False)
    context = make_context(tethered_system(), integrator)
    integrator.step(1)
    integrator.setFriction(0)
    with pytest.raises(openmm.OpenMMException, match="needs a thermostat"):
        integrator.step(1)
    assert context.getStepCount() == 1


@pytest.mark.parametrize(
    "friction, thermostat, warning",
    [(9.9, "langevin", r"theirs is 9.9/ps (langevin)"), (10, "langevin", None), (20, "bussi", r"20/ps (bussi)")],
)
def test_weak_thermostat_warns_once(friction, thermostat, warning, tmp_path, capfd):
    integrator = make_jump(exact(tmp_path, K), K, friction)
    integrator.setAllowJumpWithoutThermostat(False)
    integrator.setThermostat(thermostat)
    context = make_context(tethered_system(), integrator)
    integrator.step(1)
    integrator.step(1)
    assert context.getStepCount() == 2
    text = capfd.readouterr().err
    assert text.count("Warning: KStepIntegrator: the scheme 'jump' does not conserve energy") == (warning is not None)
    assert warning is None or warning in text
    assert KStepIntegrator(DT, K, "jump", 300).getFriction()._value == 10


def water_jump(path, particles, numbers, integrator_particles, num=3):
    """An integrator and a System of water with an XtbForce; the contract is for other numbers perhaps."""
    jumps.write_jump(path, jumps.FreeFlight(DT), 3, 1, DT, species=numbers)
    system = openmm.System()
    for mass in (16, 1, 1, 4)[:num]:
        system.addParticle(mass)
    force = XtbForce("GFN2-xTB", particles, [8, 1, 1])
    force.setForceGroup(1)
    system.addForce(force)
    return make_jump(path, 2, 10, particles=integrator_particles), system


def test_xtb_on_the_same_molecule(tmp_path):
    path = tmp_path / "water.pt"
    refused("act on different particles", *water_jump(path, [0, 1, 2], [8, 1, 1], [0, 1, 3], num=4))
    refused(
        "elements 1 8 1 .* found one for 8 1 1",
        *water_jump(path, [0, 1, 2], [8, 1, 1], [1, 0, 2]),
    )
    refused(
        r"elements 8 1 1 \(those of the particles that it was given\), found one for 1 8 1",
        *water_jump(path, [0, 1, 2], [1, 8, 1], [0, 1, 2]),
    )
    integrator, system = water_jump(path, [0, 1, 2], [8, 1, 1], [0, 1, 2])
    x = np.array(MOLECULES["bent water"][1])
    context = make_context(system, integrator, x, np.zeros((3, 3)))
    integrator.step(5)
    assert integrator.getStatistics()["correctorCalls"] == 11
    x = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    assert 0.08 < np.linalg.norm(x[0] - x[1]) < 0.12


WRONG_OUTPUTS = [
    (jumps.OneTensor, r"return \(displacements, velocity_changes\), as its contract says, found Tensor"),
    (jumps.ThreeTensors, "found a tuple of another length"),
    (jumps.Flat, r"return velocity changes of the shape \(2, 3\), found another shape of 6 elements"),
    (jumps.OneTooMany, "return displacements as a tensor of 6 elements, found 9 elements"),
]


@pytest.mark.parametrize("module, message", WRONG_OUTPUTS)
def test_wrong_outputs(module, message, tmp_path):
    jumps.write_jump(tmp_path / "m.pt", module(), 2, K - 1, DT)
    integrator = make_jump(tmp_path / "m.pt", K)
    context = make_context(tethered_system(), integrator)
    before = full_state(context)
    with pytest.raises(openmm.OpenMMException, match=f"KStepIntegrator: .*{message}"):
        integrator.step(1)
    assert full_state(context) == before


def test_models_that_take_gradients(tmp_path):
    """Maps that follow from an action need autograd."""
    states = []
    for module in (jumps.FromAction((K - 1) * DT), jumps.FreeFlight((K - 1) * DT)):
        jumps.write_jump(tmp_path / "m.pt", module, 2, K - 1, DT)
        integrator = make_jump(tmp_path / "m.pt", K)
        context = make_context(tethered_system(), integrator)
        integrator.step(2)
        states.append(full_state(context))
    assert states[0] == states[1]


def faulty(path, throws: bool, friction=0.0, **fields):
    """A jump that fails beyond x = 1 nm, in a System whose first jumping particle starts at x = 1.2 nm."""
    jumps.write_jump(path, jumps.FailsFarOut((K - 1) * DT, throws), 2, K - 1, DT, **fields)
    integrator = make_jump(path, K, friction)
    x = X0.copy()
    x[QM[0], 0] = 1.2
    return integrator, make_context(tethered_system(), integrator, x), x


@pytest.mark.parametrize("throws, recovery", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("friction", [0.0, 10.0])
def test_a_failed_macro_step_is_undone(throws, recovery, friction, tmp_path):
    """An error of the model's own, or a NaN without recovery: the Context keeps the start, and goes on from there."""
    integrator, context, _ = faulty(tmp_path / "m.pt", throws, friction)
    integrator.setErrorRecovery(recovery)
    before = full_state(context)
    message = "this model does not like large x" if throws else "jump model returned a number that is NaN"
    for _ in range(2):
        with pytest.raises(openmm.OpenMMException, match=f"(?s){message}"):
            integrator.step(1)
        assert full_state(context) == before
    # From another place it goes on as if nothing had happened.
    context.setPositions(X0)
    integrator.step(1)
    if friction == 0:
        other = make_jump(tmp_path / "m.pt", K)
        fresh = make_context(tethered_system(), other)
        other.step(1)
        assert full_state(context) == full_state(fresh)


def verlet(x, v, steps):
    x, v, m = x.copy(), v.copy(), MASSES[:, None]
    for _ in range(steps):
        v += 0.5 * DT * (common_forces(x) + corrector_forces(x)) / m
        x += DT * v
        v += 0.5 * DT * (common_forces(x) + corrector_forces(x)) / m
    return x, v


@pytest.mark.parametrize("kind", ["nonFinite", "outsideRegion"])
def test_recovery_by_plain_steps(kind, tmp_path):
    """A NaN, or a structure outside of the contract's region: k plain steps for 8 macro-steps, then the model again."""
    if kind == "nonFinite":
        integrator, context, x = faulty(tmp_path / "m.pt", throws=False)
    else:
        jump = exact_jump((K - 1) * DT)
        jumps.write_jump(tmp_path / "m.pt", jump, 2, K - 1, DT, distanceRanges=[(0, 1, 0.3, 0.8)])
        integrator = make_jump(tmp_path / "m.pt", K)
        x = X0.copy()
        x[QM[0], 0] = 1.2
        context = make_context(tethered_system(), integrator, x)
    integrator.step(1)
    statistics = integrator.getStatistics()
    assert statistics[kind] == statistics["redone"] == statistics["plainMacroSteps"] == 1
    assert statistics["currentK"] == 0 and statistics["modelUnfit"] == 0
    # A start, which is still valid in the repetition, and one call for each plain step.
    assert statistics["correctorCalls"] == 1 + K
    (event,) = integrator.getEvents()
    assert (event["kind"], event["fromK"], event["toK"], event["step"], event["time"]) == (kind, K, 0, 0, 0)
    state = context.getState(getPositions=True, getVelocities=True)
    expected_x, expected_v = verlet(x, V0, K)
    np.testing.assert_allclose(state.getPositions(asNumpy=True)._value, expected_x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state.getVelocities(asNumpy=True)._value, expected_v, rtol=0, atol=1e-9)
    context.setPositions(X0)
    integrator.step(8)
    assert integrator.getStatistics()["currentK"] == K
    assert integrator.getStatistics()["plainMacroSteps"] == 9
    integrator.step(1)
    assert integrator.getStatistics()["plainMacroSteps"] == 9


def test_unfit_model(tmp_path, capfd):
    """A model that fails again and again is given up."""
    integrator, context, x = faulty(tmp_path / "m.pt", throws=False)
    for _ in range(10):
        context.setPositions(x)
        integrator.step(1)
        context.setPositions(X0)
        integrator.step(8)
    assert integrator.getStatistics()["modelUnfit"] == 1
    assert capfd.readouterr().err.count("The model is unfit") == 1
    integrator.step(20)
    assert integrator.getStatistics()["plainMacroSteps"] == 110


def test_corrector_that_is_not_finite(tmp_path):
    """Where the corrector has no value there is nothing to fall back on: the message says so, the start is kept."""
    system = tethered_system()
    force = openmm.CustomExternalForce("-sqrt(0.5-x)")
    force.addParticle(QM[0])
    force.setForceGroup(1)
    system.addForce(force)
    integrator = make_jump(exact(tmp_path, K), K)
    x = X0.copy()
    x[QM[0], 0] = 0.9
    context = make_context(system, integrator, x)
    before = full_state(context)
    with pytest.raises(openmm.OpenMMException, match="NaN or infinite"):
        integrator.step(1)
    assert full_state(context) == before
