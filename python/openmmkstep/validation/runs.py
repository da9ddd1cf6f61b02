"""Runs on the model alone, along which the corrector is asked now and then: what most parts of a check look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import openmm
from openmm import unit

from .._units import ENERGY, KELVIN, NANOMETER, PER_PICOSECOND, PICOSECOND, strip
from ..qmmm._geometry import nearest_distances
from ..qmmm.box import box_vectors
from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from .subject import CheckSubject, energy_and_forces

NEAR = 0.4
"""MM atoms this near to a QM atom (nm) count as near."""
_MAX_FAILURES = 5
"""A run in which the corrector fails so often in a row is at an end: the molecule is broken, and calls that fail are slow."""


@dataclass
class ModelRun:
    """One Langevin run on the model alone.

    Attributes
    ----------
    baseStepSize, interval : float
        step and time between samples (ps)
    wanted : float
        length that was asked for (ps), without equilibration
    D : array of shape (samples,)
        U_corrector - U_model (kJ/mol); infinity where the corrector found no energy
    modelEnergies : array of shape (samples,)
        kJ/mol
    positions : array of shape (samples, n, 3)
        of the model's atoms (nm)
    forceSamples : array of int of shape (frames,)
        the samples at which forces were kept
    correctorForces, modelForces : arrays of shape (frames, QM particles, 3)
        of the two force groups (kJ/mol/nm)
    nearErrors, nearForces : arrays of shape (frames,)
        sum over the near MM atoms of the squared difference of both groups' forces, and of the corrector's
    nearCounts : array of shape (frames,)
        three times the number of those atoms
    fault : str
        why the run ended early; empty if it did not
    last : array of shape (particles, 3), optional
        the last finite positions of all particles (nm)
    """

    baseStepSize: float
    interval: float
    wanted: float
    D: np.ndarray
    modelEnergies: np.ndarray
    positions: np.ndarray
    forceSamples: np.ndarray
    correctorForces: np.ndarray
    modelForces: np.ndarray
    nearErrors: np.ndarray
    nearForces: np.ndarray
    nearCounts: np.ndarray
    fault: str = ""
    last: np.ndarray | None = None

    @property
    def picoseconds(self) -> float:
        """What was run."""
        return len(self.D) * self.interval


@dataclass
class _Record:
    D: list = field(default_factory=list)
    energies: list = field(default_factory=list)
    positions: list = field(default_factory=list)
    frames: list = field(default_factory=list)
    corrector: list = field(default_factory=list)
    model: list = field(default_factory=list)
    near: list = field(default_factory=list)


def runOnModel(
    subject: CheckSubject,
    temperature=300 * unit.kelvin,
    picoseconds: float = 20.0,
    starts: int = 4,
    interval=0.016 * unit.picosecond,
    baseStepSize=0.002 * unit.picosecond,
    equilibration: float = 2.0,
    samplesPerForces: int = 8,
    seed: int = 1,
    friction=1 / unit.picosecond,
    advance: Callable[[float], None] = lambda share: None,
) -> list[ModelRun]:
    """Run Langevin dynamics on the model alone and compare it with the corrector along the way.

    Parameters
    ----------
    subject : CheckSubject
        see its withHydrogenMass() for steps of 2 fs
    temperature : float or Quantity
        K
    picoseconds : float
        length of each run
    starts : int
        number of runs; they begin at the subject's structures in turn, each with velocities of its own
    interval : float or Quantity
        time between corrector calls (ps), a multiple of the step
    baseStepSize : float or Quantity
        ps
    equilibration : float
        ps before the first sample of each run
    samplesPerForces : int
        forces are kept at every so many samples
    seed : int
    friction : float or Quantity
        1/ps; the default is that of the scheme 'metropolis'
    advance : callable
        is called with the share of the work done since the last time

    Returns
    -------
    list of ModelRun

    Raises
    ------
    ValueError
        If the interval is not a multiple of the step, or there is not one run of one sample.
    """
    dt, kelvin = strip(baseStepSize, PICOSECOND), strip(temperature, KELVIN)
    stride = round(strip(interval, PICOSECOND) / dt)
    if stride < 1 or abs(stride * dt - strip(interval, PICOSECOND)) > 1e-6 * dt:
        raise ValueError(f"Expected an interval that is a multiple of the step of {dt} ps, found {interval}.")
    samples = round(picoseconds / (stride * dt))
    if starts < 1 or samples < 1:
        raise ValueError(f"Expected one run and one sample at least, found {starts} runs of {samples} samples.")
    integrator = openmm.LangevinMiddleIntegrator(kelvin, strip(friction, PER_PICOSECOND), dt)
    integrator.setRandomNumberSeed(seed)
    context = subject.context(integrator)
    runs = []
    for number in range(starts):
        context.setPositions(subject.starts[number % len(subject.starts)])
        context.applyConstraints(1e-6)
        context.computeVirtualSites()
        context.setVelocitiesToTemperature(kelvin, seed + number)
        record, fault, last = _Record(), "", None
        try:
            integrator.step(round(equilibration / dt))
            for i in range(samples):
                integrator.step(stride)
                x = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(NANOMETER)
                if not np.isfinite(x).all():
                    fault = "coordinates became NaN"
                    break
                last = x
                _sample(subject, context, x, record, i % samplesPerForces == 0)
                if len(record.D) >= _MAX_FAILURES and not np.isfinite(record.D[-_MAX_FAILURES:]).any():
                    fault = f"the corrector found no energy {_MAX_FAILURES} times in a row"
                    break
                advance(1 / (samples * starts))
        except openmm.OpenMMException as error:
            fault = str(error)
        runs.append(_finish(subject, record, dt, stride * dt, picoseconds, fault, last))
    return runs


def _sample(subject: CheckSubject, context: openmm.Context, x: np.ndarray, record: _Record, with_forces: bool) -> None:
    model = context.getState(energy=True, groups={MODEL_GROUP}).getPotentialEnergy().value_in_unit(ENERGY)
    if not np.isfinite(model):
        raise openmm.OpenMMException("the model's energy became NaN")
    record.energies.append(model)
    record.positions.append(subject.molecule(x))
    try:
        corrector, forces = energy_and_forces(context, {CORRECTOR_GROUP})
    except openmm.OpenMMException:  # no SCF: the weight of this structure is 0
        record.D.append(np.inf)
        return
    record.D.append(corrector - model)
    if not with_forces:
        return
    own = energy_and_forces(context, {MODEL_GROUP})[1]
    qm = list(subject.region.particles)
    near = _near_atoms(subject, x)
    record.frames.append(len(record.D) - 1)
    record.corrector.append(forces[qm])
    record.model.append(own[qm])
    record.near.append([((forces - own)[near] ** 2).sum(), (forces[near] ** 2).sum(), 3 * len(near)])


def _near_atoms(subject: CheckSubject, x: np.ndarray) -> np.ndarray:
    """Particles with mass outside of the QM region that are near to one of its atoms."""
    system, qm = subject.system, list(subject.region.particles)
    box = box_vectors(system) if system.usesPeriodicBoundaryConditions() else None
    nearest = nearest_distances(x, x[qm], box, reach=NEAR)
    nearest[qm] = np.inf
    return np.array([i for i in np.flatnonzero(nearest < NEAR) if not system.isVirtualSite(int(i))], dtype=int)


def _finish(subject, record: _Record, dt: float, interval: float, wanted: float, fault: str, last) -> ModelRun:
    n, particles = subject.region.numAtoms, len(subject.region.particles)
    near = np.array(record.near, dtype=float).reshape(-1, 3)
    samples = len(record.D)  # where an exception came in between the lists, the last sample is not whole
    return ModelRun(
        dt,
        interval,
        wanted,
        np.array(record.D, dtype=float),
        np.array(record.energies[:samples], dtype=float),
        np.array(record.positions[:samples], dtype=float).reshape(-1, n, 3),
        np.array(record.frames, dtype=int),
        np.array(record.corrector, dtype=float).reshape(-1, particles, 3),
        np.array(record.model, dtype=float).reshape(-1, particles, 3),
        near[:, 0],
        near[:, 1],
        near[:, 2],
        fault,
        last,
    )
