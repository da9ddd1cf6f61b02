"""FrameKeeper: a reporter that keeps the frames of a run where the model is at its worst, labelled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openmm

from ._units import ENERGY, KELVIN, NANOMETER
from .analysis.temperature import current_integrator
from .data import Dataset, Region
from .data.damping import findDampingLengths
from .data.labels import Labeller, make_frames
from .data.provenance import findProvenance
from .data.region import findXtbForce
from .forces import QMRegionState
from .integrator import KStepIntegrator

_MIN_SAMPLES = 20
"""Macro-steps before D counts as known well enough to tell what is far from its mean."""


class FrameKeeper:
    """Collects training data in a production run; goes into ``simulation.reporters``.

    Kept are frames whose D = U_corrector - U_model is far from its mean, every so many frames one whatever its D, so that
    the data do not consist of exceptions alone, and the states that a Metropolis test rejected or that were undone for a
    fault, such as a model outside its region of validity. Every one is labelled by xTB: at the end of a macro-step
    without mollification that costs nothing, else one call. improveModel() trains on the dataset.

    Parameters
    ----------
    folder : str or path
        the dataset, by convention ``*.kstep``; made if there is none, added to if there is
    reportInterval : int
        macro-steps between looks
    limit : float
        keep frames whose D is that many standard deviations from its mean
    every : int
        keep every so many-th look's frame in any case; 0: none
    undone : bool
        whether to keep states that were undone
    maxFrames : int
        stop keeping after that many frames
    block : int
        frames that are written together: what a kill can cost. close() writes the rest

    Raises
    ------
    ValueError
        If the interval or another number makes no sense. At the first step: if the integrator is not a KStepIntegrator,
        its scheme is 'jump', the System has no XtbForce, or the dataset is of another region.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        reportInterval: int,
        limit: float = 3.0,
        every: int = 100,
        undone: bool = True,
        maxFrames: int = 2000,
        block: int = 20,
    ):
        self._waiting: list[QMRegionState] = []
        if reportInterval < 1 or every < 0 or block < 1 or maxFrames < 1 or not limit > 0:
            raise ValueError(
                "FrameKeeper: expected a positive reportInterval, limit, maxFrames and block, and every of 0 or more, found "
                f"{reportInterval}, {limit}, {maxFrames}, {block} and {every}."
            )
        self._folder, self._interval = Path(folder), reportInterval
        self._limit, self._every, self._undone = limit, every, undone
        self._maxFrames, self._block = maxFrames, block
        self._dataset: Dataset | None = None
        self._looks = self._kept = 0

    @property
    def numKept(self) -> int:
        """Frames kept since this reporter was made."""
        return self._kept

    def describeNextReport(self, simulation) -> dict:
        """Say when the next look is due. It needs nothing from the State."""
        if self._dataset is None:
            self._start(simulation)
        return {"steps": self._interval - simulation.currentStep % self._interval, "periodic": None, "include": []}

    def report(self, simulation, state) -> None:
        """Look at the frame and at what was undone since the last look."""
        integrator = current_integrator(simulation.context)
        undone = integrator.takeUndoneStates()
        self._looks += 1
        if self._kept < self._maxFrames and (self._is_due() or self._is_far(integrator)):
            self._keep(self._force.computeQMRegion(simulation.context, self._damping))
        for entry in undone:
            if self._kept >= self._maxFrames:
                break
            try:
                label, _ = self._labeller.label(entry["positions"], entry["box"])
            except openmm.OpenMMException:  # no SCF solution: nothing to learn from
                continue
            self._keep(label)

    def close(self) -> None:
        """Write what is not on the disk yet."""
        if self._waiting:
            self._dataset.append(make_frames(self._waiting, self._temperature, self._walker), self._walker)
            self._waiting = []

    def __del__(self):
        self.close()

    def _start(self, simulation) -> None:
        integrator = current_integrator(simulation.context)
        if not isinstance(integrator, KStepIntegrator) or integrator.getScheme() == "jump":
            found = integrator.getScheme() if isinstance(integrator, KStepIntegrator) else type(integrator).__name__
            raise ValueError(
                f"FrameKeeper needs a KStepIntegrator with a model that is a potential (not the scheme 'jump'), found {found}."
            )
        system = simulation.context.getSystem()
        self._force = findXtbForce(system)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(NANOMETER)
        region = Region.fromSystem(system, simulation.topology, positions, self._force)
        self._damping = findDampingLengths(region.species, region.method) if region.hardnessElement is not None else ()
        self._temperature = integrator.getTemperature().value_in_unit(KELVIN)
        self._dataset = Dataset.openOrCreate(
            self._folder,
            region,
            lambda: {**findProvenance(system), "dampingLengths": [float(d) for d in self._damping]},
        )
        # Each run is a trajectory of its own.
        self._walker = self._dataset.nextWalker
        if self._undone:
            self._labeller = Labeller(self._force, system.getNumParticles(), self._damping)
            integrator.setMaxUndoneStates(max(integrator.getMaxUndoneStates(), self._interval))

    def _is_due(self) -> bool:
        return self._every > 0 and self._looks % self._every == 0

    def _is_far(self, integrator: KStepIntegrator) -> bool:
        statistics = integrator.getStatistics()
        if statistics["macroSteps"] < _MIN_SAMPLES or statistics["currentK"] == 0:
            return False
        deviation = integrator.computeD().value_in_unit(ENERGY) - statistics["meanD"].value_in_unit(ENERGY)
        return abs(deviation) > self._limit * statistics["sdD"].value_in_unit(ENERGY) and np.isfinite(deviation)

    def _keep(self, label: QMRegionState) -> None:
        self._waiting.append(label)
        self._kept += 1
        if len(self._waiting) == self._block:
            self.close()
