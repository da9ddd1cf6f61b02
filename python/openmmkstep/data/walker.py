"""One walker of sampleFrames(): dynamics, labels, faults, and what it takes to go on after being killed."""

from __future__ import annotations

import collections
import io
import json
from collections.abc import Callable

import numpy as np
import openmm

from ..forces import QMRegionState
from .bias import CollectiveVariable, Metadynamics, UmbrellaWindows
from .dataset import Dataset, write_atomically
from .driver import TIME_STEP, Driver, add_sweep, make_system, set_sweep
from .labels import Labeller, make_frames
from .plan import BAD_STATE, Plan, lock_walker, state_file
from .region import Region, findXtbForce

TURN = 10.0
"""ps for a full turn of a swept torsion."""
FAILURE = 40.0  # kJ/mol; a D so far from its median is a fault of the model
HIGHEST = 600.0  # kJ/mol above the median energy: frames beyond are of no use
FRUITLESS = 20  # faults in a row without a frame between them
_TRAIL_STEPS, _TRAIL = 5, 20  # steps between the snapshots that are kept, and their number
_HISTORY = 500  # energies and differences that medians are taken of
_GOOD, _GOOD_INTERVAL = 8, 10  # snapshots to return to, and frames between them


def run_walker(plan: Plan, folder: str, report: Callable[[int], None] | None = None) -> None:
    """Run a walker to its end, from where it was if it was killed.

    Parameters
    ----------
    plan : Plan
    folder : str
        of the dataset
    report : callable, optional
        is given the number of frames after each block
    """
    dataset = Dataset(folder)
    with lock_walker(dataset.folder, plan.number):
        Walker(plan, dataset).run(report or (lambda frames: None))


class Walker:
    """See run_walker()."""

    def __init__(self, plan: Plan, dataset: Dataset):
        self.plan, self.dataset = plan, dataset
        self.region: Region = dataset.region
        original = openmm.XmlSerializer.deserialize(plan.system)
        self._xtb = findXtbForce(original)
        self._original = original  # keeps the force alive
        system = make_system(original, self.region, plan.model, plan.order)
        self._bias = None
        if plan.sweep:
            add_sweep(system, plan.sweep)
        if plan.bias is not None:
            system.addForce(plan.bias.makeForce(system.usesPeriodicBoundaryConditions()))
            self._bias = system.getForce(system.getNumForces() - 1)
        seeds = np.random.SeedSequence([plan.seed, plan.number])
        self.rng = np.random.default_rng(seeds)
        seed = int(seeds.generate_state(1)[0] >> 2) + 1
        self.driver = Driver(system, self.region, plan.temperature, seed, plan.platform)
        self._force = self.driver.force
        self.frames = self.blocks = self.faults = self._fruitless = 0
        self._good: list[np.ndarray] = []
        self._energies: list[float] = []
        self._differences: list[float] = []
        self._trail: collections.deque[np.ndarray] = collections.deque(maxlen=_TRAIL)
        self._swept, self._offset = 0, 0.0  # steps of the sweep; angle at which it would have begun at step 0
        self._hills = np.zeros(1)

    def run(self, report: Callable[[int], None]) -> None:
        """Go on until all frames are there."""
        if not self._load():
            self._begin()
        report(self.frames)
        while self.frames < self.plan.frames:
            self._make_block()
            report(self.frames)

    # Dynamics.

    def _seed(self) -> int:
        return int(self.rng.integers(1, 2**31 - 2))

    def _begin(self) -> None:
        if isinstance(self.plan.bias, Metadynamics):
            self._hills = np.zeros(len(self.plan.bias.grid))
        self.driver.start(self.plan.positions, self.plan.box, self._seed())
        self._good = [self.plan.positions]
        self._start_sweep()
        in_window = isinstance(self.plan.bias, UmbrellaWindows)
        while True:
            try:
                self.driver.quench(self._seed())
                self._good = [self.driver.positions()]
                if in_window:
                    self._pull()
                    # From nowhere else may a walker of this window go on after a fault.
                    self._good = [self.driver.positions()]
                self.driver.integrator.step(self.plan.equilibration)
                self._good.append(self.driver.positions())
                return
            except openmm.OpenMMException:
                if self.plan.model is None:
                    raise
                pulled = not in_window or self._is_pulled()
                self._return()
                if pulled:
                    return

    def _pull(self) -> None:
        """Bring the collective variable to the centre of the window."""
        bias = self.plan.bias
        target, here = bias.centres[self.plan.window], self._cv(self.driver.positions())
        delta = bias.cv.difference(target, here)
        for part in np.linspace(0.05, 1.0, 20):
            self.driver.context.setParameter("umbrellaCentre", here + part * delta)
            self.driver.integrator.step(max(1, self.plan.equilibration // 20))

    def _is_pulled(self) -> bool:
        return self.driver.context.getParameter("umbrellaCentre") == self.plan.bias.centres[self.plan.window]

    def _cv(self, positions: np.ndarray) -> float:
        return self.plan.bias.cv.evaluate(positions, self.driver.box())

    def _start_sweep(self) -> None:
        """Let the bias on the torsion that is dragged begin where the torsion is."""
        if self.plan.sweep:
            torsion, fraction = self._sweep()
            cv = CollectiveVariable("torsion", self.plan.sweep[torsion])
            self._offset = cv.evaluate(self.driver.positions(), self.driver.box()) - 2 * np.pi * fraction
            set_sweep(self.driver.context, torsion, self._offset + 2 * np.pi * fraction)

    def _sweep(self) -> tuple[int, float]:
        """Which torsion is dragged, and the part of the turn that is done."""
        turns = self._swept * TIME_STEP / TURN
        return int(turns) % len(self.plan.sweep), turns - int(turns)

    def _move_sweep(self) -> None:
        if not self.plan.sweep:
            return
        before, _ = self._sweep()
        self._swept += self.plan.interval
        torsion, fraction = self._sweep()
        if torsion != before:
            self._start_sweep()
        else:
            set_sweep(self.driver.context, torsion, self._offset + 2 * np.pi * fraction)

    def _move(self) -> bool:
        """Dynamics up to the next frame; False if the model failed on the way."""
        self._move_sweep()
        if self.plan.model is None:
            self.driver.integrator.step(self.plan.interval)
            return True
        left = self.plan.interval
        while left > 0:
            steps = min(_TRAIL_STEPS, left)
            self.driver.integrator.step(steps)
            left -= steps
            if left:
                self._trail.append(self.driver.positions())
            if self._force.isOutsideTrainingRegion(self.driver.context):
                if not left:
                    self._trail.append(self.driver.positions())
                return False
        return bool(np.isfinite(self.driver.positions()).all())

    def _return(self) -> None:
        """Go on from an earlier good frame, with new velocities."""
        self.faults += 1
        self._fruitless += 1
        if self._fruitless > FRUITLESS:
            what = "the model" if self.plan.model else "the dynamics"
            advice = ", or sample by xTB (model=None) and train the model further first." if self.plan.model else "."
            raise RuntimeError(
                f"Walker {self.plan.number}: {what} failed {FRUITLESS} times in a row before the next frame. Start from a "
                f"relaxed structure{advice}"
            )
        # Not from the last one, which may lead into the same fault.
        choices = self._good[:-1] or self._good
        self.driver.start(choices[self.rng.integers(len(choices))], self.driver.box(), self._seed())
        self._trail.clear()
        self._start_sweep()

    # Labels.

    def _make_labellers(self) -> None:
        """New for each block: what an SCF starts from must not depend on earlier blocks."""
        plan = self.plan
        self._gas = Labeller.gas(self._xtb, self.region) if plan.gas > 0 else None
        self._labeller = None
        if plan.model is not None:
            self._labeller = Labeller(self._xtb, self.driver.system.getNumParticles(), plan.dampingLengths)
        self._rows: list[tuple[QMRegionState, float]] = []

    def _label(self, positions: np.ndarray) -> tuple[QMRegionState, float]:
        """The QM region at the driver's current positions, and D = E_xTB - E_model, 0 without a model."""
        if self._labeller is None:
            return self._force.computeQMRegion(self.driver.context, self.plan.dampingLengths), 0.0
        # The subtractive term is the same in both and cancels.
        state, energy = self._labeller.label(positions, self.driver.box())
        return state, energy - self.driver.region_energy()

    def _record(self, state: QMRegionState, positions: np.ndarray) -> None:
        """Keep a labelled frame, and every so often its geometry in the gas phase."""
        cv = self._cv(positions) if self.plan.bias is not None else np.nan
        self._rows.append((state, cv))
        self.frames += 1
        self._fruitless = 0
        gas = self.plan.gas if state.potentials.any() else 0.0
        if int(self.frames * gas) > int((self.frames - 1) * gas):
            try:
                self._rows.append((self._gas.label(state.positions)[0], cv))
            except openmm.OpenMMException:
                pass  # no charges hold these charges together: an ion pair, say; the embedded frame is kept
        self._energies = [*self._energies, state.energy][-_HISTORY:]

    def _advance(self) -> None:
        """One frame, or the frames that led into a fault of the model."""
        try:
            if not self._move():
                self._fault()
                return
            positions = self.driver.positions()
            state, difference = self._label(positions)
        except openmm.OpenMMException:
            self._fault()
            return
        if self.plan.model is not None and state.energy > self._highest():
            self._fault()
            return
        self._record(state, positions)
        if self.plan.model is not None:
            self._differences = [*self._differences, difference][-_HISTORY:]
            if abs(difference - np.median(self._differences)) > FAILURE or not np.isfinite(difference):
                self._fault()
                return
        if self.frames % _GOOD_INTERVAL == 0:
            self._good = [*self._good, positions][-_GOOD:]
        bias = self.plan.bias
        if (
            isinstance(bias, Metadynamics)
            and self.frames % max(1, round(bias.period / TIME_STEP / self.plan.interval)) == 0
        ):
            self._hills = bias.addHill(self._hills, self._cv(positions), self.plan.temperature)
            bias.update(self._bias, self.driver.context, self._hills)

    def _fault(self) -> None:
        """Label the snapshots that led here until they become absurd, and return to an earlier frame."""
        trail = list(self._trail) if self._labeller is not None else []
        for positions in trail:
            if not np.isfinite(positions).all():
                break
            try:
                state, _ = self._labeller.label(positions, self.driver.box())
            except openmm.OpenMMException:  # the SCF does not converge there
                break
            if state.energy > self._highest():
                break
            self._record(state, positions)
        self._return()

    def _highest(self) -> float:
        """The energy (kJ/mol) beyond which a frame is of no use."""
        return np.median(self._energies) + HIGHEST if self._energies else np.inf

    # Blocks and restarts.

    def _make_block(self) -> None:
        self._make_labellers()
        first = self.frames
        while self.frames < min(first + self.plan.block, self.plan.frames):
            self._advance()
        frames = make_frames([state for state, _ in self._rows], self.plan.temperature, self.plan.number)
        columns = {}
        if self.plan.bias is not None:
            columns = {"cv": [cv for _, cv in self._rows], "window": [self.plan.window] * len(self._rows)}
        self.dataset.append(frames, self.plan.number, self.blocks, columns)
        self.blocks += 1
        self._save()

    def _save(self) -> None:
        # Writing a checkpoint makes xTB forget its wavefunction, so both go on alike: this run and a restored one.
        checkpoint = np.frombuffer(self.driver.context.createCheckpoint(), dtype=np.uint8)
        numbers = {name: getattr(self, name) for name in ("frames", "blocks", "faults", *_PRIVATE)}
        numbers["rng"] = self.rng.bit_generator.state
        buffer = io.BytesIO()
        np.savez(
            buffer,
            checkpoint=checkpoint,
            good=np.array(self._good),
            trail=np.array(self._trail),
            hills=self._hills,
            numbers=np.array(json.dumps(numbers)),
        )
        path = state_file(self.dataset.folder, self.plan.number)
        write_atomically(path, buffer.getvalue())

    def _load(self) -> bool:
        """Take up the state that the last whole block left; False if there is none."""
        path = state_file(self.dataset.folder, self.plan.number)
        if not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as file:
                numbers = json.loads(str(file["numbers"]))
                checkpoint = file["checkpoint"].tobytes()
                self._good, self._hills = list(file["good"]), file["hills"]
                self._trail.extend(file["trail"])
            self.rng.bit_generator.state = numbers.pop("rng")
            for name, value in numbers.items():
                setattr(self, name, value)
        except BAD_STATE as e:
            raise ValueError(
                f"The state '{path}' of a walker is damaged ({e}). Delete it and the blocks block-{self.plan.number:04d}-*.h5: "
                "this walker begins anew; the others are not affected."
            ) from e
        if self.frames >= self.plan.frames:
            return True
        self.driver.start(self.plan.positions, self.plan.box, 1)
        try:
            self.driver.context.loadCheckpoint(checkpoint)
        except openmm.OpenMMException as e:
            raise ValueError(
                f"The checkpoint in '{path}' does not fit ({e}): it was written on another platform or by another version "
                f"of OpenMM. Go on with that one, or delete this file and the blocks block-{self.plan.number:04d}-*.h5."
            ) from e
        if isinstance(self.plan.bias, Metadynamics):
            self.plan.bias.update(self._bias, self.driver.context, self._hills)
        return True


_PRIVATE = ("_fruitless", "_energies", "_differences", "_swept", "_offset")
