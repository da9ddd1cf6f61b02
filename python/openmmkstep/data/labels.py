"""Labelling frames by xTB."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import openmm

from ..forces import QMRegionState, XtbForce
from .frames import Frames
from .region import Region


class Labeller:
    """xTB of a QM region in the field of the charges around it, at positions that come from elsewhere.

    Parameters
    ----------
    force : XtbForce
        is copied
    numParticles : int
        of the System that the force belongs to
    dampingLengths : sequence of float
        d_a of each QM atom (nm); empty if there are no charges
    """

    def __init__(self, force: XtbForce, numParticles: int, dampingLengths: Sequence[float]):
        system = openmm.System()
        for _ in range(numParticles):
            system.addParticle(1.0)
        self._force, self._damping = copy.deepcopy(force), dampingLengths
        system.addForce(self._force)
        self._context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
        )

    @classmethod
    def gas(cls, force: XtbForce, region: Region) -> Labeller:
        """Of the n atoms of a region without anything around, link hydrogens as atoms of their own."""
        n = region.numAtoms
        alone = XtbForce(region.method, range(n), region.species, region.charge, region.multiplicity)
        alone.setAccuracy(force.getAccuracy())
        alone.setElectronicTemperature(force.getElectronicTemperature())
        alone.setMaxIterations(force.getMaxIterations())
        alone.setNumThreads(force.getNumThreads())
        return cls(alone, n, ())

    def label(self, positions, box=None) -> tuple[QMRegionState, float]:
        """The QM region, and the energy with the subtractive term (kJ/mol).

        Parameters
        ----------
        positions : array of shape (particles, 3)
            nm
        box : array of shape (3, 3), optional
            periodic box vectors as rows (nm)

        Raises
        ------
        OpenMMException
            If the SCF fails.
        """
        if box is not None:
            self._context.setPeriodicBoxVectors(*(openmm.Vec3(*v) for v in box))
        self._context.setPositions(positions)
        state = self._force.computeQMRegion(self._context, self._damping)
        return state, self._context.getState(energy=True).getPotentialEnergy()._value


def make_frames(states: Sequence[QMRegionState], temperature: float, trajectory: int) -> Frames:
    """Frames of one run from at least one labelled state."""

    def gather(name: str) -> np.ndarray:
        return np.array([getattr(state, name) for state in states])

    return Frames(
        positions=gather("positions"),
        energies=gather("energy"),
        forces=gather("forces"),
        charges=gather("charges"),
        potentials=gather("potentials"),
        potentialGradients=gather("potentialGradients"),
        temperatures=np.full(len(states), temperature),
        trajectories=np.full(len(states), trajectory),
    )
