"""KStepIntegrator: a real OpenMM integrator, with OpenMM's naming."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from openmm import unit

from . import _openmmkstep as _c
from ._load import load_torch
from ._units import ENERGY, KELVIN, NANOMETER, PER_PICOSECOND, PICOSECOND, RADIAN, strip
from .contract import check_archive


class KStepIntegrator(openmm.Integrator):
    """Integrates QM/MM dynamics on a cheap Hamiltonian for k base steps, then corrects with one xTB call.

    The forces of a System are divided by force group: the corrector (group 1), the model (group 2), and the rest,
    which is common. With D = U_corrector - U_model the schemes are

    'impulse'
        half a kick with h (F_corrector - F_model), k inner steps on common and model, half a kick (r-RESPA). For
        dynamics. Without a model it is plain RESPA between the corrector and the rest. setMollification() lifts the
        limit of about 2 fs that the resonance with bonds to hydrogen sets to h.
    'metropolis'
        k inner steps are a proposal, accepted with probability min(1, exp(-dD/kT)), with extra chances before all
        velocities are reversed. For sampling: exact for any model, but not dynamics.

    'reweight'
        k inner steps, then D = U_corrector - U_model is computed: the state has the weight exp(-D/kT). The dynamics is
        the model's; good where sd(D) is below about kT/2. Reporters and barostats see the model's Hamiltonian.
    'jump'
        a direct model (positions, velocities -> their changes) carries the QM region over k-1 base steps at once, and one
        base step of all atoms with the true force follows. It samples the model, and needs a thermostat; see
        setJumpModel().

    One step() is one macro-step: the step count grows by 1 and the time by h = k dt (in 'metropolis' by h for every
    test that was made). getStepSize() is h. In 'impulse' a macro-step that fails is repeated with a smaller k, down to
    steps without the model; see setErrorRecovery(). When it fails for good, the Context keeps the state from before it.

    Parameters
    ----------
    baseStepSize : float or Quantity
        the base step dt (ps)
    k : int
        base steps per macro-step
    scheme : str
        'impulse', 'metropolis', 'reweight' or 'jump'
    temperature : float or Quantity, optional
        the temperature (K); required for 'metropolis' and 'reweight', and with friction
    friction : float or Quantity, optional
        the friction (1/ps); by default 0 for 'impulse', 1/ps for 'metropolis' and 'reweight', and 10/ps for 'jump'.
        Without friction the inner steps are velocity Verlet, with it BAOAB.

    Raises
    ------
    OpenMMException
        For an unknown scheme or settings that do not fit together. When a Context is created: if there is no force
        in the corrector's group, no model where the scheme needs one, or a model in another group.
    """

    def __init__(self, baseStepSize, k: int, scheme: str = "impulse", temperature=None, friction=None):
        # The C++ constructor takes a negative friction for "the scheme's default"; a user's is an error.
        number = -1.0 if friction is None else strip(friction, PER_PICOSECOND)
        if friction is not None and not number >= 0:
            raise openmm.OpenMMException(f"KStepIntegrator: the friction must not be negative, found {friction}.")
        xml = _c.KStepIntegrator_create(
            strip(baseStepSize, PICOSECOND),
            k,
            scheme,
            0.0 if temperature is None else strip(temperature, KELVIN),
            number,
        )
        self.this = openmm.XmlSerializer.deserialize(xml).this

    def getBaseStepSize(self) -> unit.Quantity:
        """Get the base step dt."""
        return _c.KStepIntegrator_getBaseStepSize(self) * PICOSECOND

    def setBaseStepSize(self, size) -> None:
        """Set the base step dt (ps)."""
        _c.KStepIntegrator_setBaseStepSize(self, strip(size, PICOSECOND))

    def getK(self) -> int:
        """Get the number of base steps in a macro-step."""
        return _c.KStepIntegrator_getK(self)

    def setK(self, k: int) -> None:
        """Set the number of base steps in a macro-step."""
        _c.KStepIntegrator_setK(self, k)

    def getScheme(self) -> str:
        """Get the scheme: 'impulse', 'metropolis', 'reweight' or 'jump'."""
        return _c.KStepIntegrator_getScheme(self)

    def getTemperature(self) -> unit.Quantity:
        """Get the temperature; 0 where none was set."""
        return _c.KStepIntegrator_getTemperature(self) * KELVIN

    def setTemperature(self, temperature) -> None:
        """Set the temperature (K)."""
        _c.KStepIntegrator_setTemperature(self, strip(temperature, KELVIN))

    def getFriction(self) -> unit.Quantity:
        """Get the friction."""
        return _c.KStepIntegrator_getFriction(self) * PER_PICOSECOND

    def setFriction(self, friction) -> None:
        """Set the friction (1/ps)."""
        _c.KStepIntegrator_setFriction(self, strip(friction, PER_PICOSECOND))

    def getThermostat(self) -> str:
        """Get the thermostat of all particles that are in no region: 'langevin' or 'bussi'."""
        return _c.KStepIntegrator_getThermostat(self)

    def setThermostat(self, thermostat: str) -> None:
        """Set the thermostat of all particles that are in no region.

        'langevin' (the default) is BAOAB inside the macro-step, 'bussi' stochastic velocity rescaling with the
        relaxation time 1/friction between macro-steps. Without friction both are absent.
        """
        _c.KStepIntegrator_setThermostat(self, thermostat)

    def setRegion(self, particles, temperature, friction, thermostat: str = "langevin") -> int:
        """Couple some particles to a temperature of their own; all others follow the integrator's.

        A call with the particles of an existing region changes that one, also while a Context uses the integrator.

        Parameters
        ----------
        particles : sequence of int
            the particles of the region; regions must not overlap
        temperature : float or Quantity
            their temperature (K)
        friction : float or Quantity
            their friction (1/ps); 0 for no coupling
        thermostat : str
            'langevin' or 'bussi'; see setThermostat()

        Returns
        -------
        int
            the index of the region
        """
        return _c.KStepIntegrator_setRegion(
            self, [int(i) for i in particles], strip(temperature, KELVIN), strip(friction, PER_PICOSECOND), thermostat
        )

    def getNumRegions(self) -> int:
        """Get the number of regions."""
        return _c.KStepIntegrator_getNumRegions(self)

    def getRegion(self, index: int) -> tuple[list[int], unit.Quantity, unit.Quantity, str]:
        """Get a region as (particles, temperature, friction, thermostat)."""
        particles, temperature, friction, thermostat = _c.KStepIntegrator_getRegion(self, index)
        return particles, temperature * KELVIN, friction * PER_PICOSECOND, thermostat

    def computeHalfStepVelocities(self) -> unit.Quantity:
        """Compute the velocities (array of shape (particles, 3)) at which the kinetic energy is unbiased.

        Under friction these are the velocities after another half kick. State's kinetic energy is made of them.
        """
        return np.array(_c.KStepIntegrator_computeHalfStepVelocities(self)) * (NANOMETER / PICOSECOND)

    def getAdaptive(self) -> bool:
        """Get whether the macro-step starts small and grows."""
        return _c.KStepIntegrator_getAdaptive(self)

    def setAdaptive(self, adaptive: bool) -> None:
        """Set whether 'impulse' starts with a corrector call every base step and doubles the interval up to k.

        It doubles after 10 macro-steps without a fault. A macro-step stays k dt long: it is subdivided.
        """
        _c.KStepIntegrator_setAdaptive(self, bool(adaptive))

    def getErrorRecovery(self) -> bool:
        """Get whether a macro-step with a fault is repeated with a smaller k."""
        return _c.KStepIntegrator_getErrorRecovery(self)

    def setErrorRecovery(self, recovery: bool) -> None:
        """Set whether a macro-step of 'impulse' with a fault is undone and repeated with a smaller k (default: True).

        k/2 and so on, down to steps on the true forces without the model, for at least 8 macro-steps; k doubles after
        10 macro-steps without a fault. Faults are numbers that are not finite, a corrector that fails from a cold start
        too, outliers of D (5 standard deviations and 4 kT) and of its forces (5 standard deviations, and an impulse of
        more than kT), and a model outside the region that its contract declares. When more than 1 % of the macro-steps (and at
        least 10) were repeated, the model is declared unfit and no longer used.
        """
        _c.KStepIntegrator_setErrorRecovery(self, bool(recovery))

    def getEvents(self) -> list[dict]:
        """Get the last faults that were handled (at most 1000): dicts with step, time (ps), kind, fromK, toK."""
        return _c.KStepIntegrator_getEvents(self)

    def getMaxUndoneStates(self) -> int:
        """Get how many of the states that were undone are kept."""
        return _c.KStepIntegrator_getMaxUndoneStates(self)

    def setMaxUndoneStates(self, number: int) -> None:
        """Set how many of the last states that were undone are kept for takeUndoneStates() (default: 0).

        These are what a Metropolis test rejected, and what was undone for a fault: where the model is worst. States that
        are not finite are not kept. Each one costs a download of the positions.
        """
        _c.KStepIntegrator_setMaxUndoneStates(self, number)

    def takeUndoneStates(self) -> list[dict]:
        """Get the states that were undone since the last call, oldest first, and forget them.

        Returns
        -------
        list of dict
            step (at the start of the macro-step), kind ('rejected' or a kind of getEvents()), D (kJ/mol), positions of all
            particles (array, nm), box (periodic box vectors, array of shape (3, 3), nm)
        """
        return _c.KStepIntegrator_takeUndoneStates(self)

    def getIncludeShadowWork(self) -> bool:
        """Get whether the test of 'metropolis' includes the shadow work."""
        return _c.KStepIntegrator_getIncludeShadowWork(self)

    def setIncludeShadowWork(self, include: bool) -> None:
        """Set whether the test of 'metropolis' is made on dD + W, with W the work of the finite base step on H_fast.

        That removes the error of the base step from what is sampled; acceptance falls with the size of the system.
        """
        _c.KStepIntegrator_setIncludeShadowWork(self, bool(include))

    def getRandomNumberSeed(self) -> int:
        """Get the random number seed; 0 (the default) picks a new one for each Context."""
        return _c.KStepIntegrator_getRandomNumberSeed(self)

    def setRandomNumberSeed(self, seed: int) -> None:
        """Set the random number seed. Takes effect for Contexts created afterwards."""
        _c.KStepIntegrator_setRandomNumberSeed(self, seed)

    def getCorrectorForceGroup(self) -> int:
        """Get the force group of the corrector."""
        return _c.KStepIntegrator_getCorrectorForceGroup(self)

    def setCorrectorForceGroup(self, group: int) -> None:
        """Set the force group of the corrector; the default is 1. Not possible while a Context uses the integrator."""
        _c.KStepIntegrator_setCorrectorForceGroup(self, group)

    def getModelForceGroup(self) -> int:
        """Get the force group of the model."""
        return _c.KStepIntegrator_getModelForceGroup(self)

    def setModelForceGroup(self, group: int) -> None:
        """Set the force group of the model; the default is 2. Not possible while a Context uses the integrator."""
        _c.KStepIntegrator_setModelForceGroup(self, group)

    def getExtraChances(self) -> int:
        """Get the total number of tests that 'metropolis' makes before a flip."""
        return _c.KStepIntegrator_getExtraChances(self)

    def setExtraChances(self, chances: int) -> None:
        """Set the total number of tests that 'metropolis' makes before a flip; the default is 4, 1 is the plain test."""
        _c.KStepIntegrator_setExtraChances(self, chances)

    def setMollification(self, bonds) -> None:
        """Set the bonds that are reset before D is evaluated in the scheme 'impulse' (mollified impulse).

        Takes effect for Contexts created afterwards. findMollification() makes the list.

        Parameters
        ----------
        bonds : sequence of (int, int, float or Quantity), or Mollification
            what findMollification() returned; with deep=True that sets the angles of setMollifiedAngles() too. Or a list
            of (end that stays, end that moves, length in nm); with the moving end goes all that hangs on it in this list.
            Normally all X-H bonds of the QM region, heavy atom first, with their mean lengths; for deep mollification
            all its bonds as a tree (without those that close rings), in any order. An empty list gives the plain
            impulse.

        Raises
        ------
        OpenMMException
            If a length is not positive, a particle is the moving end of two bonds, or the bonds form a ring.
        """
        angles = getattr(bonds, "angles", None)
        if angles is not None:
            self.setMollifiedAngles([])  # the old ones need not fit the new bonds
        numbers = [(int(a), int(b), strip(length, NANOMETER)) for a, b, length in getattr(bonds, "bonds", bonds)]
        _c.KStepIntegrator_setMollification(self, numbers)
        if angles is not None:
            self.setMollifiedAngles(angles)

    def getMollification(self) -> list[tuple[int, int, unit.Quantity]]:
        """Get the bonds that mollification resets, as (heavy atom, hydrogen, length)."""
        return [(a, b, length * NANOMETER) for a, b, length in _c.KStepIntegrator_getMollification(self)]

    def setMollifiedAngles(self, angles) -> None:
        """Set the angles that are reset after the bonds, for deep mollification. Call setMollification() first.

        Takes effect for Contexts created afterwards. findMollification(..., deep=True) makes the list.

        Parameters
        ----------
        angles : sequence of (int, int, int, float or Quantity)
            (hydrogen, centre, neighbour of the centre, angle in rad): the hydrogen is rotated about the centre in the
            plane of the three. One angle for a hydrogen; all hydrogens of one centre take the same neighbour.

        Raises
        ------
        OpenMMException
            If an angle is nearly straight, moves a particle that is not terminal or that another angle moves too, or
            is measured against a particle that another angle moves.
        """
        numbers = [(int(a), int(b), int(c), strip(angle, RADIAN)) for a, b, c, angle in angles]
        _c.KStepIntegrator_setMollifiedAngles(self, numbers)

    def getMollifiedAngles(self) -> list[tuple[int, int, int, unit.Quantity]]:
        """Get the angles that mollification resets, as (hydrogen, centre, neighbour, angle)."""
        return [(a, b, c, angle * RADIAN) for a, b, c, angle in _c.KStepIntegrator_getMollifiedAngles(self)]

    def mollifyPositions(self, positions) -> np.ndarray:
        """Compute A(x): positions with the bonds of setMollification() and the angles of setMollifiedAngles() reset.

        Virtual sites stay where they are; Context.computeVirtualSites() moves them.

        Parameters
        ----------
        positions : array of shape (particles, 3) or Quantity
            all particles of the System (nm)

        Returns
        -------
        numpy.ndarray, shape (particles, 3)
            in nm

        Raises
        ------
        OpenMMException
            If the particles of an angle are in a straight line, or those of a bond at the same place.
        """
        if unit.is_quantity(positions):
            positions = positions.value_in_unit(NANOMETER)
        return np.array(_c.KStepIntegrator_mollifyPositions(self, np.asarray(positions, dtype=float).tolist()))

    def computeMollificationBias(self) -> unit.Quantity:
        """Compute b = D(x) - D(A(x)), what the mollified Hamiltonian lacks of the true one at the current positions.

        A frame of a mollified run at the temperature T has the weight exp(-b/kT) in the ensemble of the true
        Hamiltonian. Costs one xTB call. The standard deviation of b over a run says how far the two are apart; with a
        good model it is far below kT.

        Returns
        -------
        Quantity
            energy; 0 without mollification

        Raises
        ------
        OpenMMException
            If the integrator has no Context or its scheme is not 'impulse'.
        """
        return _c.KStepIntegrator_computeMollificationBias(self) * ENERGY

    def getAllowResonance(self) -> bool:
        """Get whether the scheme 'impulse' may run near a resonance with a bond to hydrogen."""
        return _c.KStepIntegrator_getAllowResonance(self)

    def setAllowResonance(self, allow: bool) -> None:
        """Set whether the scheme 'impulse' may run near a resonance; the default is False.

        The first step in a Context computes the periods of the QM region's bonds to hydrogen that are neither mollified
        nor constrained (two model calls a bond). It raises OpenMMException if h is 0.35 of the shortest period or more,
        and warns on the standard error stream from 0.28 on.
        """
        _c.KStepIntegrator_setAllowResonance(self, bool(allow))

    def setJumpModel(self, model: str | os.PathLike, particles: Sequence[int]) -> None:
        """Set the direct model of the scheme 'jump'. Not possible while a Context uses the integrator.

        One macro-step is: all other particles for (k-1) dt/2 on the common forces, whose reaction the QM velocities
        receive; the jump; the other particles again; one base step of all particles with the true force. Under friction
        the QM velocities get an exact Ornstein-Uhlenbeck step of (k-1) dt/2 on either side of the jump.

        Parameters
        ----------
        model : str or path
            the model file; its bytes are read now and travel with this object when that is serialized. Its contract is of
            the kind 'jump' and declares k-1 base steps of this integrator's dt. What it returns is the change of positions
            and velocities without the effect of the common forces. If it takes forces, they are the true ones (corrector
            and common) at exactly its positions, which costs one more corrector call where other particles move
        particles : sequence of int
            indices of the particles that jump, in the order of the contract's species. They must have mass, and may be
            neither virtual sites nor part of constraints

        Raises
        ------
        ImportError
            If torch is missing or of another version than openmmkstep was built with.
        OSError
            If the file cannot be read.
        OpenMMException
            If the particles are repeated or the scheme is another one. When a Context is created or step() is called: if
            the contract does not fit, or without friction (see setAllowJumpWithoutThermostat()).
        ValueError
            If the file is not a TorchScript file, or is truncated or corrupt.
        """
        load_torch()
        data = Path(model).read_bytes()
        check_archive(data)
        _c.KStepIntegrator_setJumpModelData(self, data, [int(i) for i in particles])

    def getJumpModelData(self) -> bytes:
        """Get the bytes of the direct model's file; empty if none was set."""
        return _c.KStepIntegrator_getJumpModelData(self)

    def getJumpParticles(self) -> list[int]:
        """Get the indices of the particles that jump."""
        return _c.KStepIntegrator_getJumpParticles(self)

    def getJumpNumThreads(self) -> int:
        """Get the number of threads that torch uses for the direct model."""
        return _c.KStepIntegrator_getJumpNumThreads(self)

    def setJumpNumThreads(self, threads: int) -> None:
        """Set the number of threads that torch uses for the direct model; the default, 1, is the fastest for small models."""
        _c.KStepIntegrator_setJumpNumThreads(self, threads)

    def getAllowJumpWithoutThermostat(self) -> bool:
        """Get whether the scheme 'jump' runs without a thermostat too."""
        return _c.KStepIntegrator_getAllowJumpWithoutThermostat(self)

    def setAllowJumpWithoutThermostat(self, allow: bool) -> None:
        """Set whether the scheme 'jump' runs without a thermostat on the particles that jump (default: False).

        No direct model is known to conserve energy: drifts of tens to thousands of kJ/mol/ps are usual. Below a friction
        of 10/ps there is a warning.
        """
        _c.KStepIntegrator_setAllowJumpWithoutThermostat(self, bool(allow))

    def computeConservedEnergy(self) -> unit.Quantity:
        """Compute what the scheme 'impulse' conserves without friction: K + U_common + U_model(x) + D(A(x))."""
        return _c.KStepIntegrator_computeConservedEnergy(self) * ENERGY

    def computeD(self) -> unit.Quantity:
        """Compute D = U_corrector - U_model at the current positions (at A(x) with mollification)."""
        return _c.KStepIntegrator_computeD(self) * ENERGY

    def stepTo(self, time) -> None:
        """Advance by whole macro-steps until the Context's time is at least the given one (ps)."""
        _c.KStepIntegrator_stepTo(self, strip(time, PICOSECOND))

    def getStatistics(self) -> dict:
        """Get counts and averages since the Context was created or resetStatistics() was called.

        Returns
        -------
        dict
            macroSteps, chances (Metropolis tests), accepted, firstAccepted (at the first test), flips,
            correctorCalls, and meanD and sdD: mean and standard deviation of D at the ends of macro-steps (Quantity);
            effectiveSamples (of 'reweight'); the faults nonFinite, convergenceFailures, outliersD, outliersForce,
            outsideRegion; redone (macro-steps repeated with a smaller k), plainMacroSteps (made without the model),
            currentK (base steps between corrector calls; 0: plain steps), modelUnfit (0 or 1)
        """
        statistics = _c.KStepIntegrator_getStatistics(self)
        for name in ("meanD", "sdD"):
            statistics[name] = statistics[name] * ENERGY
        return statistics

    def resetStatistics(self) -> None:
        """Set all statistics to zero."""
        _c.KStepIntegrator_resetStatistics(self)
