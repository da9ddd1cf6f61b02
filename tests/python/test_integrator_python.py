"""KStepIntegrator as an object of OpenMM: everything that OpenMM's own integrators do from Python."""

import copy
import gc
import io
import pickle
import struct

import numpy as np
import openmm
import pytest
from conftest import KT_300, energy_of, get_positions, make_context, make_xtb, memory
from openmm import app, unit

import openmmkstep
from openmmkstep import KStepIntegrator, KStepModelForce, XtbForce, cast

fs, ps, K = unit.femtosecond, unit.picosecond, unit.kelvin


def bond_force(k: float, r0: float, group: int) -> openmm.Force:
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, r0, k)
    force.setForceGroup(group)
    return force


def oscillator_system(model: bool = True) -> openmm.System:
    """Two bonded particles: corrector, a model that is 5 % softer, and a common external force."""
    system = openmm.System()
    for mass in (12, 16):
        system.addParticle(mass)
    system.addForce(bond_force(2.0e5, 0.12, 1))
    if model:
        system.addForce(bond_force(1.9e5, 0.121, 2))
    external = openmm.CustomExternalForce("500*(x^2+y^2+z^2)")
    for i in range(2):
        external.addParticle(i)
    system.addForce(external)
    return system


def oscillator(integrator, model: bool = True, platform: str = "Reference") -> openmm.Context:
    context = openmm.Context(oscillator_system(model), integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions([(0.01, 0, 0), (0.13, 0.01, 0)])
    context.setVelocities([(0.2, -0.1, 0), (0, 0.1, 0.3)])
    return context


def full_state(context) -> tuple:
    state = context.getState(getPositions=True, getVelocities=True)
    return (
        state.getPositions(asNumpy=True)._value.tolist(),
        state.getVelocities(asNumpy=True)._value.tolist(),
        state.getTime()._value,
        state.getStepCount(),
    )


def metropolis(seed: int = 5) -> KStepIntegrator:
    integrator = KStepIntegrator(0.5 * fs, 4, "metropolis", 300 * K, 1 / ps)
    integrator.setRandomNumberSeed(seed)
    return integrator


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_it_is_an_integrator(platform):
    integrator = KStepIntegrator(0.5 * fs, 4)
    assert isinstance(integrator, openmm.Integrator)
    context = oscillator(integrator, platform=platform)
    assert context.getIntegrator() is integrator
    integrator.step(10)
    assert context.getStepCount() == 10
    assert context.getTime() / fs == pytest.approx(20)
    with pytest.raises(openmm.OpenMMException, match="already bound to a context"):
        oscillator(integrator)
    with pytest.raises(openmm.OpenMMException, match="not bound to a context"):
        KStepIntegrator(0.5 * fs, 4).step(1)


def test_step_to():
    integrator = KStepIntegrator(0.5 * fs, 4)
    context = oscillator(integrator)
    integrator.stepTo(0.02 * ps)  # a multiple of 2 fs
    assert context.getStepCount() == 10
    integrator.stepTo(21 * fs)
    assert context.getStepCount() == 11
    integrator.stepTo(0.001)
    assert context.getStepCount() == 11
    with pytest.raises(openmm.OpenMMException, match="not bound to a context"):
        KStepIntegrator(0.5 * fs, 4).stepTo(1)


class MyIntegrator(KStepIntegrator):
    """A user's class with state of its own."""

    def __init__(self, factor):
        super().__init__(0.5 * fs, 4)
        self.factor = factor

    def twice(self):
        self.step(2)
        return self.factor * 2


def test_user_subclass():
    integrator = MyIntegrator(21)
    context = oscillator(integrator)
    assert integrator.twice() == 42
    assert context.getStepCount() == 2
    assert integrator.getK() == 4


def through_xml(x):
    return cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(x)))


@pytest.mark.parametrize("way", [through_xml, copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_the_integrator(way):
    integrator = metropolis()
    integrator.setExtraChances(3)
    integrator.setConstraintTolerance(1e-8)
    integrator.setIntegrationForceGroups({0, 1, 2})
    other = way(integrator)
    assert type(other) is KStepIntegrator
    assert other is not integrator and int(other.this) != int(integrator.this)
    assert openmm.XmlSerializer.serialize(other) == openmm.XmlSerializer.serialize(integrator)
    a, b = oscillator(integrator), oscillator(other)
    integrator.step(20)
    other.step(20)
    assert full_state(a) == full_state(b)  # the same seed


def test_simulation_with_reporters(tmp_path):
    topology = app.Topology()
    residue = topology.addResidue("CO", topology.addChain())
    topology.addAtom("C", app.element.carbon, residue)
    topology.addAtom("O", app.element.oxygen, residue)
    integrator = KStepIntegrator(0.5 * fs, 4)
    simulation = app.Simulation(
        topology, oscillator_system(), integrator, openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions([(0.01, 0, 0), (0.13, 0.01, 0)])
    output = io.StringIO()
    dcd = tmp_path / "t.dcd"
    simulation.reporters += [
        app.DCDReporter(str(dcd), 5),
        app.StateDataReporter(
            output, 5, step=True, time=True, potentialEnergy=True, kineticEnergy=True, temperature=True, speed=True
        ),
    ]
    simulation.step(20)
    rows = np.array([line.split(",")[:5] for line in output.getvalue().splitlines()[1:]], dtype=float)
    np.testing.assert_allclose(rows[:, 0], [5, 10, 15, 20])
    np.testing.assert_allclose(rows[:, 1], [0.01, 0.02, 0.03, 0.04])
    assert rows[-1, 2] == pytest.approx(energy_of(simulation.context, {0, 1}), rel=1e-9)
    header = dcd.read_bytes()[:48]
    # The frame spacing: time unit of CHARMM (0.04888821 ps) in the tenth field, steps between frames in the third.
    assert struct.unpack("<i4s", header[:8])[1] == b"CORD"
    assert struct.unpack("<f", header[44:48])[0] * 0.04888821 == pytest.approx(0.002, rel=1e-6)
    assert struct.unpack("<4i", header[8:24])[:1] == (4,)  # frames
    assert struct.unpack("<4i", header[8:24])[2] == 5


@pytest.mark.parametrize("make", [lambda: KStepIntegrator(0.5 * fs, 4), metropolis])
def test_checkpoint_through_simulation(make, tmp_path):
    """A checkpoint brings back everything: positions, velocities, time, random state, statistics."""

    def simulate():
        topology = app.Topology()
        residue = topology.addResidue("CO", topology.addChain())
        topology.addAtom("C", app.element.carbon, residue)
        topology.addAtom("O", app.element.oxygen, residue)
        simulation = app.Simulation(
            topology, oscillator_system(), make(), openmm.Platform.getPlatformByName("Reference")
        )
        simulation.context.setPositions([(0.01, 0, 0), (0.13, 0.01, 0)])
        simulation.context.setVelocitiesToTemperature(300, 4)
        return simulation

    first = simulate()
    first.step(30)
    first.saveCheckpoint(str(tmp_path / "a.chk"))
    first.step(30)
    expected = full_state(first.context)
    for simulation in (first, simulate()):
        simulation.loadCheckpoint(str(tmp_path / "a.chk"))
        assert simulation.currentStep == 30
        simulation.step(30)
        assert full_state(simulation.context) == expected
        assert cast(simulation.integrator).getStatistics()["macroSteps"] == 60


@pytest.mark.parametrize("scheme", ["metropolis", "impulse"])
def test_samples_the_corrector(scheme):
    """A particle in a well: <x^2> is that of the corrector, kT/1000, not the model's, kT/600."""
    wells = []
    for group, k in ((1, 1000), (2, 600)):
        force = openmm.CustomExternalForce(f"0.5*{k}*(x^2+y^2+z^2)")
        force.addParticle(0)
        force.setForceGroup(group)
        wells.append(force)
    integrator = KStepIntegrator(0.01, 8, scheme, 300, 2)
    integrator.setRandomNumberSeed(6)
    context = make_context(wells, 1, [(0.05, 0, 0)], integrator)
    integrator.step(100)
    squares = []
    for _ in range(12000):
        integrator.step(1)
        squares.append(np.mean(np.square(get_positions(context))))
    blocks = np.mean(np.reshape(squares, (20, -1)), axis=1)
    mean, error = np.mean(blocks), np.std(blocks, ddof=1) / np.sqrt(20)
    expected = KT_300 / 1000
    # The time step error of h = 80 fs at a period of 690 fs is (omega h)^2/8 = 7 % at most for the impulse, and that of
    # dt = 10 fs 0.1 % for metropolis. The model's own value is 67 % higher.
    assert error < 0.04 * expected
    assert mean == pytest.approx(expected, abs=4 * error + (0.07 * expected if scheme == "impulse" else 0))


def test_compound_integrator():
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(KStepIntegrator(0.5 * fs, 4))
    compound.addIntegrator(openmm.VerletIntegrator(0.5 * fs))
    context = oscillator(compound)
    compound.step(5)
    assert context.getTime() / fs == pytest.approx(10)
    member = cast(compound.getIntegrator(0))
    assert type(member) is KStepIntegrator
    assert member.getK() == 4
    assert type(cast(compound.getIntegrator(1))) is openmm.VerletIntegrator
    # Another integrator moves the atoms: the forces that KStepIntegrator kept must not be used.
    compound.setCurrentIntegrator(1)
    compound.step(4)
    between = context.getState(getPositions=True, getVelocities=True)
    compound.setCurrentIntegrator(0)
    compound.step(3)
    fresh = oscillator(KStepIntegrator(0.5 * fs, 4))
    fresh.setPositions(between.getPositions())
    fresh.setVelocities(between.getVelocities())
    fresh.getIntegrator().step(3)
    assert full_state(context)[:2] == full_state(fresh)[:2]


def test_cast():
    system = oscillator_system()
    xtb, _ = make_xtb("water", "GFN2-xTB")
    assert cast(xtb) is xtb
    system.addForce(xtb)
    with pytest.raises(Exception, match="does not own"):
        system.addForce(xtb)  # the System owns it now
    assert [type(cast(f)) for f in system.getForces()] == [
        openmm.HarmonicBondForce,
        openmm.HarmonicBondForce,
        openmm.CustomExternalForce,
        XtbForce,
    ]
    view = cast(system.getForce(3))
    view.setFixedCharge(0, 0.25)
    assert xtb.getFixedCharge(0) == 0.25 * unit.elementary_charge  # one object, two views
    copy_of_system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert cast(copy_of_system.getForce(3)).getMethod() == "GFN2-xTB"
    assert cast(openmm.VerletIntegrator(0.001)).getStepSize() == 0.001 * ps
    assert cast("something else") == "something else"
    assert (
        cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(metropolis()))).getScheme() == "metropolis"
    )


def test_ownership():
    """The System deletes the force, the Python object of which may go first; an unused force is deleted with its object."""
    context = make_context([make_xtb("bent water", "GFN2-xTB")[0]], 3, make_xtb("bent water", "GFN2-xTB")[1])
    gc.collect()
    assert np.isfinite(energy_of(context))
    view = cast(context.getSystem().getForce(0))
    assert view.thisown == 0
    del view
    gc.collect()
    context.setPositions(get_positions(context) * 1.001)
    assert np.isfinite(energy_of(context))


@pytest.mark.parametrize("make", [metropolis, lambda: make_xtb("formaldehyde", "GFN2-xTB")[0]])
def test_create_and_destroy(make):
    def cycle(times):
        for _ in range(times):
            make()

    cycle(500)
    gc.collect()
    start = memory()
    cycle(2000)
    gc.collect()
    # The smallest object is 300 bytes: 2000 that are lost are 0.6 MB. (An integrator's is 5 kB: 10 MB.)
    assert memory() - start < 0.5


def test_contexts_create_and_destroy():
    def cycle(times):
        for _ in range(times):
            context = oscillator(metropolis())
            context.getIntegrator().step(1)

    cycle(200)
    gc.collect()
    start = memory()
    cycle(600)
    gc.collect()
    assert memory() - start < 2  # a Context of the Reference platform is more than 10 kB: 6 MB


def test_abstract_base_class():
    with pytest.raises(TypeError, match="abstract"):
        openmmkstep.QMRegionForce()
    assert issubclass(XtbForce, openmm.Force) and issubclass(KStepModelForce, openmmkstep.QMRegionForce)
