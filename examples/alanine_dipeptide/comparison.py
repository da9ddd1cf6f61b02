"""Runs the droplet by four integrators from one start and measures what a user would ask about each."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import openmm
from tqdm import tqdm

from openmmkstep import KStepIntegrator, cast

from .droplet import HERE, NUM_QM, PLATFORM, PLATFORM_PROPERTIES, Droplet

GAS_CONSTANT = 8.31446261815324e-3
CARBONYLS = ((4, 5), (14, 15))
"""(carbon, oxygen) of the two carbonyl groups."""
SAMPLE_INTERVAL = 0.02  # ps
TEMPERATURE = 300.0  # K


@dataclass
class Setting:
    """One way to run the droplet.

    ``plain`` calls xTB at every step (OpenMM's own Verlet integrator), so it needs no model. ``mollification`` is what
    findMollification() returned, for the mollified impulse.
    """

    name: str
    scheme: str  # 'plain' or a scheme of KStepIntegrator
    dt: float  # ps
    k: int
    picoseconds: float
    heavy_hydrogen: bool = False
    mollification: list = field(default_factory=list)

    def integrator(self, seed: int) -> openmm.Integrator:
        if self.scheme == "plain":
            return openmm.VerletIntegrator(self.dt)
        if self.scheme == "impulse":
            integrator = KStepIntegrator(self.dt, self.k)
            integrator.setMollification(self.mollification)
            return integrator
        if self.scheme == "jump":
            # Without a thermostat, to show what a direct model does to the energy.
            integrator = KStepIntegrator(self.dt, self.k, "jump", temperature=TEMPERATURE, friction=0.0)
            integrator.setJumpModel(HERE / "jump.pt", range(NUM_QM))
            integrator.setAllowJumpWithoutThermostat(True)
            integrator.setErrorRecovery(False)
            return integrator
        integrator = KStepIntegrator(self.dt, self.k, self.scheme, temperature=TEMPERATURE, friction=1.0)
        integrator.setRandomNumberSeed(seed)
        return integrator

    @property
    def needs_potential(self) -> bool:
        """Whether a potential model carries the inner steps."""
        return self.scheme not in ("plain", "jump")

    @property
    def is_nve(self) -> bool:
        """Whether an energy should be conserved."""
        return self.scheme in ("plain", "impulse", "jump")

    @property
    def step_size(self) -> float:
        """Time that one step() covers (ps); in metropolis at least that."""
        return self.dt * (1 if self.scheme == "plain" else self.k)


@dataclass
class Result:
    """What was measured in one run. Times in ps, energies in kJ/mol, lengths in nm, wall time in s.

    ``energies`` is what NVE conserves: the total energy, for the mollified impulse K + U_common + U_model(x) + D(A(x)).
    ``differences`` is D = U_corrector - U_model of each sample of 'reweight'. ``failure`` says why a run ended early.
    """

    setting: Setting
    times: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    qm_temperatures: list[float] = field(default_factory=list)
    mm_temperatures: list[float] = field(default_factory=list)
    carbonyl_lengths: list[float] = field(default_factory=list)
    oxygen_distances: list[np.ndarray] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    failure: str = ""
    wall: float = 0.0
    xtb_calls: int = 0
    statistics: dict = field(default_factory=dict)

    @property
    def picoseconds(self) -> float:
        return self.times[-1]

    @property
    def seconds_per_ps(self) -> float:
        return self.wall / self.picoseconds

    @property
    def calls_per_ps(self) -> float:
        return self.xtb_calls / self.picoseconds


def _progress(setting: Setting, show: bool) -> tqdm:
    # A log file gets a line every 15 s, a terminal a live one.
    return tqdm(
        total=setting.picoseconds,
        desc=f"{setting.name:34s}",
        disable=not show,
        mininterval=0.2 if sys.stderr.isatty() else 15.0,
        bar_format="{l_bar}{bar:30}| {n:.1f} of {total:g} ps, {remaining} left",
    )


def _advance(bar: tqdm, context: openmm.Context) -> None:
    bar.update(min(context.getTime()._value, bar.total) - bar.n)


def _context(system: openmm.System, integrator: openmm.Integrator, positions, seed: int) -> openmm.Context:
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    context = openmm.Context(system, integrator, platform, PLATFORM_PROPERTIES)
    # One step first: torch compiles the model in its first calls, and those are not to be timed.
    for steps in (1, 0):
        context.setPositions(positions)
        _draw_velocities(context, seed)
        integrator.step(steps)
    context.setTime(0)
    return context


def _draw_velocities(context: openmm.Context, seed: int) -> None:
    """Random velocities, scaled so that each region has exactly the temperature.

    A draw for 22 atoms is off by 50 K (one standard deviation), and in NVE the QM region keeps that for some 10 ps.
    """
    context.setVelocitiesToTemperature(TEMPERATURE, seed)
    velocities = context.getState(velocities=True).getVelocities(asNumpy=True)._value.copy()
    masses = _masses(context)
    freedom = (3 * NUM_QM, 3 * (len(masses) - NUM_QM) - context.getSystem().getNumConstraints())
    for region, number in zip((slice(0, NUM_QM), slice(NUM_QM, None)), freedom, strict=True):
        kinetic = 0.5 * (masses[region, None] * velocities[region] ** 2).sum()
        velocities[region] *= np.sqrt(0.5 * number * GAS_CONSTANT * TEMPERATURE / kinetic)
    context.setVelocities(velocities)


def _masses(context: openmm.Context) -> np.ndarray:
    system = context.getSystem()
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])


def _unbiased_velocities(context: openmm.Context, setting: Setting, masses: np.ndarray) -> np.ndarray:
    """QM velocities (nm/ps) at which the kinetic energy is unbiased.

    The velocities of OpenMM's Verlet integrator are at half steps already. Those of BAOAB and velocity Verlet are on
    step; another half kick with the forces of the inner steps brings them there.
    """
    velocities = context.getState(velocities=True).getVelocities(asNumpy=True)._value[:NUM_QM].copy()
    if setting.needs_potential:
        forces = context.getState(forces=True, groups={0, 2}).getForces(asNumpy=True)._value[:NUM_QM]
        velocities += 0.5 * setting.dt * forces / masses[:NUM_QM, None]
    return velocities


def _sample(result: Result, context: openmm.Context, masses: np.ndarray, groups: int) -> None:
    state = context.getState(energy=True, positions=True, groups=groups)
    kinetic = state.getKineticEnergy()._value
    x = state.getPositions(asNumpy=True)._value
    qm_kinetic = 0.5 * (masses[:NUM_QM, None] * _unbiased_velocities(context, result.setting, masses) ** 2).sum()
    mm_freedom = 3 * (len(masses) - NUM_QM) - context.getSystem().getNumConstraints()
    result.times.append(state.getTime()._value)
    if result.setting.scheme == "reweight":
        result.differences.append(cast(context.getIntegrator()).computeD()._value)
    if result.setting.mollification:
        result.energies.append(cast(context.getIntegrator()).computeConservedEnergy()._value)
    else:
        result.energies.append(state.getPotentialEnergy()._value + kinetic)
    result.qm_temperatures.append(2 * qm_kinetic / (3 * NUM_QM * GAS_CONSTANT))
    result.mm_temperatures.append(2 * (kinetic - qm_kinetic) / (mm_freedom * GAS_CONSTANT))
    result.carbonyl_lengths.append(float(np.mean([np.linalg.norm(x[c] - x[o]) for c, o in CARBONYLS])))
    water_oxygens = x[NUM_QM::3]
    result.oxygen_distances.append(np.array([np.linalg.norm(water_oxygens - x[o], axis=1) for _, o in CARBONYLS]))


def run(droplet: Droplet, setting: Setting, positions, seed: int, progress: bool = True) -> Result:
    """Run one setting and time its steps; the time for taking samples is not counted."""
    system = droplet.create_system(with_model=setting.needs_potential, heavy_hydrogen=setting.heavy_hydrogen)
    integrator = setting.integrator(seed)
    context = _context(system, integrator, positions, seed)
    masses, groups = _masses(context), integrator.getIntegrationForceGroups()
    if setting.mollification:
        groups = {0, 2}  # its conserved energy is asked for apart, and needs no xTB call
    result = Result(setting)
    steps = max(1, round(SAMPLE_INTERVAL / setting.step_size))
    if setting.scheme != "plain":
        integrator.resetStatistics()
    with _progress(setting, progress) as bar:
        while context.getTime()._value < setting.picoseconds - 1e-6:
            start = time.perf_counter()
            try:
                integrator.step(steps)
            except openmm.OpenMMException as error:
                if setting.scheme != "jump" or not result.times:
                    raise
                result.failure = str(error)
                break
            result.wall += time.perf_counter() - start
            _sample(result, context, masses, groups)
            result.xtb_calls += steps if setting.scheme == "plain" else 0
            _advance(bar, context)
    if setting.scheme != "plain":
        result.statistics = integrator.getStatistics()
        result.xtb_calls = result.statistics["correctorCalls"]
    return result


def equilibrate(droplet: Droplet, picoseconds: float, seed: int, progress: bool = True):
    """Positions after a metropolis run: a sample of the true Hamiltonian at the temperature."""
    setting = Setting("equilibration", "metropolis", 0.002, 64, picoseconds, heavy_hydrogen=True)
    system = droplet.create_system(with_model=True, heavy_hydrogen=True)
    integrator = setting.integrator(seed)
    context = _context(system, integrator, droplet.positions, seed)
    with _progress(setting, progress) as bar:
        while context.getTime()._value < picoseconds:
            integrator.step(1)
            _advance(bar, context)
    return context.getState(positions=True).getPositions()


@dataclass
class Costs:
    """Seconds for one evaluation or step of each part, one thread."""

    xtb: float
    model: float
    mm: float

    def ceiling(self, setting: Setting, reference: Setting) -> float:
        """The largest possible speed-up: all time is spent in xTB, model and MM step, and every proposal is accepted."""
        per_step = self.xtb / setting.k + self.mm + (self.model if setting.needs_potential else 0.0)
        return (self.xtb + self.mm) / per_step * setting.dt / reference.dt


def measure_costs(droplet: Droplet, positions, repeats: int = 100) -> Costs:
    """Time an xTB call every 2 fs, a model call, and an MM step (everything but the two) along one short trajectory."""
    integrator = openmm.VerletIntegrator(0.0005)
    integrator.setIntegrationForceGroups({0, 2})
    context = _context(droplet.create_system(with_model=True), integrator, positions, 1)
    actions = {
        "step": lambda: integrator.step(4),
        "xtb": lambda: context.getState(forces=True, groups={1}),
        "model": lambda: context.getState(forces=True, groups={2}),
        "empty": lambda: context.getState(forces=True, groups={31}),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    step, xtb, model, empty = (float(np.median(times[name])) for name in actions)
    # A State costs some microseconds of its own, which the empty group shows. The first of the four steps finds the
    # model's result for its positions ready, since the model was asked for it just before.
    return Costs(xtb=xtb - empty, model=model - empty, mm=(step - 3 * (model - empty)) / 4)
