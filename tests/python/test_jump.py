"""The scheme 'jump': the composed map against numpy, what the model is given, thermostat, faults, restarts."""

import copy

import jumps
import numpy as np
import openmm
import pytest
from conftest import get_positions, water_positions, water_system
from openmm import unit
from test_integrator_python import full_state
from tethered import (
    CENTRES,
    DT,
    MASSES,
    MM,
    QM,
    TETHER,
    V0,
    X0,
    common_forces,
    corrector_forces,
    exact,
    make_context,
    make_jump,
    tether,
    tethered_system,
)

from openmmkstep import KStepIntegrator, cast

R_GAS = 8.31446261815324e-3


def exact_map(x, v, time):
    omega = np.sqrt(TETHER[QM] / MASSES[QM])[:, None]
    q = x[QM] - CENTRES[QM]
    return (
        q * (np.cos(omega * time) - 1) + v[QM] * np.sin(omega * time) / omega,
        v[QM] * (np.cos(omega * time) - 1) - q * omega * np.sin(omega * time),
    )


def composed_map(x, v, k, common, mobile, jump, steps, friction=(0.0, 0.0, 0.0, 0.0)):
    """physics.md: MM for (k-1) dt/2, one whole jump, MM for (k-1) dt/2, one velocity-Verlet step with the true force.

    With friction it is that of a thermostat at 0 K: velocities decay where the Ornstein-Uhlenbeck steps are.
    """
    x, v, m = x.copy(), v.copy(), MASSES[:, None]
    n = int(np.ceil((k - 1) / 2))
    s = 0.5 * (k - 1) * DT / n

    def damp(particles, t):
        v[particles] *= np.exp(-t * np.array(friction))[particles, None]

    def surroundings():
        for _ in range(n):
            v[:] += 0.5 * s * common(x) / m
            x[mobile] += 0.5 * s * v[mobile]
            damp(mobile, s)
            x[mobile] += 0.5 * s * v[mobile]
            v[:] += 0.5 * s * common(x) / m

    for _ in range(steps):
        surroundings()
        damp(QM, n * s)
        dx, dv = jump(x, v)
        x[QM] += dx
        v[QM] += dv
        damp(QM, n * s)
        surroundings()
        everything = sorted([*QM, *mobile])
        v += 0.5 * DT * (common(x) + corrector_forces(x)) / m
        x[everything] += 0.5 * DT * v[everything]
        damp(everything, DT)
        x[everything] += 0.5 * DT * v[everything]
        v += 0.5 * DT * (common(x) + corrector_forces(x)) / m
    return x, v


def assert_state(context, x, v, particles=(0, 1, 2, 3), tolerance=1e-12):
    state = context.getState(getPositions=True, getVelocities=True)
    particles = list(particles)
    found_x, found_v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    np.testing.assert_allclose(found_x[particles], x[particles], rtol=0, atol=tolerance)
    np.testing.assert_allclose(found_v[particles], v[particles], rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("k", [2, 5, 8])
def test_composed_map(k, platform, tmp_path):
    integrator = make_jump(exact(tmp_path, k), k)
    context = make_context(tethered_system(), integrator, platform=platform)
    integrator.step(40)
    x, v = composed_map(X0, V0, k, common_forces, MM, lambda x, v: exact_map(x, v, (k - 1) * DT), 40)
    assert np.abs(x - X0).max() > 0.01
    # The CPU platform evaluates these forces in double precision too.
    assert_state(context, x, v)
    assert context.getTime() / unit.picosecond == pytest.approx(40 * k * DT)
    assert context.getStepCount() == 40
    assert integrator.getStatistics()["correctorCalls"] == 1 + 2 * 40
    assert integrator.getStatistics()["macroSteps"] == 40


def test_place_of_the_thermostat(tmp_path):
    """At practically 0 K its steps are decays, whose lengths and places the map shows; QM and others apart."""
    k, cold = 6, 1e-22
    integrator = make_jump(exact(tmp_path, k), k, 15.0, cold)
    integrator.setRegion(QM, cold, 40.0)
    context = make_context(tethered_system(), integrator)
    integrator.step(10)
    friction = [40.0 if i in QM else 15.0 for i in range(4)]
    jump = lambda x, v: exact_map(x, v, (k - 1) * DT)  # noqa: E731
    x, v = composed_map(X0, V0, k, common_forces, MM, jump, 10, friction)
    assert_state(context, x, v, tolerance=1e-10)


def test_kinetic_energy_is_that_of_the_next_half_step(tmp_path):
    """With friction: v + dt/2 F/m with the true forces, before the first step and after steps."""
    integrator = make_jump(exact(tmp_path, 4), 4, 10.0)
    context = make_context(tethered_system(), integrator)
    for _ in range(3):
        state = context.getState(getEnergy=True, getPositions=True, getVelocities=True)
        x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
        v = v + 0.5 * DT * (common_forces(x) + corrector_forces(x)) / MASSES[:, None]
        assert state.getKineticEnergy()._value == pytest.approx(0.5 * (MASSES @ v**2).sum(), rel=1e-10)
        integrator.step(1)


def test_coupled_molecule_and_energy(tmp_path):
    """Exact flow of a coupled molecule: the composition of symplectic maps keeps the energy."""
    k, spring = 6, 2.0e4
    stiffness = np.kron(np.diag(TETHER[QM]) + spring * np.array([[1, -1], [-1, 1]]), np.eye(3))
    jumps.write_jump(tmp_path / "m.pt", jumps.Molecule(CENTRES[QM], stiffness, MASSES[QM], (k - 1) * DT), 2, k - 1, DT)
    system = tethered_system()
    bond = openmm.CustomCompoundBondForce(2, f"{0.5 * spring}*((x1-x2-a)^2+(y1-y2-b)^2+(z1-z2-c)^2)")
    for name in "abc":
        bond.addPerBondParameter(name)
    bond.addBond(QM, CENTRES[QM[0]] - CENTRES[QM[1]])
    bond.setForceGroup(1)
    system.addForce(bond)
    integrator = make_jump(tmp_path / "m.pt", k)
    context = make_context(system, integrator)
    energies = []
    for _ in range(400):
        state = context.getState(getEnergy=True, groups=integrator.getIntegrationForceGroups())
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
        integrator.step(5)
    assert np.ptp(energies) < 0.05 * energies[0]
    assert abs(np.mean(energies[300:]) - np.mean(energies[:100])) < 0.005 * energies[0]


@pytest.mark.parametrize("mobile", [MM, []])
def test_force_input_is_the_true_force_of_the_moment(mobile, tmp_path):
    """With particles that move before the jump it costs a corrector call, without them the last one is right."""
    k, a, b = 4, 2e-6, 3e-5
    jumps.write_jump(tmp_path / "f.pt", jumps.ShowsForces(a, b), 2, k - 1, DT)
    integrator = make_jump(tmp_path / "f.pt", k)
    v0 = V0.copy()
    v0[[i for i in MM if i not in mobile]] = 0
    context = make_context(tethered_system(mobile=[*QM, *mobile]), integrator, v=v0)

    def jump(x, v):
        f = (common_forces(x) + corrector_forces(x))[QM]
        return a * f, b * f

    integrator.step(10)
    x, v = composed_map(X0, v0, k, common_forces, mobile, jump, 10)
    assert_state(context, x, v, particles=[*QM, *mobile])
    assert integrator.getStatistics()["correctorCalls"] == 1 + (3 if mobile else 2) * 10
    # Moved by the user: the forces at the new positions.
    context.setPositions(X0)
    context.setVelocities(v0)
    integrator.step(1)
    assert_state(context, *composed_map(X0, v0, k, common_forces, mobile, jump, 1), particles=[*QM, *mobile])


def test_surroundings_alone_make_verlet_steps(tmp_path):
    """Without coupling the others move as if there were no QM region: k base steps of velocity Verlet for odd k."""
    k, couplings = 7, [(1, 2, 1.0e3)]
    jumps.write_jump(tmp_path / "still.pt", jumps.Still(), 2, k - 1, DT)
    found = []
    for path in (exact(tmp_path, k), tmp_path / "still.pt"):
        integrator = make_jump(path, k)
        context = make_context(tethered_system(couplings), integrator)
        integrator.step(20)
        found.append(get_positions(context))
    assert np.array_equal(found[0][MM], found[1][MM])
    assert not np.array_equal(found[0][QM], found[1][QM])
    x, v, m = X0.copy(), V0.copy(), MASSES[:, None]
    for _ in range(20 * k):
        v += 0.5 * DT * common_forces(x, couplings) / m
        x += DT * v
        v += 0.5 * DT * common_forces(x, couplings) / m
    assert_state(context, x, v, particles=MM)


def test_a_model_in_the_models_group_is_ignored(tmp_path):
    states = []
    for with_model in (False, True):
        system = tethered_system()
        if with_model:
            system.addForce(tether([0, 1, 2, 3], 2))
        integrator = make_jump(exact(tmp_path, 4), 4, friction=10)
        context = make_context(system, integrator)
        assert integrator.getIntegrationForceGroups() & 0b111 == 0b011
        integrator.step(5)
        states.append(full_state(context))
    assert states[0] == states[1]


def test_rigid_water_around(tmp_path):
    """Constraints among the others hold, and their velocities too."""
    k, dt = 6, 0.0005
    _, system = water_system(3)
    qm = system.addParticle(16.0)
    lj = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    lj.addParticle(0.3, 0.3, 0.5)
    corrector = openmm.CustomExternalForce("10000*(x^2+y^2+(z-0.45)^2)")
    corrector.addParticle(qm)
    corrector.setForceGroup(1)
    system.addForce(corrector)
    centre = [[0, 0, 0.45]]
    jumps.write_jump(tmp_path / "o.pt", jumps.Oscillators(centre, [np.sqrt(20000 / 16)], (k - 1) * dt), 1, k - 1, dt)
    integrator = make_jump(tmp_path / "o.pt", k, dt=dt, particles=[qm])
    integrator.setConstraintTolerance(1e-8)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.vstack([water_positions(3, 1), centre]))
    openmm.LocalEnergyMinimizer.minimize(context, 1)
    context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(50):
        integrator.step(10)
        state = context.getState(getEnergy=True, getPositions=True, getVelocities=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
        x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
        for c in range(system.getNumConstraints()):
            i, j, length = system.getConstraintParameters(c)
            assert np.linalg.norm(x[i] - x[j]) == pytest.approx(length._value, rel=1e-6)
            assert abs((v[i] - v[j]) @ (x[i] - x[j])) < 1e-5
    assert np.ptp(energies) < 0.5  # kJ/mol over 1.5 ps


def ou(friction, mass, t, temperature=300.0):
    c = np.exp(-friction * t)
    return c, R_GAS * temperature / mass * (1 - c * c)


def stationary_covariance(k, dt, friction, masses, tethers, spring):
    """Of (x_QM, x_MM, v_QM, v_MM) for one pair under the whole linear stochastic map, by fixed-point iteration."""
    m = np.array(masses)
    common = -np.array([[spring, -spring], [-spring, spring + tethers[1]]])
    corrector = -np.diag([tethers[0], 0.0])
    one = np.eye(2)

    def kick(force, t):
        return np.block([[one, 0 * one], [t * force / m[:, None], one]]), np.zeros((4, 4))

    def drift(t, moves):
        return np.block([[one, t * np.diag(moves)], [0 * one, one]]), np.zeros((4, 4))

    def thermostat(t, acts):
        a, noise = np.eye(4), np.zeros((4, 4))
        for i in range(2):
            if acts[i]:
                a[2 + i, 2 + i], noise[2 + i, 2 + i] = ou(friction, m[i], t)
        return a, noise

    n = int(np.ceil((k - 1) / 2))
    half = 0.5 * (k - 1) * dt
    s = half / n
    omega = np.sqrt(tethers[0] / m[0])
    jump = np.eye(4)
    c, sn = np.cos(2 * half * omega), np.sin(2 * half * omega)
    jump[0, 0], jump[0, 2], jump[2, 0], jump[2, 2] = c, sn / omega, -omega * sn, c
    sub = [kick(common, s / 2), drift(s / 2, [0, 1]), thermostat(s, [0, 1]), drift(s / 2, [0, 1]), kick(common, s / 2)]
    inner = [thermostat(half, [1, 0]), (jump, np.zeros((4, 4))), thermostat(half, [1, 0])]
    true = common + corrector
    last = [
        kick(true, dt / 2),
        drift(dt / 2, [1, 1]),
        thermostat(dt, [1, 1]),
        drift(dt / 2, [1, 1]),
        kick(true, dt / 2),
    ]
    covariance = np.zeros((4, 4))
    for _ in range(3000):
        for a, noise in [*sub * n, *inner, *sub * n, *last]:
            covariance = a @ covariance @ a.T + noise
    shift = kick(true, dt / 2)[0]
    return covariance, shift @ covariance @ shift.T


def test_langevin_samples_the_stationary_distribution(tmp_path):
    """Friction 10/ps, exact jump: variances within 4 standard errors (below 1.5 %) of the map's own and 3 % of kT's."""
    pairs, k, dt, friction = 30, 8, 0.002, 10.0
    masses, tethers, spring = (12.0, 20.0), (1.2e4, 3.0e3), 2.0e3
    system = openmm.System()
    corrector, common = (openmm.CustomExternalForce("0.5*k*(x^2+y^2+z^2)") for _ in range(2))
    springs = openmm.CustomBondForce("0.5*k*r^2")
    corrector.setForceGroup(1)
    for force, value in ((corrector, tethers[0]), (common, tethers[1]), (springs, spring)):
        force.addGlobalParameter(f"k{value:.0f}", value)
        force.setEnergyFunction(force.getEnergyFunction().replace("*k*", f"*k{value:.0f}*"))
        system.addForce(force)
    for i in range(pairs):
        for mass in masses:
            system.addParticle(mass)
        corrector.addParticle(2 * i)
        common.addParticle(2 * i + 1)
        springs.addBond(2 * i, 2 * i + 1)
    omega = np.full(pairs, np.sqrt(tethers[0] / masses[0]))
    jump = jumps.Oscillators(np.zeros((pairs, 3)), omega, (k - 1) * dt)
    jumps.write_jump(tmp_path / "pairs.pt", jump, pairs, k - 1, dt)
    integrator = make_jump(tmp_path / "pairs.pt", k, friction, dt=dt, particles=range(0, 2 * pairs, 2))
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(0.02 * np.random.default_rng(5).normal(size=(2 * pairs, 3)))
    context.setVelocitiesToTemperature(300, 7)
    integrator.step(100)
    squares, kinetic = [], []
    for _ in range(2000):
        integrator.step(5)
        state = context.getState(getPositions=True, getVelocities=True, getEnergy=True)
        z = np.stack([state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value])
        squares.append(z.reshape(2, pairs, 2, 3) ** 2)
        kinetic.append(state.getKineticEnergy()._value)
    variances = np.mean(squares, axis=0).transpose(0, 2, 1, 3).reshape(4, 3 * pairs)  # x_QM, x_MM, v_QM, v_MM
    error = variances.std(axis=1, ddof=1) / np.sqrt(3 * pairs)
    on_step, half_step = stationary_covariance(k, dt, friction, masses, tethers, spring)
    expected = np.diag(on_step)
    assert np.all(error / expected < 0.015)
    assert np.all(np.abs(variances.mean(axis=1) - expected) < 4 * error)
    kT = R_GAS * 300
    stiffness = np.array([[tethers[0] + spring, -spring], [-spring, tethers[1] + spring]])
    boltzmann = kT * np.concatenate([np.diag(np.linalg.inv(stiffness)), 1 / np.array(masses)])
    assert np.allclose(expected, boltzmann, rtol=0.03)
    # State's kinetic energy is that of the velocities half a step later; its error is the velocities'.
    expected_kinetic = 0.5 * 3 * pairs * (np.array(masses) @ np.diag(half_step)[2:])
    assert np.mean(kinetic) == pytest.approx(expected_kinetic, rel=4 * np.max(error[2:] / expected[2:]))


def test_regions_have_their_own_thermostat(tmp_path):
    """Friction on the QM particles alone: the others stay deterministic where nothing couples."""
    found = []
    for seed in (1, 2):
        integrator = make_jump(exact(tmp_path, 5), 5)
        integrator.setRegion(QM, 300, 20)
        integrator.setRandomNumberSeed(seed)
        integrator.setAllowJumpWithoutThermostat(False)
        context = make_context(tethered_system([(1, 2, 1.0e3)]), integrator)
        integrator.step(10)
        found.append(get_positions(context))
    assert np.array_equal(found[0][MM], found[1][MM])
    assert np.all(found[0][QM] != found[1][QM])


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("way", ["checkpoint", "state"])
def test_restart_bit_for_bit(way, platform, tmp_path):
    def start():
        integrator = make_jump(exact(tmp_path, 6), 6, friction=10)
        return integrator, make_context(tethered_system(), integrator, platform=platform)

    integrator, context = start()
    integrator.step(7)
    if way == "checkpoint":
        saved = context.createCheckpoint()
    else:
        saved = context.getState(getPositions=True, getVelocities=True, getIntegratorParameters=True)
    integrator.step(11)
    other, restarted = start()
    restarted.loadCheckpoint(saved) if way == "checkpoint" else restarted.setState(saved)
    restarted.getState(getEnergy=True)  # looking at it changes nothing
    other.step(11)
    assert full_state(restarted) == full_state(context)
    assert other.getStatistics() == integrator.getStatistics()


@pytest.mark.parametrize(
    "way", [lambda x: cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(x))), copy.deepcopy]
)
def test_copies(way, tmp_path):
    path = exact(tmp_path, 4)
    integrator = make_jump(path, 4, friction=12)
    integrator.setJumpNumThreads(2)
    other = way(integrator)
    assert type(other) is KStepIntegrator
    assert other.getJumpModelData() == path.read_bytes()
    assert other.getJumpParticles() == QM
    assert other.getJumpNumThreads() == 2 and other.getAllowJumpWithoutThermostat()
    contexts = [make_context(tethered_system(), i) for i in (integrator, other)]
    path.unlink()  # the bytes travel with the object
    for i in (integrator, other):
        i.step(5)
    assert full_state(contexts[0]) == full_state(contexts[1])
    # Without a model, and of another scheme.
    assert way(KStepIntegrator(DT, 4, "jump", 300)).getJumpModelData() == b""
    assert not way(KStepIntegrator(DT, 4)).getAllowJumpWithoutThermostat()


def test_reinitialize_keeps_the_model(tmp_path):
    integrator = make_jump(exact(tmp_path, 4), 4)
    context = make_context(tethered_system(), integrator)
    integrator.step(3)
    context.reinitialize(preserveState=True)
    integrator.step(2)
    x, v = composed_map(X0, V0, 4, common_forces, MM, lambda x, v: exact_map(x, v, 3 * DT), 5)
    assert_state(context, x, v)
