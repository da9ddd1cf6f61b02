"""Ensembles and conservation, judged by the package physical_validation (Merz, Shirts, PLoS ONE 13, e0202764 (2018)).

A fluid of 14 triatomic molecules, the 'QM' ones flexible with a corrector and a wrong model, the others rigid. All results are
deviations from theory in standard errors, or p values; a right integrator fails a limit of 3.5 with probability 5e-4.
"""

from __future__ import annotations

import warnings

import numpy as np
import openmm
import pytest
from openmm import unit

from openmmkstep import KStepIntegrator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pv = pytest.importorskip("physical_validation")

GAS = 8.31446261815324e-3
MOLECULES, FLEXIBLE = 14, 5
MASSES = (16.0, 12.0, 10.0)
ATOMS = len(MASSES)
SHAPE = np.array([[0, 0, 0], [0, 0, 0.2], [0, 0.16, -0.1]])  # nm
BONDS = ((0, 1), (0, 2), (1, 2))
BOX = 1.65  # nm
LIMIT = 3.5
UNITS = pv.data.UnitData(
    kb=GAS,
    energy_conversion=1,
    length_conversion=1,
    volume_conversion=1,
    temperature_conversion=1,
    pressure_conversion=1,
    time_conversion=1,
)


def fluid(barostat: openmm.Force | None = None) -> tuple[openmm.System, np.ndarray]:
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors((BOX, 0, 0), (0, BOX, 0), (0, 0, BOX))
    nonbonded = openmm.NonbondedForce()
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    # Under a barostat trials shrink the box by a third now and then.
    nonbonded.setCutoffDistance(0.75 if barostat is None else 0.4)
    nonbonded.setUseSwitchingFunction(True)  # or the energy would not be smooth enough to converge with dt^2
    nonbonded.setSwitchingDistance(0.5 if barostat is None else 0.3)
    nonbonded.setUseDispersionCorrection(False)
    corrector, model = openmm.HarmonicBondForce(), openmm.HarmonicBondForce()
    positions = []
    for i in range(MOLECULES):
        for mass in MASSES:
            system.addParticle(mass)
            # At constant pressure a gas, which does not condense until the box is too small for the cutoff.
            nonbonded.addParticle(0, 0.26, 0.5 if barostat is None else 0.05)
        for a, b in BONDS:
            length = float(np.linalg.norm(SHAPE[a] - SHAPE[b]))
            a, b = ATOMS * i + a, ATOMS * i + b
            nonbonded.addException(a, b, 0, 1, 0)
            if i < FLEXIBLE:
                corrector.addBond(a, b, length, 20000)
                model.addBond(a, b, length + 0.002, 17000)
            else:
                system.addConstraint(a, b, length)
        positions += list(SHAPE + np.array([i % 3, i // 3 % 3, i // 9]) * 0.55 + 0.15)
    for group, force in enumerate((nonbonded, corrector, model)):
        force.setUsesPeriodicBoundaryConditions(True) if group else None
        force.setForceGroup(group)
        system.addForce(force)
    if barostat is not None:
        system.addForce(barostat)
    return system, np.array(positions)


def sample(integrator, samples: int, stride: int, barostat=None, seed: int = 1) -> dict[str, np.ndarray]:
    """Energies (kJ/mol), volumes (nm^3) and half-step velocities of an equilibrated run."""
    system, x = fluid(barostat)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 100)
    context.setVelocitiesToTemperature(integrator.getTemperature(), seed)
    integrator.step(30 * stride)
    result = {name: [] for name in ("potential", "kinetic", "volume", "positions", "velocities")}
    for _ in range(samples):
        integrator.step(stride)
        state = context.getState(energy=True, positions=True, groups=integrator.getIntegrationForceGroups())
        result["potential"].append(state.getPotentialEnergy()._value)
        result["kinetic"].append(state.getKineticEnergy()._value)
        result["volume"].append(state.getPeriodicBoxVolume()._value)
        result["positions"].append(state.getPositions(asNumpy=True)._value)
        result["velocities"].append(integrator.computeHalfStepVelocities()._value)
    return {name: np.array(values) for name, values in result.items()}


def data_of(run: dict, temperature: float, pressure: float | None = None) -> pv.data.SimulationData:
    constraints = np.array([0] * FLEXIBLE + [3] * (MOLECULES - FLEXIBLE))
    system = pv.data.SystemData(
        natoms=ATOMS * MOLECULES,
        nconstraints=3 * (MOLECULES - FLEXIBLE),
        ndof_reduction_tra=0,
        ndof_reduction_rot=0,
        mass=np.array(MASSES * MOLECULES),
        molecule_idx=np.arange(0, ATOMS * MOLECULES, ATOMS),
        nconstraints_per_molecule=constraints,
    )
    if pressure is None:
        ensemble = pv.data.EnsembleData("NVT", natoms=ATOMS * MOLECULES, volume=BOX**3, temperature=temperature)
    else:
        ensemble = pv.data.EnsembleData("NPT", natoms=ATOMS * MOLECULES, pressure=pressure, temperature=temperature)
    observables = pv.data.ObservableData(
        kinetic_energy=run["kinetic"],
        potential_energy=run["potential"],
        total_energy=run["kinetic"] + run["potential"],
        volume=run["volume"],
    )
    trajectory = pv.data.TrajectoryData(run["positions"], run["velocities"])
    return pv.data.SimulationData(UNITS, 0.004, system, ensemble, observables, trajectory)


def make(scheme: str, temperature: float) -> KStepIntegrator:
    """'regions' is impulse with another thermostat for the 'QM' molecules than for the rest. Friction makes samples independent.

    Metropolis is exact for any k. The impulse has an error of the order of h^2 in the velocities of the bonds that the
    model gets wrong: k = 2 keeps it below what these runs can see, at k = 4 (h of a seventh of the bonds' period) it shows.
    """
    if scheme == "metropolis":
        return KStepIntegrator(0.004, 4, scheme, temperature, 6)
    integrator = KStepIntegrator(0.004, 2, "impulse", temperature, 6)
    if scheme == "regions":
        integrator.setRegion(range(ATOMS * FLEXIBLE), temperature, 8, "bussi")
    return integrator


@pytest.fixture(scope="module")
def runs(request):
    """Runs at two temperatures, made once for each scheme."""
    samples, made = (6000 if request.config.getoption("--slow") else 500), {}

    def get(scheme: str, temperature: float) -> dict:
        if (scheme, temperature) not in made:
            stride = 10 if scheme == "metropolis" else 20  # 0.16 ps
            made[scheme, temperature] = sample(make(scheme, temperature), samples, stride)
        return made[scheme, temperature]

    return get


SCHEMES = ["impulse", "metropolis", "regions"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinetic_energy(scheme, runs):
    """Mean and width of the kinetic energy's distribution are those of the temperature."""
    deviations = pv.kinetic_energy.distribution(
        data_of(runs(scheme, 300.0), 300.0), strict=False, verbosity=0, bootstrap_seed=1
    )
    assert np.abs(deviations).max() < LIMIT
    wrong = pv.kinetic_energy.distribution(
        data_of(runs(scheme, 300.0), 270.0), strict=False, verbosity=0, bootstrap_seed=1
    )
    assert np.abs(wrong).max() > LIMIT  # the test sees 30 K


# Bussi's thermostat scales a region as a whole. Only collisions share the energy among its modes, too slowly in this gas for
# samples that the package would take to be independent; TestKStepRegions.h checks that thermostat.
@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_equipartition(scheme, runs):
    """Between translation, rotation and vibration, of the 'QM' molecules and of the rest."""
    groups = [list(range(FLEXIBLE)), list(range(FLEXIBLE, MOLECULES))]
    deviations = pv.kinetic_energy.equipartition(
        data_of(runs(scheme, 300.0), 300.0), strict=False, molec_groups=groups, verbosity=0, bootstrap_seed=1
    )
    assert len(np.ravel(deviations)) > 20
    # Of some thirty numbers the largest is beyond 4 with probability 2e-3.
    assert np.nanmax(np.abs(deviations)) < 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ensemble_at_two_temperatures(scheme, runs):
    """P(U, T1)/P(U, T2) is exp(-(1/kT1 - 1/kT2) U): the potential energy of the true Hamiltonian is canonical."""
    low, high = 300.0, 450.0
    (quantiles,) = pv.ensemble.check(
        data_of(runs(scheme, low), low), data_of(runs(scheme, high), high), verbosity=0, bootstrap_seed=1
    )
    assert abs(quantiles) < LIMIT
    (wrong,) = pv.ensemble.check(
        data_of(runs(scheme, low), low), data_of(runs(scheme, high), 900.0), verbosity=0, bootstrap_seed=1
    )
    assert abs(wrong) > LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_ensemble_at_two_pressures(scheme):
    """P(V, p1)/P(V, p2) is exp(-(p1 - p2) V/kT)."""
    pressures, runs = (50.0, 90.0), []
    for i, pressure in enumerate(pressures):
        barostat = openmm.MonteCarloBarostat(pressure * unit.bar, 300 * unit.kelvin, 2)
        barostat.setRandomNumberSeed(5 + i)
        # The package knows by itself that 1 bar is 0.0602214 kJ/mol/nm^3.
        runs.append(data_of(sample(make(scheme, 300.0), 2000, 15, barostat), 300.0, pressure))
    (quantiles,) = pv.ensemble.check(*runs, verbosity=0, bootstrap_seed=1)
    assert abs(quantiles) < LIMIT
    runs[1].ensemble = pv.data.EnsembleData("NPT", natoms=ATOMS * MOLECULES, pressure=200.0, temperature=300.0)
    (wrong,) = pv.ensemble.check(*runs, verbosity=0, bootstrap_seed=1)
    assert abs(wrong) > LIMIT


def test_integrator_convergence():
    """The fluctuation of the conserved energy falls with the square of the step, h and dt shrinking together."""
    simulations, start = [], None
    for dt in (0.001, 0.004, 0.002, 0.001):
        system, x = fluid()
        integrator = KStepIntegrator(dt, 4)
        integrator.setConstraintTolerance(1e-9)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
        if start is None:
            context.setPositions(x)
            openmm.LocalEnergyMinimizer.minimize(context, 10, 100)
            context.setVelocitiesToTemperature(400, 3)
            integrator.stepTo(2.0)
            start = context.getState(positions=True, velocities=True)
            continue
        context.setPositions(start.getPositions())
        context.setVelocities(start.getVelocities())
        energies = [integrator.computeConservedEnergy()._value]
        # Short enough for the three to be the same trajectory.
        for _ in range(80):
            integrator.stepTo(context.getTime() + 0.016 * unit.picosecond)
            energies.append(integrator.computeConservedEnergy()._value)
        observables = pv.data.ObservableData(constant_of_motion=np.array(energies))
        simulations.append(pv.data.SimulationData(units=UNITS, dt=dt, observables=observables))
    # The ratios to be found are 4 and 16; a scheme of first order gives 2 and 4.
    assert pv.integrator.convergence(simulations, verbose=False) < 0.25
