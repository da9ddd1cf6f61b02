"""The checks of the package physical_validation (Merz and Shirts, PLoS ONE 13, e0202764 (2018)) on a small system.

Diatomic molecules in wells of their own: corrector and a model that is 30 % too soft. Default runs are short; --slow
makes them ten times longer. Kinetic energies are those of State, which under friction are the half-step ones; on-step
velocities of BAOAB are too cold by the square of the base step.
"""

import numpy as np
import openmm
import pytest

import openmmkstep  # noqa: F401  (before physical_validation, which imports much)
from openmmkstep import KStepIntegrator

physical_validation = pytest.importorskip("physical_validation")

NUM = 8
FREEDOM = 6 * NUM
GAS = 8.31446261815324e-3


def make_system() -> openmm.System:
    system = openmm.System()
    for _ in range(NUM):
        for mass in (6.0, 10.0):
            system.addParticle(mass)
    for group, scale in ((1, 1.0), (2, 0.7)):
        bonds = openmm.HarmonicBondForce()
        wells = openmm.CustomExternalForce(f"{scale}*150*(x^2+y^2+z^2)")
        for i in range(NUM):
            bonds.addBond(2 * i, 2 * i + 1, 0.15, scale * 4000)
            wells.addParticle(2 * i)
        for force in (bonds, wells):
            force.setForceGroup(group)
            system.addForce(force)
    return system


def make_context(integrator) -> openmm.Context:
    integrator.setRandomNumberSeed(21)
    context = openmm.Context(make_system(), integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.tile([[0.01, 0, 0], [0.16, 0, 0]], (NUM, 1)))
    return context


def sample(scheme: str, temperature: float, samples: int, region_temperature=None, thermostat="langevin") -> dict:
    """Kinetic energies of the two halves and potential energies (kJ/mol) at intervals longer than their memory."""
    integrator = KStepIntegrator(0.003, 2 if scheme == "impulse" else 8, scheme, temperature, 20)
    if thermostat == "bussi":
        integrator.setThermostat("bussi")
    if region_temperature is not None:
        integrator.setRegion(range(NUM), region_temperature, 20, thermostat)
    context = make_context(integrator)
    context.setVelocitiesToTemperature(temperature, 22)
    masses = np.tile([6.0, 10.0], NUM)
    steps = 12 if scheme == "impulse" else 4
    integrator.step(20 * steps)
    rows = []
    for _ in range(samples):
        integrator.step(steps)
        state = context.getState(energy=True, groups=integrator.getIntegrationForceGroups())
        v = np.array(
            integrator.computeHalfStepVelocities().value_in_unit(openmm.unit.nanometer / openmm.unit.picosecond)
        )
        parts = 0.5 * masses * (v**2).sum(axis=1)
        assert parts.sum() == pytest.approx(state.getKineticEnergy()._value, rel=1e-9)
        rows.append((parts[:NUM].sum(), parts[NUM:].sum(), state.getPotentialEnergy()._value))
    return dict(zip(("first", "second", "potential"), np.array(rows).T, strict=True))


def to_data(run: dict, temperature: float, kinetic=None, freedom: int = FREEDOM):
    data = physical_validation.data
    kinetic = run["first"] + run["second"] if kinetic is None else kinetic
    particles = freedom // 3
    return data.SimulationData(
        units=data.UnitData(
            kb=GAS,
            energy_str="kJ/mol",
            energy_conversion=1,
            length_str="nm",
            length_conversion=1,
            volume_str="nm^3",
            volume_conversion=1,
            temperature_str="K",
            temperature_conversion=1,
            pressure_str="bar",
            pressure_conversion=1,
            time_str="ps",
            time_conversion=1,
        ),
        ensemble=data.EnsembleData("NVT", natoms=particles, volume=1, temperature=temperature),
        system=data.SystemData(natoms=particles, nconstraints=0, ndof_reduction_tra=0, ndof_reduction_rot=0),
        observables=data.ObservableData(
            kinetic_energy=kinetic, potential_energy=run["potential"], total_energy=kinetic + run["potential"]
        ),
    )


@pytest.fixture(scope="module")
def length(request) -> int:
    return 20000 if request.config.getoption("--slow") else 1200


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_ensembles_at_two_temperatures(scheme, length):
    """Kinetic energies follow the chi-square distribution, and the ratio of the distributions of the potential energy at
    two temperatures has the slope 1/kT1 - 1/kT2. All within 4 standard deviations of the estimators."""
    temperatures = (300.0, 330.0)
    data = [to_data(sample(scheme, t, length), t) for t in temperatures]
    for d in data:
        deviations = physical_validation.kinetic_energy.distribution(d, strict=False, verbosity=0, bootstrap_seed=1)
        assert max(np.abs(deviations)) < 4, deviations  # mean and width, in standard deviations
    # At this spread of temperatures 1200 samples know the slope to 10 %.
    (deviation,) = physical_validation.ensemble.check(
        data[0], data[1], data_is_uncorrelated=True, verbosity=0, bootstrap_seed=1
    )
    assert abs(deviation) < 4


def test_wrong_temperature_is_noticed(length):
    """The checks have the power that they need: 4 % in the temperature is beyond the bound."""
    run = sample("metropolis", 312.0, length)
    deviations = physical_validation.kinetic_energy.distribution(
        to_data(run, 300.0), strict=False, verbosity=0, bootstrap_seed=1
    )
    assert max(np.abs(deviations)) > 4


@pytest.mark.parametrize("thermostat", ["langevin", "bussi"])
def test_equipartition_by_region(thermostat, length):
    """Two regions with a thermostat of their own each have the distribution of their temperature."""
    run = sample("impulse", 300.0, length, 400.0, thermostat)
    for name, temperature in (("first", 400.0), ("second", 300.0)):
        d = to_data(run, temperature, run[name], FREEDOM // 2)
        deviations = physical_validation.kinetic_energy.distribution(d, strict=False, verbosity=0, bootstrap_seed=1)
        assert max(np.abs(deviations)) < 4, (name, deviations)


def test_integrator_convergence():
    """The energy of NVE fluctuates with the square of the step, to 15 %: of dt at the same k, and of k at a small dt."""
    runs = {}
    for dt, k in ((0.002, 2), (0.001, 2), (0.0005, 2), (0.0005, 16), (0.0005, 8)):
        integrator = KStepIntegrator(dt, k)
        context = make_context(integrator)
        context.setVelocitiesToTemperature(300, 23)
        energies = []
        for _ in range(round(4.0 / (dt * k))):
            integrator.step(1)
            energies.append(integrator.computeConservedEnergy()._value)
        runs[dt, k] = np.std(energies)
    for long, short in (((0.002, 2), (0.001, 2)), ((0.001, 2), (0.0005, 2)), ((0.0005, 16), (0.0005, 8))):
        assert runs[long] / runs[short] == pytest.approx(4, rel=0.15), runs
