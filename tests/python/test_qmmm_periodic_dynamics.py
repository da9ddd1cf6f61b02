"""All schemes in a periodic box: a QM water (GFN2-xTB, a model that sees phi) among rigid TIP3P waters with PME."""

import dataclasses

import generate
import jumps
import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of, get_positions, water_positions, water_topology
from openmm import app, unit

from openmmkstep import KStepIntegrator, XtbForce, cast, createQMMMSystem, findMollification, saveModel

NUM = 27
EDGE = 0.95  # nm
SWITCHING, CUTOFF = 0.2, 0.32  # nm; with 0.08 nm of the QM water less than half of the box
EWALD = 2e-5  # at 2e-4 the energy wanders by 0.06 kJ/mol for what PME leaves out at the cutoff
SCHEMES = ("impulse", "mollified", "metropolis", "reweight")
TOLERANCES = {"impulse": 0.2, "mollified": 0.2, "metropolis": 0.02, "reweight": 0.02}  # kJ/mol
BONDS = [(0, 1, 0.0960), (0, 2, 0.0965)]


@dataclasses.dataclass
class Box:
    topology: app.Topology
    system: openmm.System
    positions: np.ndarray
    velocities: np.ndarray


def build(
    model, mm_cutoff: float = 0.42, cutoff: float = CUTOFF, ewald: float = EWALD
) -> tuple[app.Topology, openmm.System, openmm.System]:
    """Topology, force-field System and QM/MM System."""
    topology = water_topology(NUM)
    topology.setPeriodicBoxVectors(np.diag([EDGE] * 3) * unit.nanometer)
    mm = app.ForceField("amber14/tip3p.xml").createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=mm_cutoff,
        switchDistance=0.7 * mm_cutoff,
        ewaldErrorTolerance=ewald,
        rigidWater=True,
        removeCMMotion=False,
    )
    system = createQMMMSystem(topology, mm, range(3), model=model, cutoff=cutoff, switchingDistance=SWITCHING)
    cast(system.getForce(system.getNumForces() - 2)).setAccuracy(0.01)
    return topology, mm, system


@pytest.fixture(scope="module")
def box(models) -> Box:
    """A state at 300 K. The QM water is in the middle of the lattice, which lies across the corner of the box."""
    topology, mm, system = build(models("phi_charges"))
    # Not on the CPU platform, which gives another start each time.
    reference = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.LangevinMiddleIntegrator(300, 10, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(mm, integrator, reference)
    context.setPositions(water_positions(NUM, 1))
    openmm.LocalEnergyMinimizer.minimize(context, 20, 60)
    context.setVelocitiesToTemperature(300, 2)
    integrator.step(600)
    integrator = KStepIntegrator(0.0005, 20, "reweight", 300, 20)
    integrator.setRandomNumberSeed(1)
    qmmm = openmm.Context(system, integrator, reference)
    qmmm.setPositions(get_positions(context))
    qmmm.setVelocitiesToTemperature(300, 2)
    integrator.step(30)
    velocities = qmmm.getState(velocities=True).getVelocities(asNumpy=True)._value
    return Box(topology, system, get_positions(qmmm), np.array(velocities))


def make_integrator(scheme: str, friction: float = 0.0, dt: float = 0.0005) -> KStepIntegrator:
    """A friction that is as good as none where the scheme insists on one."""
    if scheme in ("impulse", "mollified"):
        integrator = KStepIntegrator(dt, 4 if scheme == "impulse" else 8, "impulse", 300, friction)
        integrator.setMollification(BONDS if scheme == "mollified" else [])
    else:
        integrator = KStepIntegrator(dt, 8, scheme, 300, friction or 1e-12)
    integrator.setRandomNumberSeed(5)
    integrator.setConstraintTolerance(1e-9)
    return integrator


def start(box: Box, integrator, positions=None, system=None) -> openmm.Context:
    context = openmm.Context(system or box.system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(box.positions if positions is None else positions)
    context.setVelocities(box.velocities)
    return context


def molecules_moved(x: np.ndarray, seed: int) -> np.ndarray:
    """Every molecule in an image of its own, up to three boxes away."""
    return x + EDGE * np.repeat(np.random.default_rng(seed).integers(-3, 4, (NUM, 3)), 3, axis=0)


def split(x: np.ndarray, seed: int) -> np.ndarray:
    """As molecules_moved(), and each atom of the QM water in an image of its own."""
    moved = molecules_moved(x, seed)
    moved[:3] = x[:3] + EDGE * np.random.default_rng(seed + 1).integers(-2, 3, (3, 3))
    assert np.abs(moved[1:3] - moved[0]).max() > 0.5 * EDGE
    return moved


def assert_same_images(x, y, tolerance: float) -> None:
    d = (x - y) / EDGE
    np.testing.assert_allclose(EDGE * (d - np.round(d)), 0, atol=tolerance)


def total_energy(context, groups: set[int]) -> float:
    """Potential energy of the groups, and kinetic energy of the on-step velocities, which are what Verlet conserves."""
    v = context.getState(velocities=True).getVelocities(asNumpy=True)._value
    masses = np.array([context.getSystem().getParticleMass(i)._value for i in range(len(v))])
    return energy_of(context, groups) + 0.5 * (masses @ v**2).sum()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_scheme_conserves(box, scheme):
    """Without friction: impulse the true energy, mollified that of D(A(x)), the others the fast one along a proposal."""
    integrator = make_integrator(scheme, dt=0.00025)
    context = start(box, integrator)
    values, moved = [], 0
    for _ in range(30):
        before = get_positions(context)
        integrator.step(1)
        moved += np.abs(get_positions(context) - before).max() > 1e-4
        if scheme == "mollified":
            values.append(integrator.computeConservedEnergy()._value)
        else:
            values.append(total_energy(context, {0, 1} if scheme == "impulse" else {0, 2}))
    statistics = integrator.getStatistics()
    if scheme == "metropolis":
        assert moved == statistics["accepted"] > 3
    else:
        assert moved == 30
    assert statistics["redone"] == 0
    # The model is a harmonic molecule of its own; what impulses at 1 and 2 fs leave is the size of its error.
    assert np.std(values) < TOLERANCES[scheme], np.std(values)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_start_in_any_images(box, scheme):
    """Molecules in other images, the QM water in pieces: the same trajectory but for rounding."""
    runs = []
    for x in (box.positions, split(box.positions, 3)):
        integrator = make_integrator(scheme, 1.0)
        context = start(box, integrator, x)
        integrator.step(4)
        runs.append((get_positions(context), integrator.getStatistics()))
    (x, statistics), (y, others) = runs
    assert np.abs(x - box.positions).max() > 2e-3
    assert_same_images(x, y, 1e-7)
    assert statistics["flips"] == others["flips"]
    assert statistics["meanD"]._value == pytest.approx(others["meanD"]._value, abs=1e-3)
    # Nothing is moved to another image behind the user's back.
    assert np.abs(y[1] - y[0]).max() > 0.5 * EDGE


@pytest.mark.parametrize("scheme", SCHEMES)
def test_wrapped_in_the_middle_of_a_run(box, scheme):
    runs = []
    for wraps in (False, True):
        integrator = make_integrator(scheme)
        context = start(box, integrator)
        integrator.step(2)
        context.setPositions(split(get_positions(context), 8) if wraps else get_positions(context))
        integrator.step(2)
        runs.append(get_positions(context))
    assert_same_images(*runs, 1e-7)


def test_both_forces_see_the_same_images(box):
    """Energies and forces of all groups, and D, whatever the images of molecules and QM atoms."""
    integrator = make_integrator("metropolis")
    context = start(box, integrator)
    reference = {group: energy_forces(context, {group}) for group in (0, 1, 2)}
    d = integrator.computeD()._value
    assert d == pytest.approx(reference[1][0] - reference[2][0], abs=1e-4)
    # Some waters are seen and some are not.
    assert 4 < (np.abs(reference[2][1][3::3]).max(axis=1) > 0).sum() < NUM - 4
    for seed in range(5):
        context.setPositions(split(box.positions, seed))
        for group, (expected, forces) in reference.items():
            found, found_forces = energy_forces(context, {group})
            assert found == pytest.approx(expected, abs=1e-4)
            np.testing.assert_allclose(found_forces, forces, atol=5e-3)
        assert integrator.computeD()._value == pytest.approx(d, abs=1e-4)


@pytest.mark.parametrize("scheme", ["impulse", "metropolis", "reweight"])
def test_barostat_trials_that_break_the_box_check(models, box, scheme):
    """Under 20 kbar the box shrinks until cutoff and QM region hardly fit; worse trials are rejected, the run goes on."""
    cutoff = 0.365
    *_, system = build(models("phi_charges"), 0.3, cutoff, 2e-4)
    barostat = openmm.MonteCarloBarostat(20000 * unit.bar, 300 * unit.kelvin, 1)
    barostat.setRandomNumberSeed(4)
    system.addForce(barostat)
    integrator = KStepIntegrator(0.0005, 2, scheme, 300, 5.0)
    integrator.setRandomNumberSeed(5)
    context = start(box, integrator, system=system)
    edges, rooms = [], []
    for _ in range(120):
        integrator.step(1)
        state = context.getState(positions=True)
        x = state.getPositions(asNumpy=True)._value[:3]
        edges.append(state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0])
        rooms.append(0.5 * edges[-1] - cutoff - np.linalg.norm(x - x.mean(axis=0), axis=1).max())
    assert integrator.getStatistics()["macroSteps"] == 120
    assert min(rooms) > 0
    # Near the limit for long: trials leave 2 % of half the box (0.009 nm), and change it by up to 0.0015 nm.
    assert np.sum(np.array(rooms) < 0.012) > 10
    assert len(set(edges)) > 10


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_checkpoint_with_a_barostat(box, scheme):
    """The continued run, the same Context after loadCheckpoint(), and a new one: equal to the last bit.

    After ten trials OpenMM's barostat adapts their size, which is not in its checkpoints: so there are nine at most.
    """
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(box.system))
    barostat = openmm.MonteCarloBarostat(1 * unit.bar, 300 * unit.kelvin, 1)
    barostat.setRandomNumberSeed(4)
    system.addForce(barostat)

    def end(context) -> tuple:
        context.getIntegrator().step(3)
        state = context.getState(positions=True, velocities=True)
        arrays = (
            state.getPositions(asNumpy=True),
            state.getVelocities(asNumpy=True),
            state.getPeriodicBoxVectors(True),
        )
        return tuple(a._value.tobytes() for a in arrays)

    context = start(box, make_integrator(scheme, 1.0), split(box.positions, 3), system)
    volumes = {context.getState().getPeriodicBoxVolume()._value}
    context.getIntegrator().step(3)
    checkpoint = context.createCheckpoint()
    volumes.add(context.getState().getPeriodicBoxVolume()._value)
    expected = end(context)
    volumes.add(context.getState().getPeriodicBoxVolume()._value)
    assert len(volumes) > 1  # of six trials some were accepted
    context.loadCheckpoint(checkpoint)
    assert end(context) == expected
    another = start(box, make_integrator(scheme, 1.0), system=system)
    another.loadCheckpoint(checkpoint)
    assert end(another) == expected


def test_output_keeps_the_region_whole():
    """enforcePeriodicBox with a QM methyl across the edge, the MM host of its link hydrogen, and a QM atom apart."""
    xtb = XtbForce("GFN2-xTB", [0, 1, 2, 3, 6], [6, 1, 1, 1, 10])
    xtb.addLinkAtom(0, 4, 0.109)
    xtb.setUsesPeriodicBoundaryConditions(True)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*np.diag([2.0, 2.0, 2.0]))
    for _ in range(7):
        system.addParticle(12.0)
    system.addForce(xtb)
    x = np.array([[0, 0, 0], [0, 0.1, 0], [0, -0.05, 0.09], [0, -0.05, -0.09], [0.15, 0, 0], [1, 1, 1], [-0.1, 0.3, 0]])
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    for shift in ([1.99, 0.02, 0.01], [-3.97, 4.01, 7.95]):
        context.setPositions(x + shift)
        found = context.getState(positions=True, enforcePeriodicBox=True).getPositions(asNumpy=True)._value
        whole = [0, 1, 2, 3, 4, 6]
        np.testing.assert_allclose(found[whole] - found[0], x[whole], atol=1e-12)
        assert (found[whole].mean(axis=0) >= -1e-12).all() and (found[whole].mean(axis=0) <= 2).all()


@pytest.mark.parametrize("upper", [0.15, 0.09])
def test_region_of_validity_of_a_split_molecule(box, tmp_path, upper):
    """The declared distances hold for the whole molecule: no fault within them, although its atoms are boxes apart."""
    fields = generate.MODELS["phi_charges"][1] | {"distanceRanges": [(0, 1, 0.05, upper), (1, 2, 0.05, 0.25)]}
    contract = dataclasses.replace(generate.contract("phi_charges"), **fields)
    saveModel(generate.PhiCharges(), tmp_path / "model.pt", contract)
    *_, system = build(tmp_path / "model.pt")
    integrator = make_integrator("impulse")
    context = start(box, integrator, split(box.positions, 3), system)
    context.getIntegrator().step(3)
    faults = integrator.getStatistics()["outsideRegion"]
    assert faults == 0 if upper > 0.1 else faults > 0


def test_resonance_of_a_split_molecule(box):
    """The O-H bonds are found across the edge: 8 fs are refused as ever."""
    context = start(box, KStepIntegrator(0.0005, 16), split(box.positions, 3))
    with pytest.raises(openmm.OpenMMException, match="period of the bond between particles 0 and"):
        context.getIntegrator().step(1)


def test_mollification_of_a_split_molecule(box):
    """findMollification() measures whole molecules, and bonds and bends are reset across the edge."""
    bonds, angles = findMollification(box.topology, box.system, split(box.positions, 3), picoseconds=0.1, deep=True)
    assert [r._value for _, _, r in bonds] == pytest.approx([0.096, 0.096], abs=0.004)
    assert len(angles) == 1
    runs = []
    for x in (box.positions, split(box.positions, 3)):
        integrator = make_integrator("mollified")
        integrator.setMollification(bonds)
        integrator.setMollifiedAngles(angles)
        context = start(box, integrator, x)
        integrator.step(4)
        runs.append(get_positions(context))
    assert_same_images(*runs, 1e-7)


@pytest.mark.parametrize("limits", [(), ((0, 1, 0.05, 0.15),)])
def test_jump_of_a_split_molecule(tmp_path, limits):
    """A direct model of two atoms on a spring is given the molecule whole; its atoms stay in their images."""
    dt, k, spring, masses, edge = 0.0005, 6, 2.0e4, [12.0, 16.0], 1.5
    reference = np.array([[0.0, 0, 0], [0.1, 0, 0]])
    stiffness = spring * np.kron(np.array([[1, -1], [-1, 1]]), np.eye(3))
    module = jumps.Molecule(reference, stiffness, masses, (k - 1) * dt)
    jumps.write_jump(tmp_path / "jump.pt", module, 2, k - 1, dt, distanceRanges=limits)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*np.diag([edge] * 3))
    for mass in [*masses, 20.0]:
        system.addParticle(mass)
    # The spring of the reference: |x1 - x0 - d|^2, each component to the nearest image.
    terms = (
        f"(({b}2-{b}1-{d})-{edge}*floor(({b}2-{b}1-{d})/{edge}+0.5))^2"
        for b, d in zip("xyz", reference[1], strict=True)
    )
    corrector = openmm.CustomCompoundBondForce(2, f"{0.5 * spring}*({'+'.join(terms)})")
    corrector.addBond([0, 1], [])
    corrector.setForceGroup(1)
    common = openmm.HarmonicBondForce()
    common.addBond(1, 2, 0.2, 500.0)
    common.setUsesPeriodicBoundaryConditions(True)
    system.addForce(corrector)
    system.addForce(common)
    x0 = np.array([[0.02, 1.48, 0.7], [0.115, 1.49, 0.71], [0.3, 1.4, 0.7]])
    v0 = np.random.default_rng(1).normal(size=(3, 3)) * 0.3
    runs = []
    for shift in (np.zeros((3, 3)), edge * np.array([[1, 0, 0], [0, -2, 1], [1, 1, 1]])):
        integrator = KStepIntegrator(dt, k, "jump", 300, 0)
        integrator.setJumpModel(tmp_path / "jump.pt", [0, 1])
        integrator.setAllowJumpWithoutThermostat(True)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(x0 + shift)
        context.setVelocities(v0)
        integrator.step(20)
        assert integrator.getStatistics()["redone"] == 0
        runs.append(get_positions(context) - shift)
    assert np.abs(runs[0] - x0).max() > 0.01
    np.testing.assert_allclose(runs[1], runs[0], atol=1e-10)
