"""k-step molecular dynamics on ASE's Atoms: the schemes of KStepIntegrator, in numpy."""

from __future__ import annotations

import dataclasses
import os
import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, SCFError
from ase.md.md import MolecularDynamics

from ._units import PICOSECOND
from .calculators import KStepModelCalculator
from .checkpoint import read_checkpoint, write_checkpoint
from .forces import Forces
from .hamiltonian import TrueHamiltonian, forget
from .jump_model import JumpModel
from .link_atoms import LinkAtoms, select
from .mover import Mover, NotFiniteError

SCHEMES = ("impulse", "metropolis", "jump")
DEFAULT_FRICTION = {"impulse": 0.0, "metropolis": 1.0, "jump": 10.0}
"""1/ps, as in KStepIntegrator."""
_RESONANCE = 2.5
"""fs. From 0.28 of the period of a bond to hydrogen on, the plain impulse is unsafe."""


@dataclass
class KStepStatistics:
    """Counts since the run began.

    Attributes
    ----------
    macro_steps : int
    tests : int
        Metropolis tests made
    accepted, first_accepted : int
        macro-steps accepted at any test, and at their first
    flips : int
        macro-steps that ended with all velocities reversed
    corrector_calls : int
    """

    macro_steps: int = 0
    tests: int = 0
    accepted: int = 0
    first_accepted: int = 0
    flips: int = 0
    corrector_calls: int = 0


class KStep(MolecularDynamics):
    """Dynamics on a cheap Hamiltonian for k base steps, corrected by one call of an expensive calculator.

    With U_true = U_common + U_corrector, U_fast = U_common + U_model and D = U_corrector - U_model the schemes are

    'impulse'
        half a kick with h (F_corrector - F_model), k steps on U_fast, half a kick (r-RESPA). For dynamics; h = k timestep
        up to about 2 fs, 4 fs with hydrogens of 3 u.
    'metropolis'
        k steps on U_fast are a proposal, accepted with probability min(1, exp(-dD/kT)). A failed test is followed by
        another k steps and a test with the same random number, up to ``extra_chances`` tests; if all fail, positions are
        restored and all velocities reversed. Samples exp(-U_true/kT) for any model; not dynamics.
    'jump'
        a direct model carries its atoms over k-1 steps at once, and one step of all atoms on U_true follows. It samples
        the model, and needs a thermostat.

    One step() is one macro-step. Steps on U_fast are velocity Verlet without friction, BAOAB with it; ASE's constraints
    act as in its own dynamics. ``atoms.calc`` becomes a TrueHamiltonian: what loggers and trajectories see is U_true, at
    no cost. A step that raises an error leaves the atoms as they were before it.

    Parameters
    ----------
    atoms : Atoms
        with momenta, if they are to move
    timestep : float
        the base step (ASE's unit of time)
    k : int
        base steps of a macro-step
    scheme : str
        'impulse', 'metropolis' or 'jump'
    model : Calculator, str or path
        the cheap calculator, or a k-step model file. For 'jump' a JumpModel or its file
    corrector : Calculator, optional
        the expensive calculator; by default ``atoms.calc``
    common : Calculator, optional
        what corrector and model share, such as the MM part of a QM/MM calculator, see split_qmmm(); computed once an inner
        step. Neither of them contains it then
    selection : sequence of int, mask or slice, optional
        the atoms that a model file is for, in the order of its contract; by default all. Calculators always get all atoms:
        wrap those of a QM region in LinkAtoms
    temperature_K : float, optional
        required for 'metropolis', and with friction
    friction : float or array of shape (n,), optional
        1/(ASE's unit of time); by default 0 for 'impulse', 1/ps for 'metropolis' and 10/ps for 'jump'
    rng : numpy.random.Generator or int, optional
        random numbers, or a seed
    extra_chances : int
        number of Metropolis tests before a flip
    allow_jump_without_thermostat : bool
        whether 'jump' runs without friction; it does not conserve energy
    **options
        of ASE's MolecularDynamics: trajectory, logfile, loginterval, append_trajectory

    Raises
    ------
    TypeError, ValueError
        For settings that do not fit together; the message says what was expected.
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        k: int,
        scheme: str = "impulse",
        *,
        model,
        corrector: Calculator | None = None,
        common: Calculator | None = None,
        selection=None,
        temperature_K: float | None = None,
        friction=None,
        rng=None,
        extra_chances: int = 4,
        allow_jump_without_thermostat: bool = False,
        **options,
    ):
        if scheme not in SCHEMES:
            raise ValueError(f"Expected one of the schemes {', '.join(SCHEMES)}, found {scheme!r}.")
        if int(k) != k or k < (2 if scheme == "jump" else 1) or not timestep > 0 or extra_chances < 1:
            raise ValueError(
                "KStep needs a positive timestep, a whole number k of at least 1 (2 for 'jump') and at least one chance, found "
                f"timestep {timestep}, k {k} and extra_chances {extra_chances}."
            )
        self.timestep, self.k, self.scheme = timestep, int(k), scheme
        self.extra_chances = extra_chances
        self.temperature_K = temperature_K
        self._set_friction(friction, len(atoms), allow_jump_without_thermostat)
        self.rng = np.random.default_rng(rng)
        self.statistics = KStepStatistics()
        self._extra_time = 0.0
        self._set_calculators(atoms, model, corrector, common, selection)
        atoms.calc = self.hamiltonian
        super().__init__(atoms, timestep * self.k, **options)
        self._mover = Mover(atoms, self.friction, temperature_K, self.rng)
        self._warn_of_resonance()

    def _set_friction(self, friction, num: int, allow: bool) -> None:
        if friction is None:
            friction = DEFAULT_FRICTION[self.scheme] / PICOSECOND
        self.friction = np.array(friction, dtype=float)
        if self.friction.shape not in ((), (num,)) or not np.all(self.friction >= 0):
            raise ValueError(
                f"The friction must be a number or one for each of {num} atoms, not negative; found {friction}."
            )
        if (self.scheme == "metropolis" or self.friction.any()) and not (self.temperature_K or 0) > 0:
            raise ValueError(
                f"The scheme {self.scheme!r} with friction {friction} needs a temperature: give a positive temperature_K, "
                f"found {self.temperature_K}."
            )
        if self.scheme == "metropolis" and not self.friction.any():
            raise ValueError(
                "The scheme 'metropolis' needs friction (0.5 to 2/ps is usual): without it velocities are never refreshed, and the "
                "energy is not sampled."
            )
        if self.scheme == "jump" and not self.friction.all() and not allow:
            raise ValueError(
                "The scheme 'jump' does not conserve energy and needs a thermostat (a friction of at least 10/ps). To run it "
                "nevertheless pass allow_jump_without_thermostat=True."
            )

    def _set_calculators(self, atoms, model, corrector, common, selection) -> None:
        if corrector is None:
            corrector = atoms.calc
            if isinstance(corrector, TrueHamiltonian):  # of an earlier run with the same atoms
                corrector, common = corrector.corrector, corrector.common if common is None else common
        if corrector is None:
            raise ValueError("KStep needs an expensive calculator: pass corrector=, or set atoms.calc.")
        self._jumping = None
        if self.scheme == "jump":
            self.jump_model = model if isinstance(model, JumpModel) else JumpModel(model)
            self._jumping = select(slice(None) if selection is None else selection, len(atoms))
            self.jump_model.check(atoms.numbers[self._jumping].tolist(), self.timestep, self.k)
            if isinstance(corrector, LinkAtoms) and corrector.links:
                raise ValueError("The scheme 'jump' cannot be combined with link atoms; use 'impulse' or 'metropolis'.")
            self._check_jump_constraints(atoms)
            model = None
        elif isinstance(model, str | os.PathLike):
            model = KStepModelCalculator(model)
            model = model if selection is None else LinkAtoms(model, selection)
        elif isinstance(model, JumpModel) or not hasattr(model, "get_forces"):
            raise TypeError(
                f"The model of the scheme {self.scheme!r} must be a calculator or a model file, found {model!r}."
            )
        elif selection is not None:
            raise ValueError(
                "KStep's selection says which atoms a model file is for. A calculator gets all atoms: wrap it in "
                "LinkAtoms(calculator, selection)."
            )
        self.hamiltonian = TrueHamiltonian(corrector, common)
        self._forces = Forces(common, model, corrector, self.statistics)

    def _check_jump_constraints(self, atoms: Atoms) -> None:
        jumping = set(self._jumping.tolist())
        for constraint in atoms.constraints:
            indices = constraint.get_indices() if hasattr(constraint, "get_indices") else jumping
            if jumping & set(np.asarray(list(indices)).tolist()):
                raise ValueError(
                    f"Atoms that jump cannot be constrained, but {type(constraint).__name__} acts on some of them; remove it."
                )

    def _warn_of_resonance(self) -> None:
        h = self.dt / units.fs
        light = (self.atoms.numbers == 1) & (self.masses.ravel() < 2)
        if self.scheme == "impulse" and h > _RESONANCE and light.any():
            warnings.warn(
                f"KStep: a macro-step of {h:g} fs is near the resonance of the plain impulse with bonds to hydrogen (from 2.5 fs "
                "on with true masses). Use a smaller k, hydrogen masses of 3 u, or KStepIntegrator's mollified impulse.",
                stacklevel=3,
            )

    def todict(self) -> dict:
        """What a trajectory file says about the run."""
        friction = self.friction.tolist()
        own = {"scheme": self.scheme, "k": self.k, "base-timestep": self.timestep, "friction": friction}
        return super().todict() | own | {"temperature_K": self.temperature_K}

    def get_time(self) -> float:
        """The time (ASE's unit): h for each macro-step; in 'metropolis' h for each test, kept or not."""
        return self.nsteps * self.dt + self._extra_time

    def get_D(self) -> float:
        """D = U_corrector - U_model (eV) at the current positions; for free after a macro-step."""
        if self.scheme == "jump":
            raise ValueError("The scheme 'jump' has no D: its model is not a potential.")
        f = self._forces
        f.update(self.atoms, with_forces=False)
        return f.corrector_energy - f.model_energy

    def step(self) -> None:
        """Make one macro-step."""
        f = self._forces
        f.update(self.atoms, with_forces=self.scheme != "metropolis")
        start = self.atoms.get_positions(), self.atoms.get_momenta(), f.save(), self._extra_time
        self._mover.start()
        try:
            flipped = False
            if self.scheme == "impulse":
                self._impulse()
            elif self.scheme == "jump":
                self._jump()
            else:
                flipped = not self._propose()
        except BaseException:
            self._restore(start, 1.0)
            self._extra_time = start[3]
            raise
        if flipped:
            self._restore(start, -1.0)
            self.statistics.flips += 1
        self.statistics.macro_steps += 1
        self._publish()

    def _restore(self, start, velocity_scale: float) -> None:
        positions, momenta, forces, _ = start
        self.atoms.set_positions(positions, apply_constraint=False)
        self.atoms.set_momenta(velocity_scale * momenta, apply_constraint=False)
        self._forces.restore(forces)

    def _publish(self) -> None:
        self.hamiltonian.keep(self.atoms, *self._forces.get_true())

    def _refresh_properties(self) -> None:
        # ASE's own asks for forces, which 'metropolis' does not need.
        if self._forces.is_current(self.atoms):
            return
        self._forces.update(self.atoms, with_forces=self.scheme != "metropolis")
        self._publish()

    def _impulse(self) -> None:
        f, h = self._forces, self.dt
        self._mover.kick(f.correction, 0.5 * h)
        self._propagate()
        f.update_corrector(self.atoms)
        self._mover.kick(f.correction, 0.5 * h)
        self._mover.finish(f.corrector_energy)

    def _propose(self) -> bool:
        """The test with extra chances; returns whether a point of the path was accepted."""
        f = self._forces
        uniform = self.rng.random() or np.finfo(float).tiny
        threshold = f.corrector_energy - f.model_energy - np.log(uniform) * units.kB * self.temperature_K
        for chance in range(self.extra_chances):
            self._extra_time += self.dt if chance else 0.0
            self.statistics.tests += 1
            try:
                self._propagate()
                f.update_corrector_energy(self.atoms)
            except NotFiniteError:
                return False
            except SCFError:
                continue
            if f.corrector_energy - f.model_energy < threshold:
                self._mover.finish(f.corrector_energy)
                self.statistics.accepted += 1
                self.statistics.first_accepted += chance == 0
                return True
        return False

    def _jump(self) -> None:
        f, interval = self._forces, 0.5 * (self.k - 1) * self.timestep
        self._move_surroundings(interval)
        forces = None
        if self.jump_model.takes_forces:
            f.update(self.atoms, with_forces=True)
            forces = f.all[self._jumping]
        self._mover.randomize(interval, self._jumping)
        positions = self.atoms.get_positions()
        dx, dv = self.jump_model.compute(positions[self._jumping], self._mover.velocities[self._jumping], forces)
        positions[self._jumping] += dx
        self._mover.velocities[self._jumping] += dv
        self.atoms.set_positions(positions, apply_constraint=False)
        self._mover.check_finite()
        self._mover.randomize(interval, self._jumping)
        f.update_fast(self.atoms)
        self._move_surroundings(interval)
        f.update_corrector(self.atoms)
        self._mover.kick(f.all, 0.5 * self.timestep)
        self._mover.drift(self.timestep)
        f.update_fast(self.atoms)
        f.update_corrector(self.atoms)
        self._mover.kick(f.all, 0.5 * self.timestep)
        self._mover.finish(f.corrector_energy)

    def _move_surroundings(self, interval: float) -> None:
        """All atoms but those that jump, on the common forces; the velocities of the latter receive them too."""
        f = self._forces
        mobile = np.setdiff1d(np.arange(len(self.atoms)), self._jumping)
        if not len(mobile):
            self._mover.kick(f.fast, interval)
            return
        num = self.k // 2
        step = interval / num
        self._mover.kick(f.fast, 0.5 * step)
        for i in range(1, num + 1):
            self._mover.drift(step, mobile)
            f.update_fast(self.atoms)
            self._mover.kick(f.fast, step if i < num else 0.5 * step)

    def _propagate(self) -> None:
        f, dt = self._forces, self.timestep
        self._mover.kick(f.fast, 0.5 * dt)
        for i in range(1, self.k + 1):
            self._mover.drift(dt)
            f.update_fast(self.atoms)
            self._mover.kick(f.fast, dt if i < self.k else 0.5 * dt)

    def save_checkpoint(self, path: str | os.PathLike) -> None:
        """Write all that a restart needs: positions, momenta, cell, time, random numbers, statistics.

        The running simulation then forgets what a restarted one cannot know (xTB's wavefunction), so that both go on
        equally: to the last bit, where the calculators' results depend on nothing but the atoms.
        """
        state = {
            "nsteps": self.nsteps,
            "extra_time": self._extra_time,
            "statistics": dataclasses.asdict(self.statistics),
            "rng": self.rng.bit_generator.state,
        }
        write_checkpoint(path, self.atoms, state)
        self._forget()

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Go on from a checkpoint; the settings (timestep, k, calculators...) are those given to this object.

        Raises
        ------
        ValueError
            If it is of other atoms, another version or another kind of random numbers.
        """
        state = read_checkpoint(path, self.atoms, self.rng.bit_generator.state["bit_generator"])
        self.rng.bit_generator.state = state["rng"]
        self.nsteps, self._extra_time = state["nsteps"], state["extra_time"]
        for name, value in state["statistics"].items():
            setattr(self.statistics, name, value)
        self._forget()

    def _forget(self) -> None:
        self._forces.forget()
        forget(self.hamiltonian)
        forget(self._forces.model)
