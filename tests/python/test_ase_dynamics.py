"""KStep on ASE's Atoms: the same trajectories as KStepIntegrator's, the right ensemble, ASE's own form, restarts."""

import numpy as np
import openmm
import pytest
from conftest import MOLECULES, water_positions, water_system
from tethered import (
    CENTRES,
    DT,
    MM,
    QM,
    TETHER,
    exact,
    make_context,
    tether,
    tethered_system,
)

pytest.importorskip("ase", reason="ASE is not installed; pip install 'openmmkstep[ase]'")

from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, SCFError
from ase.calculators.harmonic import SpringCalculator
from ase.constraints import FixAtoms, FixBondLengths, Hookean
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase_systems import assert_same_state, tethered_atoms

from openmmkstep import KStepIntegrator, KStepModelForce, XtbForce, createQMMMSystem
from openmmkstep.ase import KStep, KStepModelCalculator, OpenMMCalculator, XtbForceCalculator, create_atoms

FS, PS = units.fs, 1000 * units.fs
KB = units.kB
NEARLY_NONE = 1e-20


def tethered_with_model() -> openmm.System:
    """As tethered_system(), with softer and shifted tethers of the QM particles as the model."""
    system = tethered_system()
    model = tether(QM, 2)
    for j, i in enumerate(QM):
        model.setParticleParameters(j, i, [0.9 * TETHER[i], *(CENTRES[i] + 0.003)])
    system.addForce(model)
    return system


def parts(system: openmm.System) -> dict:
    return {n: OpenMMCalculator(system, [g]) for n, g in (("common", 0), ("corrector", 1), ("model", 2))}


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_same_trajectory_as_openmm(scheme):
    # In 'metropolis' a friction that rounds to none, and a temperature at which every proposal is accepted.
    system = tethered_with_model()
    context = make_context(system, KStepIntegrator(DT, 4, scheme, 1e6, NEARLY_NONE if scheme == "metropolis" else 0.0))
    context.getIntegrator().step(100)
    atoms = tethered_atoms()
    dynamics = KStep(
        atoms,
        FS,
        4,
        scheme,
        **parts(system),
        temperature_K=1e6,
        friction=NEARLY_NONE if scheme == "metropolis" else 0.0,
    )
    dynamics.run(100)
    assert_same_state(atoms, context, 1e-9)
    assert dynamics.get_time() == pytest.approx(400 * FS)


def test_same_trajectory_of_xtb_and_a_model(models):
    numbers, positions, _, _ = MOLECULES["bent water"]
    velocities = np.random.default_rng(5).normal(size=(3, 3))
    system = openmm.System()
    for mass in (16.0, 1.0, 1.0):
        system.addParticle(mass)
    xtb = XtbForce("GFN2-xTB", range(3), numbers)
    xtb.setAccuracy(0.001)
    model = KStepModelForce(models("forces"), range(3))
    for group, force in ((1, xtb), (2, model)):
        force.setForceGroup(group)
        system.addForce(force)
    integrator = KStepIntegrator(0.00025, 4)
    context = make_context(system, integrator, positions, velocities)
    atoms = Atoms(numbers, positions=10 * np.array(positions), masses=(16.0, 1.0, 1.0))
    atoms.set_velocities(10 * velocities / PS)
    dynamics = KStep(
        atoms, 0.25 * FS, 4, corrector=XtbForceCalculator(accuracy=0.001), model=KStepModelCalculator(models("forces"))
    )
    for _ in range(10):
        integrator.step(10)
        dynamics.run(10)
    assert_same_state(atoms, context, 1e-7)
    assert dynamics.statistics.corrector_calls == 101


def test_any_calculator_can_correct(models):
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    ends = []
    for corrector in (XtbForceCalculator(accuracy=0.001), tblite.TBLite(accuracy=0.001, verbosity=0)):
        atoms = Atoms("OH2", positions=10 * np.array(MOLECULES["bent water"][1]))
        atoms.calc = corrector
        atoms.set_momenta(np.random.default_rng(1).normal(size=(3, 3)))
        KStep(atoms, 0.5 * FS, 4, model=models("forces")).run(20)
        ends.append(atoms)
    np.testing.assert_allclose(ends[0].positions, ends[1].positions, atol=1e-5)
    np.testing.assert_allclose(ends[0].get_forces(), ends[1].get_forces(), atol=1e-3)


def test_same_trajectory_with_rigid_waters(models):
    topology, mm_system = water_system(5)
    system = createQMMMSystem(topology, mm_system, range(3), model=models("phi_charges"))
    integrator = KStepIntegrator(0.0005, 4)
    integrator.setConstraintTolerance(1e-10)
    context = make_context(system, integrator, water_positions(5, 1), np.random.default_rng(1).normal(size=(15, 3)))
    context.applyConstraints(1e-10)
    context.applyVelocityConstraints(1e-10)
    state = context.getState(getPositions=True, getVelocities=True)
    atoms = create_atoms(topology, system, state.getPositions())
    assert len(atoms.constraints[0].pairs) == 3 * 4
    atoms.set_velocities(10 * state.getVelocities(asNumpy=True)._value / PS)
    integrator.step(10)
    dynamics = KStep(atoms, 0.5 * FS, 4, **parts(system))
    dynamics.run(10)
    assert_same_state(atoms, context, 1e-7)


def springs(k: float, shift: float = 0.0, num: int = 4) -> SpringCalculator:
    ideal = 3.0 * np.arange(num)[:, None] * np.ones(3) + shift
    return SpringCalculator(ideal, k)


def springs_atoms(num: int = 4) -> Atoms:
    atoms = Atoms(["O"] * num, positions=springs(1.0, num=num).ideal_positions)
    atoms.set_momenta(np.zeros((num, 3)))
    return atoms


TRUE_K, MODEL_K = 5.0, 4.0  # eV/Angstrom^2


def mean_and_error(series) -> tuple[float, float]:
    """Mean and standard error from 20 blocks."""
    blocks = np.array_split(np.array(series), 20)
    means = [b.mean() for b in blocks]
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(len(means)))


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_samples_the_true_ensemble(scheme):
    # On the model alone the potential energy would be 1.25 times that of the true Hamiltonian. Energies decorrelate in
    # 1/friction = 0.033 ps, a tenth of a block; macro-steps of 6 fs change the averages by (k_true - k_model) h^2/4m = 0.5 %.
    num, macro_steps = 12, 1200
    atoms = springs_atoms(num)
    dynamics = KStep(
        atoms,
        2 * FS,
        3,
        scheme,
        corrector=springs(TRUE_K, num=num),
        model=springs(MODEL_K, num=num),
        temperature_K=300,
        friction=30 / PS,
        rng=1,
    )
    dynamics.run(100)
    potential, kinetic = [], []
    for _ in dynamics.irun(macro_steps):
        potential.append(atoms.get_potential_energy() / (1.5 * num * KB * 300))
        kinetic.append(atoms.get_kinetic_energy() / (1.5 * num * KB * 300))
    for series in (potential, kinetic):
        mean, error = mean_and_error(series)
        assert error < 0.03
        assert abs(mean - 1) < 4 * error
    statistics = dynamics.statistics
    if scheme == "metropolis":
        assert 0.5 < statistics.first_accepted / statistics.macro_steps < 0.99
        assert statistics.accepted + statistics.flips == statistics.macro_steps == 1300
        assert dynamics.get_time() == pytest.approx(statistics.tests * 6 * FS)
    # One call a test (or macro-step), and the first.
    assert statistics.corrector_calls == 1 + max(statistics.tests, statistics.macro_steps)


def test_flip_restores_positions_and_reverses_momenta():
    atoms = springs_atoms()
    atoms.set_momenta(np.random.default_rng(1).normal(size=(4, 3)))
    dynamics = KStep(
        atoms,
        FS,
        4,
        "metropolis",
        corrector=springs(50.0),
        model=springs(0.0),
        temperature_K=1.0,
        friction=NEARLY_NONE,
        rng=1,
        extra_chances=3,
    )
    x, p = atoms.get_positions(), atoms.get_momenta()
    dynamics.run(1)
    assert dynamics.statistics.flips == 1 and dynamics.statistics.tests == 3
    np.testing.assert_array_equal(atoms.get_positions(), x)
    np.testing.assert_array_equal(atoms.get_momenta(), -p)
    assert atoms.get_potential_energy() == 0.0
    assert dynamics.statistics.corrector_calls == 4
    assert dynamics.get_time() == pytest.approx(12 * FS)


def test_scf_failure_is_a_failed_test_and_an_error_in_impulse():
    class Fails(SpringCalculator):
        def calculate(self, atoms, properties, system_changes):
            if abs(atoms.positions - self.ideal_positions).max() > 0.1:
                raise SCFError("no convergence")
            super().calculate(atoms, properties, system_changes)

    fails = Fails(springs(1.0).ideal_positions, 1.0)
    atoms = springs_atoms()
    atoms.set_momenta(np.full((4, 3), 5.0))
    p = atoms.get_momenta()
    options = {"corrector": fails, "model": springs(1.0), "temperature_K": 300, "friction": NEARLY_NONE}
    dynamics = KStep(atoms, 2 * FS, 10, "metropolis", extra_chances=1, rng=1, **options)
    dynamics.run(1)
    assert dynamics.statistics.flips == 1
    np.testing.assert_array_equal(atoms.get_momenta(), -p)
    dynamics = KStep(atoms, 2 * FS, 10, **options)
    with pytest.raises(CalculationFailed, match="no convergence"):
        dynamics.run(1)
    np.testing.assert_array_equal(atoms.get_momenta(), -p)
    np.testing.assert_array_equal(atoms.get_positions(), fails.ideal_positions)


def water_dynamics(models, seed: int, scheme="metropolis", **options) -> KStep:
    numbers, positions, _, _ = MOLECULES["bent water"]
    atoms = Atoms(numbers, positions=10 * np.array(positions))
    atoms.calc = XtbForceCalculator()
    atoms.set_momenta(np.random.default_rng(seed).normal(size=(3, 3)))
    settings = {"model": models("forces"), "temperature_K": 300, "friction": 1 / PS, "rng": seed}
    return KStep(atoms, 0.5 * FS, 4, scheme, **settings, **options)


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_restart_to_the_last_bit(tmp_path, models, scheme):
    run = water_dynamics(models, 1, scheme)
    run.run(5)
    run.save_checkpoint(tmp_path / "run.npz")
    run.run(10)
    other = water_dynamics(models, 2, scheme)
    other.load_checkpoint(tmp_path / "run.npz")
    assert other.nsteps == 5
    other.run(10)
    np.testing.assert_array_equal(other.atoms.get_positions(), run.atoms.get_positions())
    np.testing.assert_array_equal(other.atoms.get_momenta(), run.atoms.get_momenta())
    assert other.get_time() == run.get_time()
    assert other.statistics.tests == run.statistics.tests and other.statistics.macro_steps == 15
    with pytest.raises(ValueError, match="expected version 1 and the 4 atoms of this run"):
        options = {"corrector": springs(1.0), "model": springs(1.0)}
        KStep(springs_atoms(), FS, 2, **options).load_checkpoint(tmp_path / "run.npz")


def test_ases_own_form(tmp_path, models):
    """attach, logger, trajectory and irun, with the true energies and no more corrector calls than macro-steps."""
    calls = []

    class Counted(XtbForceCalculator):
        def calculate(self, *args, **kwargs):
            calls.append(1)
            super().calculate(*args, **kwargs)

    for scheme in ("impulse", "metropolis"):
        calls.clear()
        files = {"trajectory": str(tmp_path / "run.traj"), "logfile": str(tmp_path / "run.log")}
        times = []
        dynamics = water_dynamics(models, 1, scheme, corrector=Counted(), extra_chances=1, **files)
        dynamics.attach(lambda: times.append(dynamics.get_time()), interval=2)  # noqa: B023
        for i, _ in enumerate(dynamics.irun(10)):
            assert dynamics.nsteps == i
        assert dynamics.todict()["k"] == 4
        assert len(calls) == 11 == dynamics.statistics.corrector_calls
        np.testing.assert_allclose(times, 2 * FS * np.arange(0, 11, 2))
        frames = read(tmp_path / "run.traj", ":")
        assert len(frames) == 11
        reference = XtbForceCalculator()
        for frame in frames[::5]:
            assert frame.get_potential_energy() == pytest.approx(reference.get_potential_energy(frame), abs=1e-6)
            np.testing.assert_allclose(frame.get_forces(), reference.get_forces(frame), atol=1e-4)
        lines = (tmp_path / "run.log").read_text().splitlines()
        assert len(lines) == 12
        assert float(lines[-1].split()[0]) == pytest.approx(0.02)  # ps
        # Going on is nothing new, and knows where it is.
        dynamics.run(1)
        assert len(calls) == 12 and dynamics.nsteps == 11
        (tmp_path / "run.log").unlink()


def test_impulse_without_difference_is_velocity_verlet():
    # With a model that is the corrector, k steps are k steps of ASE's own velocity Verlet; constraints of every kind.
    runs = []
    for kind in ("kstep", "verlet"):
        atoms = springs_atoms()
        atoms.set_momenta(np.random.default_rng(4).normal(size=(4, 3)))
        atoms.positions += 0.1 * np.random.default_rng(3).normal(size=(4, 3))
        bond = FixBondLengths([(0, 1)], bondlengths=[atoms.get_distance(0, 1)])
        atoms.set_constraint([FixAtoms([3]), bond, Hookean(1, 2, 2.0, 4.0)])
        atoms.set_momenta(atoms.get_momenta())
        if kind == "verlet":
            atoms.calc = springs(TRUE_K)
            VelocityVerlet(atoms, FS).run(100)
        else:
            dynamics = KStep(atoms, FS, 5, corrector=springs(TRUE_K), model=springs(TRUE_K))
            dynamics.run(20)
        runs.append(atoms)
    np.testing.assert_allclose(runs[0].positions, runs[1].positions, atol=1e-9)
    np.testing.assert_allclose(runs[0].get_momenta(), runs[1].get_momenta(), atol=1e-8)
    np.testing.assert_allclose(runs[0].get_forces(), runs[1].get_forces(), atol=1e-8)
    assert runs[0].get_total_energy() == pytest.approx(runs[1].get_total_energy(), abs=1e-9)


def test_settings_that_do_not_fit(tmp_path, models):
    atoms = springs_atoms()
    options = {"corrector": springs(1.0), "model": springs(1.0)}
    for error, text, args, changes in (
        (ValueError, "one of the schemes impulse, metropolis, jump, found 'respa'", (FS, 2, "respa"), {}),
        (ValueError, "a whole number k of at least 1", (FS, 0), {}),
        (ValueError, "needs a temperature: give a positive temperature_K", (FS, 2, "metropolis"), {}),
        (ValueError, "not negative; found -1", (FS, 2), {"friction": -1}),
        (ValueError, "velocities are never refreshed", (FS, 2, "metropolis"), {"temperature_K": 9, "friction": 0.0}),
        (ValueError, "needs an expensive calculator", (FS, 2), {"corrector": None}),
        (TypeError, "must be a calculator or a model file, found None", (FS, 2), {"model": None}),
        (ValueError, r"wrap it in LinkAtoms\(calculator, selection\)", (FS, 2), {"selection": [0]}),
        (ValueError, "needs a thermostat", (FS, 5, "jump"), {"friction": 0.0, "model": exact(tmp_path, 5)}),
        (
            ValueError,
            r"elements \[1, 1\] in this order",
            (FS, 5, "jump"),
            {"temperature_K": 9, "model": exact(tmp_path, 5)},
        ),
        (ValueError, "is of the kind 'potential'", (FS, 5, "jump"), {"temperature_K": 9, "model": models("energy")}),
    ):
        with pytest.raises(error, match=text):
            KStep(atoms, *args, **(options | changes))
    atoms = tethered_atoms()
    settings = {"temperature_K": 300, "corrector": springs(1.0), "model": exact(tmp_path, 5), "selection": QM}
    with pytest.raises(ValueError, match="covers k-1 = 5 base steps of 1 fs, found one for 4 of 1 fs. Set k to 5"):
        KStep(atoms, FS, 6, "jump", **settings)
    atoms.set_constraint(FixBondLengths([(QM[0], MM[0])]))
    with pytest.raises(ValueError, match="Atoms that jump cannot be constrained, but FixBondLengths"):
        KStep(atoms, FS, 5, "jump", **settings)


def test_warns_of_resonance():
    atoms = Atoms("OH2", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    options = {"corrector": springs(1.0, num=3), "model": springs(1.0, num=3)}
    with pytest.warns(UserWarning, match="a macro-step of 4 fs is near the resonance"):
        KStep(atoms, 0.5 * FS, 8, **options)
