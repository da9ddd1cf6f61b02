"""The System and Context that a walker moves in: xTB or a model, heavy hydrogens, temperatures by region, biases."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import openmm

from ..contract import readContract
from ..forces import KStepModelForce, XtbForce, cast
from ..integrator import KStepIntegrator
from ..qmmm.model import model_force
from ..qmmm.preparation import make_hydrogens_heavy, remove_couplings, unused_groups
from .region import Region, findXtbForce

TIME_STEP = 0.002
"""ps, with heavy hydrogens."""
FRICTION = 5.0
"""1/ps; decorrelates without slowing torsions down."""
HYDROGEN_MASS = 3.0  # dalton
SURROUNDINGS = 300.0
"""K; hotter water would evaporate."""
SWEEP_STRENGTH = 60.0
"""kJ/mol, of the bias that drags a torsion."""
_QUENCH = (200, 0.0005, 50.0, 10.0)  # steps, ps, 1/ps, K


def make_system(system: openmm.System, region: Region, model: str | None, order: Sequence[int] = ()) -> openmm.System:
    """A copy with xTB or the model alone, heavy hydrogens, and without barostats and thermostats.

    Atom i of the model is atom order[i] of the region.
    """
    system = copy.deepcopy(system)
    xtb = copy.deepcopy(findXtbForce(system))
    for i in reversed(range(system.getNumForces())):
        force = cast(system.getForce(i))
        if isinstance(force, KStepModelForce) or (model is not None and isinstance(force, XtbForce)):
            system.removeForce(i)
    if model is not None:
        system.addForce(replacement(xtb, model, order, system))
    remove_couplings(system)
    make_hydrogens_heavy(system, region, HYDROGEN_MASS)
    return system


def replacement(xtb: XtbForce, model: str, order: Sequence[int], system: openmm.System) -> KStepModelForce:
    """A KStepModelForce in the force group of an XtbForce: to the integrator it is the corrector."""
    force = model_force(xtb, model, readContract(model), order)
    force.setForceGroup(xtb.getForceGroup())
    force.setCorrectorForceGroup(unused_groups(system, {xtb.getForceGroup()})[-1])
    return force


def add_sweep(system: openmm.System, torsions: Sequence[Sequence[int]]) -> None:
    """Add a bias that can drag one of these torsions (particles of the System), off at first; see set_sweep()."""
    force = openmm.CustomTorsionForce("select(torsion-sweepTorsion, 0, sweepStrength*(1-cos(theta-sweepCentre)))")
    force.addPerTorsionParameter("torsion")
    for name in ("sweepTorsion", "sweepStrength", "sweepCentre"):
        force.addGlobalParameter(name, 0.0)
    for i, torsion in enumerate(torsions):
        force.addTorsion(*torsion, [i])
    system.addForce(force)


def set_sweep(context: openmm.Context, torsion: int, centre: float) -> None:
    """Drag this torsion to this angle (rad)."""
    for name, value in (("Torsion", float(torsion)), ("Strength", SWEEP_STRENGTH), ("Centre", centre)):
        context.setParameter("sweep" + name, value)


class Driver:
    """A Context at a temperature of the QM region, with its surroundings at 300 K at most.

    Parameters
    ----------
    system : System
        as make_system() makes it
    region : Region
        its particles have the temperature
    temperature : float
        K
    seed : int
        of the thermostat
    platform : str
        'Reference' or 'CPU'
    """

    def __init__(self, system: openmm.System, region: Region, temperature: float, seed: int, platform: str):
        self.system, self.region, self.temperature = system, region, temperature
        self._cold = min(temperature, SURROUNDINGS)
        kinds = (XtbForce, KStepModelForce)
        self.force = next(f for f in map(cast, system.getForces()) if isinstance(f, kinds))
        self.integrator = KStepIntegrator(TIME_STEP, 1, "impulse", self._cold, FRICTION)
        self._couple(temperature, self._cold, FRICTION)
        self.integrator.setRandomNumberSeed(seed)
        self.integrator.setErrorRecovery(False)
        self.integrator.setAllowResonance(True)
        self.integrator.setCorrectorForceGroup(self.force.getForceGroup())
        self.integrator.setModelForceGroup(unused_groups(system, set())[0])
        properties = {"Threads": "1"} if platform == "CPU" else {}
        self.context = openmm.Context(system, self.integrator, openmm.Platform.getPlatformByName(platform), properties)

    def _couple(self, temperature: float, cold: float, friction: float) -> None:
        self.integrator.setTemperature(cold)
        self.integrator.setFriction(friction)
        self.integrator.setRegion(self.region.particles, temperature, friction)

    def start(self, positions: np.ndarray, box, seed: int) -> None:
        """Set positions (nm) and random velocities."""
        if box is not None:
            self.context.setPeriodicBoxVectors(*(openmm.Vec3(*v) for v in box))
        self.context.setPositions(positions)
        self.context.setVelocitiesToTemperature(self._cold, seed)

    def quench(self, seed: int) -> None:
        """Take out what strain a start has, by short steps at 10 K and strong friction."""
        steps, size, friction, temperature = _QUENCH
        self.context.setVelocitiesToTemperature(temperature, seed)
        self.integrator.setBaseStepSize(size)
        self._couple(temperature, temperature, friction)
        try:
            self.integrator.step(steps)
        finally:
            self.integrator.setBaseStepSize(TIME_STEP)
            self._couple(self.temperature, self._cold, FRICTION)
        self.context.setVelocitiesToTemperature(self._cold, seed + 1)

    def positions(self) -> np.ndarray:
        """Of all particles (nm)."""
        return np.array(self.context.getState(positions=True).getPositions(asNumpy=True)._value)

    def box(self) -> np.ndarray | None:
        """Periodic box vectors as rows (nm), None without a box."""
        if not self.system.usesPeriodicBoundaryConditions():
            return None
        return np.array(self.context.getState().getPeriodicBoxVectors(asNumpy=True)._value)

    def region_energy(self) -> float:
        """Energy of the xTB or model force (kJ/mol)."""
        return self.context.getState(energy=True, groups={self.force.getForceGroup()}).getPotentialEnergy()._value
