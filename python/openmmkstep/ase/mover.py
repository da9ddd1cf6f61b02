"""Moving ASE's Atoms: kicks, drifts with constraints, a thermostat."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units


class NotFiniteError(ArithmeticError):
    """A position, velocity or energy is NaN or infinite."""


class Mover:
    """Velocities during a macro-step, and what changes them and the positions.

    Parameters
    ----------
    atoms : Atoms
    friction : array of shape () or (n,)
        1/(ASE's unit of time)
    temperature_K : float or None
    rng : numpy.random.Generator

    Attributes
    ----------
    velocities : array of shape (n, 3)
    """

    def __init__(self, atoms: Atoms, friction: np.ndarray, temperature_K: float | None, rng: np.random.Generator):
        self.atoms = atoms
        self.friction = np.broadcast_to(friction, len(atoms))
        self.temperature_K = temperature_K
        self.rng = rng

    def start(self) -> None:
        """Take the velocities from the atoms."""
        self.masses = self.atoms.get_masses()[:, None]
        self.velocities = self.atoms.get_momenta() / self.masses

    def finish(self, energy: float) -> None:
        """Give the velocities to the atoms, without components along constraints, if all is finite."""
        self.check_finite()
        if not np.isfinite(energy):
            raise NotFiniteError(
                "KStep: the energy of the corrector is NaN or infinite; the atoms are as they were before."
            )
        self.atoms.set_momenta(self.velocities * self.masses)

    def kick(self, forces: np.ndarray, interval: float) -> None:
        """v += interval F/m."""
        self.velocities += forces * (interval / self.masses)

    def drift(self, interval: float, moving: np.ndarray | None = None) -> None:
        """A move of all atoms or some, with the thermostat in its middle where there is friction."""
        if not self.friction.any():
            self._move(interval, moving)
        else:
            self._move(0.5 * interval, moving)
            self.randomize(interval, moving)
            self._move(0.5 * interval, moving)
        self.check_finite()

    def _move(self, interval: float, moving: np.ndarray | None) -> None:
        """x += interval v and the constraints, whose displacement also changes the velocities."""
        old = self.atoms.get_positions()
        moving = slice(None) if moving is None else moving
        new = old.copy()
        new[moving] += interval * self.velocities[moving]
        self.atoms.set_positions(new)
        if self.atoms.constraints:
            self.velocities[moving] = (self.atoms.get_positions()[moving] - old[moving]) / interval

    def randomize(self, interval: float, atoms: np.ndarray | None = None) -> None:
        """An exact Ornstein-Uhlenbeck step of all velocities or some."""
        if not self.friction.any():
            return
        atoms = np.arange(len(self.atoms)) if atoms is None else atoms
        decay = np.exp(-self.friction[atoms, None] * interval)
        width = np.sqrt(units.kB * self.temperature_K * (1 - decay**2) / self.masses[atoms])
        self.velocities[atoms] = decay * self.velocities[atoms] + width * self.rng.standard_normal((len(atoms), 3))

    def check_finite(self) -> None:
        """Raise an error if a position or velocity is not finite."""
        if not (np.isfinite(self.atoms.positions).all() and np.isfinite(self.velocities).all()):
            raise NotFiniteError(
                "KStep: a position or velocity is NaN or infinite; the atoms are as they were before this macro-step. Usual "
                "causes: a step that is too long, or a model outside the region it was trained for."
            )
