"""The energy drift of an impulse run for every macro-step h, predicted from short runs on the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import unit
from tqdm import tqdm

from .._units import GAS_CONSTANT, KELVIN, PICOSECOND, strip
from ..integrator import KStepIntegrator
from ..qmmm.mollification import Mollification

_FORCE = unit.kilojoule_per_mole / unit.nanometer
_BAR = "{desc}: {percentage:3.0f} %|{bar:30}| {elapsed}, {remaining} left"
_SMOOTHING = 2
"""Spectra are averaged over this many frequencies on each side, spaced by one over a piece's length."""


@dataclass(frozen=True)
class DriftPrediction:
    """The rate at which the kicks of an impulse scheme heat the system, as a function of the macro-step.

    Kicks every h with W(t) = D(A(x(t))) are the constant W and the perturbations 2 W cos(n Omega t), with
    Omega = 2 pi/h. In linear response each makes the system absorb, so that

        drift(h) = sum over n >= 1 of (n Omega)^2 S_W(n Omega)/kT,

    where S_W(w) is the integral of the autocorrelation of W times exp(iwt) over all times (two-sided in t and w) in the
    dynamics on the model. (n Omega)^2 S_W is the spectral density of the rate dW/dt, which is what is stored: other than
    (n Omega)^2, it may be sampled coarsely. The spectrum of a rate sampled every ``interval`` is the sum of the
    true one over all frequencies that differ by multiples of 2 pi/interval, and so is the formula's sum over n if h is a
    multiple of the interval: for these h nothing is lost, however long the interval. For other h, harmonics above the
    Nyquist frequency pi/interval are left out; they matter little beyond h of three intervals.

    Attributes
    ----------
    rates : ndarray, shape (pieces, samples)
        dW/dt along each piece (kJ/mol/ps)
    interval : float
        time between samples (ps)
    temperature : float
        K
    """

    rates: np.ndarray
    interval: float
    temperature: float

    def drift(self, stepSize) -> tuple[float, float]:
        """Predict the drift for one macro-step.

        Parameters
        ----------
        stepSize : float or Quantity
            the macro-step h (ps), at least two sampling intervals

        Returns
        -------
        (float, float)
            drift of the conserved energy and its standard error (kJ/mol/ps); the error is that of the spectrum, from
            the spread of the pieces

        Raises
        ------
        ValueError
            If h is less than two sampling intervals.
        """
        h = strip(stepSize, PICOSECOND)
        harmonics = np.arange(1, int(h / (2 * self.interval) + 1e-9) + 1)
        if len(harmonics) == 0:
            raise ValueError(
                f"Expected a macro-step of at least two sampling intervals of {1e3 * self.interval:g} fs, found {1e3 * h:g} fs. Sample at a shorter interval."
            )
        total = np.zeros(len(self.rates))
        for n in harmonics:
            # n and -n are the same point of the sampled spectrum at the Nyquist frequency.
            at_nyquist = abs(n * 2 * self.interval / h - 1) < 1e-6
            total += (1 if at_nyquist else 2) * self._spectrum(2 * np.pi * n / h)
        values = total / (2 * GAS_CONSTANT * self.temperature)
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    def _spectrum(self, frequency: float) -> np.ndarray:
        """Spectral density of dW/dt at an angular frequency (1/ps), one value for each piece, in (kJ/mol)^2/ps."""
        samples = self.rates.shape[1]
        window = np.hanning(samples + 2)[1:-1]  # the spectrum spans many orders of magnitude: no side lobes
        times = self.interval * np.arange(samples)
        shifts = 2 * np.pi / (samples * self.interval) * np.arange(-_SMOOTHING, _SMOOTHING + 1)
        waves = np.exp(-1j * np.outer(times, frequency + shifts))
        amplitudes = (self.rates * window) @ waves
        return self.interval / (window**2).sum() * (np.abs(amplitudes) ** 2).mean(axis=1)

    def proposeK(self, baseStepSize, tolerance: float = 0.05, largestStep=0.012) -> int:
        """Propose the largest k whose predicted drift, and that of every smaller k, is below a tolerance.

        Parameters
        ----------
        baseStepSize : float or Quantity
            the base step dt (ps)
        tolerance : float
            kJ/mol/ps
        largestStep : float or Quantity
            the largest h to consider (ps)

        Returns
        -------
        int
            k; where the shortest macro-step that the samples can tell about (two intervals) already drifts more, one
            base step less than that
        """
        dt = strip(baseStepSize, PICOSECOND)
        smallest = max(1, int(np.ceil(2 * self.interval / dt - 1e-9)))
        k = smallest
        while k * dt <= strip(largestStep, PICOSECOND) + 1e-9 and self.drift(k * dt)[0] <= tolerance:
            k += 1
        return max(1, k - 1)


def predictDrift(
    system: openmm.System,
    positions,
    mollification: Sequence | Mollification = (),
    temperature=300 * unit.kelvin,
    pieces: int = 8,
    picoseconds: float = 1.0,
    interval=0.002 * unit.picosecond,
    baseStepSize=0.0005 * unit.picosecond,
    equilibration: float = 2.0,
    correctorForceGroup: int = 1,
    modelForceGroup: int = 2,
    seed: int = 1,
    platform: openmm.Platform | None = None,
    properties: dict | None = None,
    progress: bool = True,
) -> DriftPrediction:
    """Predict the drift of the scheme 'impulse' for every macro-step, without running it.

    The system runs at constant energy on the model alone, in pieces between which a thermostat acts; every ``interval``
    the rate of change of W = D(A(x)) is computed, which costs one corrector call. With the defaults these are 4,000
    calls. Good to some 30 %; drift of the inner steps themselves is not part of it.

    Parameters
    ----------
    system : System
        with corrector and model, as createQMMMSystem() makes
    positions : array of Vec3 or Quantity
        a reasonable structure (nm)
    mollification : list of (int, int, length) or Mollification
        what findMollification() returned; empty for the plain impulse
    temperature : float or Quantity
        of the run (K)
    pieces, picoseconds : int, float
        number and length of the runs at constant energy; at least two
    interval : float or Quantity
        time between corrector calls (ps), a multiple of the base step; predictions are exact for multiples of it from
        twice on
    baseStepSize : float or Quantity
        inner step (ps)
    equilibration : float
        length (ps) of a Langevin run before the first piece; a quarter of it before each other one
    correctorForceGroup, modelForceGroup : int
        as in KStepIntegrator
    seed : int
        of the thermostat
    platform, properties : Platform, dict, optional
        as for a Context
    progress : bool
        whether to show a progress bar (needs tqdm)

    Returns
    -------
    DriftPrediction
        ask its drift(h) and proposeK(dt)

    Raises
    ------
    ValueError
        If there are less than two pieces, the interval is not a multiple (from 2) of the base step, or the System has no
        force in one of the two groups.
    """
    settings = (temperature, pieces, picoseconds, interval, baseStepSize, equilibration)
    groups = (correctorForceGroup, modelForceGroup)
    contexts = (platform, properties)
    with tqdm(total=1.0, desc="drift", disable=not progress, bar_format=_BAR) as bar:

        def advance(share: float) -> None:
            bar.update(min(share, bar.total - bar.n))

        return predict_drifts(system, positions, [mollification], settings, groups, seed, contexts, advance)[0]


def predict_drifts(
    system: openmm.System,
    positions,
    mollifications: Sequence[Sequence | Mollification],
    settings: tuple,
    groups: tuple[int, int],
    seed: int,
    on: tuple[openmm.Platform | None, dict | None],
    advance: Callable[[float], None],
) -> list[DriftPrediction]:
    """What predictDrift() does, for several mollifications along the same runs: one corrector call each and sample.

    ``settings`` are temperature, pieces, picoseconds, interval, baseStepSize and equilibration, ``groups`` those of
    corrector and model, ``on`` platform and properties; ``advance`` is called with the share done since the last time.
    """
    temperature, pieces, picoseconds, interval, baseStepSize, equilibration = settings
    correctorForceGroup, modelForceGroup = groups
    platform, properties = on
    dt, kelvin = strip(baseStepSize, PICOSECOND), strip(temperature, KELVIN)
    stride = round(strip(interval, PICOSECOND) / dt)
    samples = round(picoseconds / (stride * dt)) if stride > 0 else 0
    if stride < 2 or abs(stride * dt - strip(interval, PICOSECOND)) > 1e-6 * dt:
        raise ValueError(
            f"Expected an interval that is a multiple of the base step of {dt} ps, at least twice, found {interval}."
        )
    if pieces < 2 or samples < 8:
        raise ValueError(f"Expected at least two pieces of eight samples, found {pieces} of {samples}.")
    present = {f.getForceGroup() for f in system.getForces()}
    for name, group in (("corrector", correctorForceGroup), ("model", modelForceGroup)):
        if group not in present:
            raise ValueError(
                f"Expected a System with a force in the {name}'s group ({group}), found {sorted(present)}."
            )

    mappers = []
    for mollification in mollifications:
        mapper = KStepIntegrator(dt, 1)
        deep = isinstance(mollification, Mollification)
        mapper.setMollification(mollification.bonds if deep else mollification)
        mapper.setMollifiedAngles(mollification.angles if deep else [])
        mappers.append(mapper)
    bath = openmm.LangevinMiddleIntegrator(kelvin, 5.0, dt)
    bath.setRandomNumberSeed(seed)
    verlet = openmm.VerletIntegrator(dt)
    contexts = []
    for integrator in (bath, verlet):
        integrator.setIntegrationForceGroups(0xFFFFFFFF & ~(1 << correctorForceGroup))
        arguments = [] if platform is None else [platform, properties or {}]
        contexts.append(openmm.Context(system, integrator, *arguments))
    thermal, free = contexts
    thermal.setPositions(positions)
    thermal.setVelocitiesToTemperature(kelvin, seed)

    # The thermal Context also evaluates D at A(x), between its own runs.
    rate_functions = [_RateOfD(thermal, mapper, groups) for mapper in mappers]

    def positions_of(context: openmm.Context) -> np.ndarray:
        return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)

    rates = np.zeros((len(mappers), pieces, samples))
    for piece in range(pieces):
        bath.step(max(1, round((equilibration if piece == 0 else equilibration / 4) / dt)))
        state = thermal.getState(positions=True, velocities=True)
        free.setPositions(state.getPositions())
        free.setVelocities(state.getVelocities())
        for i in range(samples):
            verlet.step(stride - 2)
            before = positions_of(free)
            verlet.step(1)
            now = positions_of(free)
            verlet.step(1)
            after = positions_of(free)
            for n, rate in enumerate(rate_functions):
                rates[n, piece, i] = rate(before, now, after)
                advance(1 / rates.size)
        state = free.getState(positions=True, velocities=True)
        thermal.setPositions(state.getPositions())
        thermal.setVelocities(state.getVelocities())
    return [DriftPrediction(r, stride * dt, kelvin) for r in rates]


class _RateOfD:
    """The rate of change of D(A(x)) along a trajectory."""

    def __init__(self, context: openmm.Context, mapper: KStepIntegrator, groups: tuple[int, int]):
        self.context, self.mapper, self.groups = context, mapper, groups
        system = context.getSystem()
        # The forces on virtual sites are in those on their atoms already.
        self.no_site = np.array([not system.isVirtualSite(i) for i in range(system.getNumParticles())])

    def __call__(self, before: np.ndarray, now: np.ndarray, after: np.ndarray) -> float:
        """-dF(A(x)) . dA/dt in kJ/mol/ps, from positions (nm) one base step before, at, and after a time.

        The difference of the positions of Verlet's integrator is its velocity on step, constraints included.
        """
        mapped = self.mapper.mollifyPositions
        velocity = (mapped(after) - mapped(before)) / (2 * self.mapper.getBaseStepSize().value_in_unit(PICOSECOND))
        self.context.setPositions(mapped(now))
        self.context.computeVirtualSites()
        corrector, model = (
            self.context.getState(forces=True, groups={g}).getForces(asNumpy=True).value_in_unit(_FORCE)
            for g in self.groups
        )
        return -float(((corrector - model) * velocity)[self.no_site].sum())
