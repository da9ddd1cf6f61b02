"""From labelled frames to a model file: trainModel()."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..contract import ModelContract, readContract, saveModel
from ..data import Frames, Region, graph
from ..handedness import findHandedness, findSides
from ..validity import findDistanceRanges
from .fast import fast_model, join_strengths
from .fit import fit_frames, fit_quadratic
from .layout import Layout
from .model import BatchModel, Descriptors
from .result import TrainingResult, errors_by_group, plot_history, time_per_call
from .samples import Samples, drop_bad, groups, split
from .trainer import Trainer

MODEL, CHECKPOINT, REPORT, PLOT = "model.pt", "checkpoint.pt", "training.json", "learning_curve.png"
_CHECKPOINT_VERSION = 3
_SCALE_FRAMES = 2000
# In its first epochs a training is as good as the number of frames that it has seen, whatever the batch, and half the time
# of a step of 64 frames does not depend on their number: so batches are large. Alanine dipeptide after 150 s of one core,
# force RMSE (kJ/mol/nm) and sd(E) (kJ/mol) of held-out frames: 64 frames at the rate 0.003 13.4 and 0.39, 192 at 0.004 11.2
# and 0.30, 512 at 0.006 10.6 and 0.28. The larger of two rates is ahead in short trainings, and its noise is too large in long ones.
_RATE, _RATE_FROM_START = 6e-3, 2e-3
_NARROWEST = 1e-4  # nm; a distance whose range is narrower (a link bond) says nothing about validity


def trainModel(
    data,
    folder: str | os.PathLike,
    *,
    region: Region | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    start: str | os.PathLike | None = None,
    seed: int = 1,
    heldOut=0.1,
    threads: int | None = None,
    progress: bool = True,
    hidden: tuple[int, int] | None = None,
    batch: int = 512,
    rate: float | None = None,
    patience: int | None = None,
    dampingLengths=None,
    checkpointInterval: float = 60.0,
    callback=None,
) -> TrainingResult:
    """Train a potential and write it with its contract.

    A training that was interrupted goes on from its last checkpoint when called again with the same arguments. On one
    thread, with `steps`, it then gives what it would have given without the interruption, to the last bit.

    Parameters
    ----------
    data : Dataset or Frames
        labelled frames; with Frames `region` is needed
    folder : path
        gets model.pt, checkpoint.pt, training.json and learning_curve.png
    region : Region, optional
        what the frames are of; that of the Dataset if not given
    seconds, steps : float, int
        how long to train: by wall time (without the first fit, some 10 s), which sets the learning rate's schedule, or
        by steps, which is reproducible. If neither is given, 600 s
    start : path, optional
        model.pt or checkpoint.pt of a model of the same region and `hidden`, to go on from
    seed : int
        of everything random
    heldOut : float or sequence of int
        share of the frames, by whole trajectories, or the numbers of the trajectories, that errors are measured on; the
        parameters that do best on them are kept
    threads : int, optional
        of torch; all it would use if not given
    progress : bool
        show a progress bar
    hidden : (int, int), optional
        units of the two layers of every network; by default by the number of atoms
    batch, rate : int, float
        frames in a step; largest learning rate, by default 0.006, or 0.002 from `start` on
    patience : int, optional
        end early after so many of the 40 tests without a better one
    dampingLengths : sequence of float, optional
        of phi (nm), for an embedded region; those of the Dataset, or of `start`, if not given
    checkpointInterval : float
        s between checkpoints
    callback : callable, optional
        called with a dict (step, seconds, loss, force, energy, charge, heldOutLoss) after every test

    Raises
    ------
    ValueError
        If arguments or data do not go together, or the folder holds a training of other data or arguments.
    FloatingPointError
        If the loss becomes infinite.
    """
    if seconds is not None and steps is not None:
        raise ValueError("Give either seconds or steps, not both.")
    if seconds is None and steps is None:
        seconds = 600.0
    if (steps if seconds is None else seconds) <= 0:
        raise ValueError(f"A training needs a positive number of steps or seconds, found {steps or seconds}.")
    rate = (_RATE if start is None else _RATE_FROM_START) if rate is None else rate
    region, frames, dropped = _read(data, region)
    lengths = _damping_lengths(region, dampingLengths, data, start)
    layout = Layout(region.species, region.bonds, embedded=region.hardnessElement is not None)
    hidden = tuple(hidden or default_hidden(layout))
    training, held = split(frames, heldOut, seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "heldOut": heldOut if np.isscalar(heldOut) else [int(t) for t in heldOut],
        "hidden": list(hidden),
        "batch": batch,
        "rate": rate,
        "start": None if start is None else hashlib.sha256(Path(start).read_bytes()).hexdigest(),
        "data": _digest(frames),
        "region": region.digest(),
    }
    contract = _contract(region, frames[training], lengths)
    with _threads(threads):
        trainer, offset = _prepare(layout, region, frames, training, held, settings, folder, start)
        # TorchScript reads its source when it compiles: better to fail now than after the training.
        fast_model(trainer.model, trainer.descriptors, offset)
        with _Progress(trainer, progress, callback) as report:
            identity = settings | {"version": _CHECKPOINT_VERSION, "offset": offset}
            trainer.run(folder / CHECKPOINT, checkpointInterval, identity, patience, report)
        trainer.use(trainer.best)
        temporary = folder / (MODEL + ".tmp")
        saveModel(fast_model(trainer.model, trainer.descriptors, offset), temporary, contract)
        os.replace(temporary, folder / MODEL)
        result = TrainingResult(
            path=folder / MODEL,
            errors=errors_by_group(trainer, groups(frames[held])),
            frames={name: int(mask.sum()) for name, mask in groups(frames[training]).items()},
            heldOut=[int(t) for t in np.unique(frames.trajectories[held])],
            dropped=dropped,
            steps=trainer.step,
            seconds=round(trainer.elapsed, 2),
            microsecondsPerCall=round(time_per_call(folder / MODEL, frames.positions[np.flatnonzero(held)[0]]), 1),
            history=trainer.history,
            settings=settings | {"threads": torch.get_num_threads(), "versions": contract.versions},
        )
    result.write(folder / REPORT)
    plot_history(result.history, folder / PLOT)
    return result


def default_hidden(layout) -> tuple[int, int]:
    """Units of the networks: fewer where there are many, so that a call, some 2 us for each large one, stays affordable.

    Alanine dipeptide after 2,500 steps, force RMSE of held-out frames: (96, 64) 18.7, (48, 32) 23.2 kJ/mol/nm.
    """
    return (96, 64) if len(layout.inputs) <= 24 else (64, 48)


def _read(data, region):
    frames = data if isinstance(data, Frames) else data.read()
    region = region or getattr(data, "region", None)
    if region is None:
        raise ValueError("Frames do not say what they are of: give the region too.")
    if frames.positions.shape[1] != region.numAtoms:
        raise ValueError(f"The frames have {frames.positions.shape[1]} atoms, the region has {region.numAtoms}.")
    if region.hardnessElement is None and frames.embedded.any():
        raise ValueError("The region sees no charges (hardnessElement is None), but some of the frames have phi.")
    frames, dropped = drop_bad(frames)
    if not len(frames):
        raise ValueError(f"There are no frames to train on; {dropped} have forces beyond 20,000 kJ/mol/nm.")
    return region, frames, dropped


def _damping_lengths(region, given, data, start):
    if region.hardnessElement is None:
        return None
    if given is None:
        given = getattr(data, "dampingLengths", None)
    if given is None:
        given = getattr(region, "dampingLengths", None)
    if given is None and start is not None and Path(start).name != CHECKPOINT:
        given = readContract(start).dampingLengths
    if given is None or len(given) != region.numAtoms:
        raise ValueError(
            f"The model sees phi: give the damping length of each of the {region.numAtoms} atoms with which it was computed."
        )
    return [float(d) for d in given]


def _digest(frames) -> str:
    digest = hashlib.sha256()
    for name in frames.names():
        digest.update(np.ascontiguousarray(getattr(frames, name)))
    return digest.hexdigest()


def _contract(region, frames, lengths) -> ModelContract:
    orders = graph.permutations(region.species, region.bonds)
    ranges = findDistanceRanges(frames.positions, orders)
    return ModelContract(
        species=region.species,
        bonds=region.bonds,
        handedness=findHandedness(region.species, region.bonds, frames.positions),
        sides=findSides(region.species, region.bonds, frames.positions),
        inputs=("positions",) if lengths is None else ("positions", "phi"),
        outputs=("energy", "forces") if lengths is None else ("energy", "forces", "charges"),
        dampingLengths=lengths,
        method=region.method,
        charge=region.charge,
        multiplicity=region.multiplicity,
        hardnessElement=region.hardnessElement,
        trainingTemperatures=sorted(set(frames.temperatures.tolist())),
        distanceRanges=[r for r in ranges if r[3] - r[2] > _NARROWEST],
        versions={name: importlib.metadata.version(name) for name in ("openmm", "openmmkstep", "torch")},
    )


def _prepare(layout, region, frames, training, held, settings, folder, start):
    """The Trainer at its start or where its checkpoint left it, and the offset of the energy."""
    species, bonds, seed = region.species, region.bonds, settings["seed"]
    descriptors = Descriptors(layout)
    model = BatchModel(layout, settings["hidden"], region.charge, seed)
    state = None
    if (folder / CHECKPOINT).exists():
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        found = {name: state["identity"].get(name) for name in settings}
        expected = json.loads(json.dumps(settings))
        if found != expected or state["identity"].get("version") != _CHECKPOINT_VERSION:
            other = [name for name in settings if found[name] != expected[name]]
            raise ValueError(
                f"The folder {folder} holds a training with another {' and '.join(other) or 'version'}: choose another "
                f"folder, or delete {CHECKPOINT} in it."
            )
        offset = state["identity"]["offset"]
        descriptors.repulsion.strengths = state["strengths"]
    elif start is not None:
        offset = _load_start(model, descriptors, Path(start))
        descriptors.repulsion.weaken(frames.positions[training])
    else:
        offset = float(frames.energies[training].mean())
        descriptors.repulsion.weaken(frames.positions[training])
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(np.flatnonzero(training))[:_SCALE_FRAMES]
        samples = Samples.make(frames[chosen], descriptors, offset)
        samples = samples.permuted(graph.random_permutations(species, bonds, len(samples), generator))
        descriptors.fit_scale(samples.x, samples.phi)
        offset += fit_quadratic(model, descriptors, samples[: fit_frames(layout)])
    trainer = Trainer(
        model,
        descriptors,
        Samples.make(frames[training], descriptors, offset),
        Samples.make(frames[held], descriptors, offset),
        graph.permutation_factors(species, bonds),
        **{name: settings[name] for name in ("steps", "seconds", "batch", "rate", "seed")},
    )
    if state is not None:
        trainer.restore(state)
    return trainer, offset


def _load_start(model, descriptors, path) -> float:
    """Take scale and parameters from a model file or a checkpoint; return the offset."""
    names = [name for name, _ in model.named_parameters()]
    if path.name == CHECKPOINT:
        state = torch.load(path, weights_only=True)
        values, offset = dict(zip(names, state["best"], strict=True)), state["identity"]["offset"]
        mean, scale, strengths = state["mean"], state["scale"], state["strengths"]
    else:
        saved = dict(torch.jit.load(str(path)).named_buffers())
        saved = {name.removeprefix("inner."): value for name, value in saved.items()}
        missing = {"half_matrix", "linear", "w1", "scale", "shift", "offset", "index", "root_strengths"} - set(saved)
        if missing:
            raise ValueError(
                f"{path} is not a model that trainModel() of this version made; it has no {sorted(missing)}. Train without start."
            )
        values = {name: saved[name] for name in names if name != "matrix"} | {"matrix": saved["half_matrix"]}
        offset, scale = float(saved["offset"]), saved["scale"]
        mean = -saved["shift"] / scale
        if not torch.equal(saved["index"], model.flat):
            raise ValueError(f"{path} is of another region, or made by another version: its descriptors differ.")
        strengths = join_strengths(model.layout, saved["root_strengths"], saved["strengths"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if values[name].shape != parameter.shape:
                raise ValueError(
                    f"{path} has {name} of the shape {tuple(values[name].shape)}, expected {tuple(parameter.shape)}: "
                    "train with the same region and the same hidden."
                )
            parameter.copy_(values[name])
    descriptors.mean, descriptors.scale = mean.clone(), scale.clone()
    descriptors.repulsion.strengths = strengths.clone()
    return offset


@contextmanager
def _threads(count):
    old = torch.get_num_threads()
    torch.set_num_threads(count or old)
    try:
        yield
    finally:
        torch.set_num_threads(old)


class _Progress:
    """The progress bar, and the user's callback."""

    def __init__(self, trainer, show, callback):
        self.callback, self.bar = callback, None
        self.trainer, self.show = trainer, show

    def __enter__(self):
        if self.show:
            from tqdm import tqdm

            total = self.trainer.steps or round(self.trainer.seconds)
            self.bar = tqdm(total=total, initial=self._done(), unit="step" if self.trainer.steps else "s", desc="train")
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def _done(self):
        return self.trainer.step if self.trainer.steps else round(self.trainer.elapsed)

    def __call__(self, trainer, record):
        if self.bar is not None:
            self.bar.update(self._done() - self.bar.n)
            if record is not None:
                self.bar.set_postfix_str(
                    f"force RMSE {record['force']:.2f} kJ/mol/nm, sd(E) {record['energy']:.3f} kJ/mol"
                )
        if record is not None and self.callback is not None:
            self.callback(dict(record))
