"""Biased sampling along a collective variable, by OpenMM's own forces: umbrella windows and metadynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import openmm

from .._units import ENERGY, GAS_CONSTANT, NANOMETER, PICOSECOND, RADIAN, strip

_EXPRESSIONS = {
    "torsion": (4, "dihedral(p1,p2,p3,p4)"),
    "distance": (2, "distance(p1,p2)"),
    "distanceDifference": (4, "distance(p1,p2)-distance(p3,p4)"),
}
_GRID = 200  # points between the limits of metadynamics


@dataclass(frozen=True)
class CollectiveVariable:
    """A function of the positions.

    Attributes
    ----------
    kind : str
        'torsion' (rad), 'distance' (nm), or 'distanceDifference' (nm): of the first two particles minus that of the last two
    particles : tuple of int
        indices in the System: 4, 2 or 4

    Raises
    ------
    ValueError
        For another kind or number of particles.
    """

    kind: str
    particles: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "particles", tuple(int(i) for i in self.particles))
        if self.kind not in _EXPRESSIONS:
            raise ValueError(f"A collective variable is one of {sorted(_EXPRESSIONS)}, found '{self.kind}'.")
        expected = _EXPRESSIONS[self.kind][0]
        pairs = [self.particles] if self.kind != "distanceDifference" else [self.particles[:2], self.particles[2:]]
        if len(self.particles) != expected or any(len(set(p)) < len(p) for p in pairs):
            raise ValueError(f"A {self.kind} needs {expected} different particles, found {self.particles}.")

    @property
    def isPeriodic(self) -> bool:
        """Whether values that differ by 2 pi are the same."""
        return self.kind == "torsion"

    def difference(self, value: float, other: float) -> float:
        """value - other, by the shorter way round for torsions."""
        delta = value - other
        return math.remainder(delta, 2 * math.pi) if self.isPeriodic else delta

    def makeForce(self, expression: str, periodic: bool) -> openmm.CustomCompoundBondForce:
        """A Force of this energy, in which ``cv`` stands for the variable."""
        count, definition = _EXPRESSIONS[self.kind]
        force = openmm.CustomCompoundBondForce(count, f"{expression}; cv={definition}")
        force.addBond(self.particles, [])
        force.setUsesPeriodicBoundaryConditions(periodic)
        return force

    def evaluate(self, positions, box=None) -> float:
        """Its value at positions (nm) of all particles.

        Parameters
        ----------
        positions : array of shape (particles, 3)
            nm
        box : array of shape (3, 3), optional
            periodic box vectors (nm) as rows
        """
        x = np.asarray(positions, dtype=float)[list(self.particles)]
        first, *rest = (_nearest(b - a, box) for a, b in zip(x[:-1], x[1:], strict=True))
        if self.kind == "distance":
            return float(np.linalg.norm(first))
        if self.kind == "distanceDifference":
            return float(np.linalg.norm(first) - np.linalg.norm(rest[1]))
        normal, other = np.cross(first, rest[0]), np.cross(rest[0], rest[1])
        return math.atan2(np.linalg.norm(rest[0]) * (first @ other), normal @ other)


@dataclass(frozen=True)
class UmbrellaWindows:
    """Harmonic restraints of a collective variable, each walker in one of the windows.

    Attributes
    ----------
    cv : CollectiveVariable
    centres : tuple of float
        rad or nm
    spring : float
        the energy is spring/2 (cv - centre)^2 (kJ/mol/rad^2 or kJ/mol/nm^2)
    """

    cv: CollectiveVariable
    centres: tuple[float, ...]
    spring: float

    def __post_init__(self):
        unit = RADIAN if self.cv.isPeriodic else NANOMETER
        object.__setattr__(self, "centres", tuple(strip(c, unit) for c in self.centres))
        object.__setattr__(self, "spring", strip(self.spring, ENERGY / unit**2))
        if not self.centres or not self.spring > 0:
            raise ValueError(
                f"Umbrella windows need at least one centre and a positive spring constant, found {len(self.centres)} and "
                f"{self.spring}."
            )

    def makeForce(self, periodic: bool) -> openmm.Force:
        """The restraint; its centre is the global parameter ``umbrellaCentre``."""
        delta = "abs(cv-umbrellaCentre)"
        if self.cv.isPeriodic:
            delta = f"min(d, {2 * math.pi!r}-d); d=abs(w-{2 * math.pi!r}*floor(w/{2 * math.pi!r})); w=cv-umbrellaCentre"
        force = self.cv.makeForce(f"{self.spring / 2!r}*delta^2; delta={delta}", periodic)
        force.addGlobalParameter("umbrellaCentre", self.centres[0])
        return force


@dataclass(frozen=True)
class Metadynamics:
    """Well-tempered metadynamics: hills of a collective variable push each walker to where it has not been.

    Attributes
    ----------
    cv : CollectiveVariable
    minimum, maximum : float
        limits of the variable (rad or nm), a full turn for torsions; the bias has no slope beyond
    width : float
        of a hill, the standard deviation (rad or nm)
    height : float
        of the first hill (kJ/mol)
    biasFactor : float
        larger than 1: the barriers that are left are lower by this factor
    period : float
        time between hills (ps)
    """

    cv: CollectiveVariable
    minimum: float
    maximum: float
    width: float
    height: float = 2.0
    biasFactor: float = 10.0
    period: float = 0.1

    def __post_init__(self):
        unit = RADIAN if self.cv.isPeriodic else NANOMETER
        for name in ("minimum", "maximum", "width"):
            object.__setattr__(self, name, strip(getattr(self, name), unit))
        object.__setattr__(self, "height", strip(self.height, ENERGY))
        object.__setattr__(self, "period", strip(self.period, PICOSECOND))
        if not (self.minimum < self.maximum and self.width > 0 and self.height > 0 and self.biasFactor > 1):
            raise ValueError(
                "Metadynamics needs minimum < maximum, a positive width and height, and a bias factor above 1, found "
                f"{self.minimum}, {self.maximum}, {self.width}, {self.height} and {self.biasFactor}."
            )
        if self.cv.isPeriodic and abs(self.maximum - self.minimum - 2 * math.pi) > 1e-6:
            raise ValueError("The limits of metadynamics along a torsion must be 2 pi apart, such as -pi and pi.")

    @property
    def grid(self) -> np.ndarray:
        """The values of the variable that the bias is tabulated at."""
        return np.linspace(self.minimum, self.maximum, _GRID + 1)

    def makeForce(self, periodic: bool) -> openmm.Force:
        """The bias, a tabulated function that is zero at first; see update()."""
        argument = f"min({self.maximum!r}, max({self.minimum!r}, cv))"
        if self.cv.isPeriodic:
            turn = 2 * math.pi
            argument = f"cv-{turn!r}*floor((cv-{self.minimum!r})/{turn!r})"
        force = self.cv.makeForce(f"hills({argument})", periodic)
        force.addTabulatedFunction("hills", self._function(np.zeros(_GRID + 1)))
        return force

    def addHill(self, bias: np.ndarray, value: float, temperature: float) -> np.ndarray:
        """The tabulated bias (kJ/mol) with a hill at a value of the variable added, lower where the bias is high."""
        distance = np.abs(self.grid - value)
        if self.cv.isPeriodic:
            distance = np.mod(distance, 2 * math.pi)
            distance = np.minimum(distance, 2 * math.pi - distance)
        here = float(np.interp(value, self.grid, bias))
        height = self.height * math.exp(-here / (GAS_CONSTANT * temperature * (self.biasFactor - 1)))
        return bias + height * np.exp(-(distance**2) / (2 * self.width**2))

    def update(self, force: openmm.CustomCompoundBondForce, context: openmm.Context, bias: np.ndarray) -> None:
        """Copy a tabulated bias to a Context."""
        force.getTabulatedFunction(0).setFunctionParameters(bias.tolist(), self.minimum, self.maximum)
        force.updateParametersInContext(context)

    def _function(self, bias: np.ndarray) -> openmm.Continuous1DFunction:
        return openmm.Continuous1DFunction(bias.tolist(), self.minimum, self.maximum, self.cv.isPeriodic)


def _nearest(delta: np.ndarray, box) -> np.ndarray:
    """The image of a difference that OpenMM takes, in a box in its reduced form."""
    for axis in (2, 1, 0) if box is not None else ():
        delta = delta - np.asarray(box)[axis] * np.floor(delta[axis] / np.asarray(box)[axis][axis] + 0.5)
    return delta


Bias = UmbrellaWindows | Metadynamics
