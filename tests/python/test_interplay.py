"""KStepIntegrator beside other parts of OpenMM: other integrators, changed parameters, minimizer, threads.

In the exact comparisons a run that something happened to is compared with one that starts from the result without any
history: a new Context or positions that were set. Forces kept for too long would show as a different last bit. What
concerns single objects (copies, checkpoints, reporters and their frame spacing) is in test_integrator_python.py, biases
are in test_bias.py.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openmm
import pytest
import tethered
from conftest import energy_forces, get_positions
from openmm import app, unit
from test_integrator_python import bond_force, full_state
from test_qmmm_dynamics import start, with_model

from openmmkstep import KStepIntegrator, cast

DT = 0.0005
TRUE_GROUPS = {0, 1}


def make(name: str, seed: int = 5, **changes) -> KStepIntegrator:
    """An integrator of each kind; k, temperature, friction and base step may be changed."""
    settings = {"dt": DT, "k": 4, "temperature": 300, "friction": 2, "chances": 2} | changes
    scheme = name if name in ("metropolis", "reweight") else "impulse"
    friction = 0 if name in ("impulse", "mollified") else settings["friction"]
    integrator = KStepIntegrator(settings["dt"], settings["k"], scheme, settings["temperature"], friction)
    integrator.setExtraChances(settings["chances"])
    integrator.setRandomNumberSeed(seed)
    if name == "mollified":
        integrator.setMollification([(0, 1, 0.12)])
    if name == "adaptive":
        integrator.setAdaptive(True)
    if name == "bussi":
        integrator.setThermostat("bussi")
    return integrator


NAMES = ["impulse", "mollified", "langevin", "bussi", "adaptive", "metropolis", "reweight"]
each_scheme = pytest.mark.parametrize("name", NAMES)


def scalable_system() -> openmm.System:
    """Two bonded particles and a well; each group has a parameter that scales its energy. The model is off by kT."""
    system = openmm.System()
    for mass in (12, 16):
        system.addParticle(mass)
    for group, parameter, k, r0 in ((1, "corrector", 1.5e5, 0.12), (2, "model", 1.35e5, 0.124)):
        force = openmm.CustomBondForce(f"{parameter}*0.5*{k}*(r-{r0})^2")
        force.addGlobalParameter(parameter, 1)
        force.addBond(0, 1)
        force.setForceGroup(group)
        system.addForce(force)
    well = openmm.CustomExternalForce("common*well*(x^2+y^2+z^2)")
    well.addGlobalParameter("common", 1)
    well.addPerParticleParameter("well")
    for i in range(2):
        well.addParticle(i, [500.0])
    system.addForce(well)
    return system


def scalable(integrator, platform: str = "Reference", system=None) -> openmm.Context:
    context = openmm.Context(system or scalable_system(), integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions([(0.01, 0, 0), (0.13, 0.01, 0)])
    context.setVelocities([(0.2, -0.1, 0), (0, 0.1, 0.3)])
    return context


def transfer(source: openmm.Context, target: openmm.Context) -> None:
    state = source.getState(positions=True, velocities=True)
    target.setPositions(state.getPositions(asNumpy=True))
    target.setVelocities(state.getVelocities(asNumpy=True))


def atoms(context) -> tuple:
    return full_state(context)[:2]


@each_scheme
def test_compound_integrator_switches(name):
    """Two Contexts that hand their atoms to one another do the same as one with a CompoundIntegrator, to the last bit."""
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(make(name))
    compound.addIntegrator(openmm.VerletIntegrator(DT))
    compound.getIntegrator(1).setIntegrationForceGroups(TRUE_GROUPS)
    both = scalable(compound)
    plain = openmm.VerletIntegrator(DT)
    plain.setIntegrationForceGroups(TRUE_GROUPS)
    first, second = scalable(make(name)), scalable(plain)
    for steps in (3, 2):
        compound.setCurrentIntegrator(0)
        assert compound.getStepSize() / unit.picosecond == pytest.approx(4 * DT)
        compound.step(steps)
        first.getIntegrator().step(steps)
        assert atoms(both) == atoms(first)
        transfer(first, second)
        compound.setCurrentIntegrator(1)
        compound.step(4)
        second.getIntegrator().step(4)
        assert atoms(both) == atoms(second)
        transfer(second, first)
    statistics = cast(compound.getIntegrator(0)).getStatistics()
    assert statistics["macroSteps"] == 5
    assert both.getStepCount() == 13
    # Energies as the current integrator sees them: its own groups.
    compound.setCurrentIntegrator(0)
    groups = {0, 2} if name == "reweight" else TRUE_GROUPS
    mask = sum(1 << g for g in groups)
    assert compound.getIntegrationForceGroups() & 0b111 == mask


@pytest.mark.parametrize("names", [("impulse", "metropolis"), ("metropolis", "reweight"), ("adaptive", "mollified")])
def test_two_of_them_in_a_compound_integrator(names):
    """Sampling and dynamics in turn, on the same forces; what one has kept the other has made obsolete."""

    def compound_context() -> openmm.Context:
        compound = openmm.CompoundIntegrator()
        for seed, name in enumerate(names):
            compound.addIntegrator(make(name, seed=seed + 1))
        return scalable(compound)

    both = compound_context()
    apart = [scalable(make(name, seed=seed + 1)) for seed, name in enumerate(names)]

    def turn(context, which: int) -> None:
        context.getIntegrator().setCurrentIntegrator(which)
        context.getIntegrator().step(3)

    for which in (0, 1, 0, 1):
        turn(both, which)
        apart[which].getIntegrator().step(3)
        assert atoms(both) == atoms(apart[which])
        transfer(apart[which], apart[1 - which])
    # A checkpoint holds what both need, and their statistics are their own.
    other = compound_context()
    other.loadCheckpoint(both.createCheckpoint())
    for which in (0, 1):
        for context in (both, other):
            turn(context, which)
        assert full_state(other) == full_state(both)
        statistics = [cast(c.getIntegrator().getIntegrator(which)).getStatistics() for c in (both, other)]
        assert statistics[0] == statistics[1]
        assert statistics[0]["macroSteps"] == 9


@each_scheme
def test_reinitialize_with_state(name):
    """The run goes on where it was, random state included; a force that was changed in between is seen."""
    contexts = []
    for way in range(3):
        context = scalable(make(name))
        integrator = context.getIntegrator()
        integrator.step(3)
        if way == 0:
            context.reinitialize(preserveState=True)
        else:
            context.loadCheckpoint(context.createCheckpoint())
        if way < 2:
            integrator.step(5)
        contexts.append(context)
    whole, again, changed = contexts
    assert full_state(whole) == full_state(again)
    assert whole.getIntegrator().getStatistics() == again.getIntegrator().getStatistics()
    well = changed.getSystem().getForce(2)
    for i in range(2):
        well.setParticleParameters(i, i, [900.0])
    changed.reinitialize(preserveState=True)
    changed.getIntegrator().step(5)
    assert atoms(changed) != atoms(again)


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_reinitialize_with_xtb(scheme, droplet):
    """A new XtbForce starts cold, as it does after a checkpoint."""
    ends = []
    for again in (True, False):
        integrator = KStepIntegrator(DT, 4, scheme, 300, 1)
        integrator.setRandomNumberSeed(3)
        context = start(with_model(droplet, "GFN-FF"), droplet, integrator)
        integrator.step(3)
        if again:
            context.reinitialize(preserveState=True)
        else:
            context.createCheckpoint()
        integrator.step(4)
        ends.append(full_state(context))
    assert ends[0] == ends[1]


CHANGES = {
    "common": lambda context, integrator: context.setParameter("common", 3),
    "corrector": lambda context, integrator: context.setParameter("corrector", 1.1),
    "model": lambda context, integrator: context.setParameter("model", 1.1),
    "updateParametersInContext": lambda context, integrator: stiffen(context),
    "groups": lambda context, integrator: integrator.setIntegrationForceGroups({1, 2}),
}


def stiffen(context) -> None:
    well = context.getSystem().getForce(2)
    for i in range(2):
        well.setParticleParameters(i, i, [900.0])
    well.updateParametersInContext(context)


@each_scheme
@pytest.mark.parametrize("change", list(CHANGES))
def test_forces_changed_between_steps(name, change):
    """Nothing kept from before the change is used after it."""
    changed, fresh, unchanged = (scalable(make(name)) for _ in range(3))
    for context in (changed, fresh, unchanged):
        context.getIntegrator().step(3)
    for context in (changed, fresh):
        CHANGES[change](context, context.getIntegrator())
    for context in (fresh, unchanged):
        context.setPositions(context.getState(positions=True).getPositions(asNumpy=True))
    for context in (changed, fresh, unchanged):
        context.getIntegrator().step(6)
    # In 'reweight' the corrector shows in D only.
    results = [(*atoms(c), c.getIntegrator().computeD()._value) for c in (changed, fresh, unchanged)]
    assert results[0] == results[1]
    assert results[0] != results[2]


@each_scheme
@pytest.mark.parametrize(
    "change", [{"k": 7}, {"dt": 0.00025}, {"temperature": 900}, {"friction": 20}, {"chances": 1}, {"k": 2, "dt": 0.001}]
)
def test_settings_changed_between_steps(name, change):
    """As if the integrator had been made with the new settings and continued from a checkpoint."""
    context = scalable(make(name))
    integrator = context.getIntegrator()
    integrator.step(3)
    checkpoint = context.createCheckpoint()
    setters = {
        "k": integrator.setK,
        "dt": integrator.setBaseStepSize,
        "temperature": integrator.setTemperature,
        "friction": lambda friction: integrator.setFriction(0 if name in ("impulse", "mollified") else friction),
        "chances": integrator.setExtraChances,
    }
    for key, value in change.items():
        setters[key](value)
    other = scalable(make(name, **change))
    other.loadCheckpoint(checkpoint)
    unchanged = scalable(make(name))
    unchanged.loadCheckpoint(checkpoint)
    for c in (context, other, unchanged):
        c.getIntegrator().step(40)
    assert full_state(context) == full_state(other)
    thermal = name not in ("impulse", "mollified")
    matters = {
        "k": True,
        "dt": True,
        "temperature": thermal,
        "friction": thermal,
        "chances": name == "metropolis",
    }
    assert (full_state(context) != full_state(unchanged)) == any(matters[key] for key in change)


@each_scheme
@pytest.mark.parametrize("compound", [False, True])
def test_minimize_energy(name, compound):
    """Simulation's minimizer finds the minimum of the true Hamiltonian, in 'reweight' that of the model's."""
    topology = app.Topology()
    residue = topology.addResidue("CO", topology.addChain())
    topology.addAtom("C", app.element.carbon, residue)
    topology.addAtom("O", app.element.oxygen, residue)
    member = make(name)
    integrator = member
    if compound:
        integrator = openmm.CompoundIntegrator()
        integrator.addIntegrator(member)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, scalable_system(), integrator, platform)
    simulation.context.setPositions([(0.02, 0.01, 0), (0.14, 0.02, 0)])
    simulation.context.setVelocities([(0.2, -0.1, 0), (0, 0.1, 0.3)])
    integrator.step(2)  # so that forces are kept from before
    simulation.minimizeEnergy(tolerance=1e-4)
    right, wrong = ({0, 2}, {0, 1}) if name == "reweight" else ({0, 1}, {0, 2})
    assert np.abs(energy_forces(simulation.context, right)[1]).max() < 1e-3
    assert np.abs(energy_forces(simulation.context, wrong)[1]).max() > 10
    fresh = scalable(make(name))
    fresh.getIntegrator().step(2)
    transfer(simulation.context, fresh)
    # Both have drawn the same random numbers so far.
    integrator.step(3)
    fresh.getIntegrator().step(3)
    assert atoms(simulation.context) == atoms(fresh)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_threads(platform):
    """Contexts of all schemes in threads at the same time."""

    def run(task) -> tuple:
        name, seed = task
        context = scalable(make(name, seed), platform)
        for _ in range(30):  # many short calls, between which the threads change
            context.getIntegrator().step(5)
        return full_state(context), str(context.getIntegrator().getStatistics())

    tasks = [(name, seed) for name in NAMES for seed in (1, 2)]
    one_after_another = [run(task) for task in tasks]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, tasks)) == one_after_another


def test_threads_with_xtb(droplet):
    """libxtb has global state; three runs at the same time are as exact as one after another."""

    def run(seed) -> tuple:
        integrator = KStepIntegrator(DT, 4, ("impulse", "metropolis", "reweight")[seed], 300, 1)
        integrator.setRandomNumberSeed(seed + 1)
        context = start(with_model(droplet, "GFN-FF"), droplet, integrator)
        for _ in range(5):
            integrator.step(2)
        return full_state(context)

    one_after_another = [run(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, range(3))) == one_after_another


@each_scheme
def test_motion_remover(name):
    """It acts between macro-steps, on velocities only: no force is computed again for it."""
    system = openmm.System()
    for mass in (12, 16):
        system.addParticle(mass)
    system.addForce(bond_force(1.5e5, 0.12, 1))
    system.addForce(bond_force(1.4e5, 0.121, 2))
    system.addForce(openmm.CMMotionRemover(1))
    context = scalable(make(name), system=system)
    integrator = context.getIntegrator()
    centre = np.array([12, 16]) / 28 @ get_positions(context)
    integrator.step(25)
    velocities = context.getState(velocities=True).getVelocities(asNumpy=True)._value
    if name in ("impulse", "mollified"):
        assert np.abs(np.array([12, 16]) @ velocities).max() < 1e-12
        np.testing.assert_allclose(np.array([12, 16]) / 28 @ get_positions(context), centre, atol=1e-12)
    else:
        # Noise within the macro-step moves the centre again: sqrt(kT/M (1 - exp(-2 gamma h))) = 0.03 nm/ps a step, where
        # it has 0.3 nm/ps without the remover.
        assert np.abs(np.array([12, 16]) / 28 @ velocities).max() < 0.15
    statistics = integrator.getStatistics()
    # One for each macro-step or test, and one at the start where forces or energies are needed before the first.
    # 'adaptive' makes ten macro-steps with four calls, ten with two, and five with one.
    expected = {"metropolis": statistics["chances"] + 1, "reweight": 25, "adaptive": 66}.get(name, 26)
    assert statistics["correctorCalls"] == expected


def test_jump(tmp_path):
    """The same for the scheme 'jump', whose System is another: other integrators, changed forces, minimizer, threads."""
    path = tethered.exact(tmp_path, 4)

    def run_apart() -> list[openmm.Context]:
        return [
            tethered.make_context(tethered.tethered_system(), integrator)
            for integrator in (tethered.make_jump(path, 4, friction=10), openmm.VerletIntegrator(tethered.DT))
        ]

    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(tethered.make_jump(path, 4, friction=10))
    compound.addIntegrator(openmm.VerletIntegrator(tethered.DT))
    both, apart = tethered.make_context(tethered.tethered_system(), compound), run_apart()
    for which in (0, 1, 0):
        compound.setCurrentIntegrator(which)
        compound.step(3)
        apart[which].getIntegrator().step(3)
        assert atoms(both) == atoms(apart[which])
        transfer(apart[which], apart[1 - which])
    # Changed forces, and a minimum that the minimizer has found, against the same atoms without a history.
    for change in ("corrector", "common", "minimum"):
        for context in (both, apart[0]):
            if change == "minimum":
                openmm.LocalEnergyMinimizer.minimize(context, 1e-5)
                assert np.abs(energy_forces(context, {0, 1})[1]).max() < 1e-3
                continue
            force = context.getSystem().getForce(0 if change == "corrector" else 1)
            for i in range(2):
                particle, (k, *centre) = force.getParticleParameters(i)
                force.setParticleParameters(i, particle, [0.9 * k, *centre])
            force.updateParametersInContext(context)
        transfer(both, apart[0])
        compound.step(2)
        apart[0].getIntegrator().step(2)
        assert atoms(both) == atoms(apart[0])

    def run(_) -> tuple:
        context = run_apart()[0]
        for _ in range(20):
            context.getIntegrator().step(2)
        return full_state(context)

    with ThreadPoolExecutor(4) as pool:
        assert set(map(str, pool.map(run, range(4)))) == {str(run(0))}
