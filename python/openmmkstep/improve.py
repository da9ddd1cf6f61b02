"""improveModel: active learning. Sample with the model, label, train again, compare; nothing is replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from openmm import app

from .data import Dataset, Frames, MergedDataset, sampleFrames
from .data.bias import Bias
from .data.merged import TRAJECTORIES
from .data.starts import findStarts
from .training import TrainingResult, trainModel
from .validation import ErrorReport, measureFrameErrors, prepareCheck

ACTIVE, TRAINING, COMPARISON = "active.kstep", "training", "improve.json"
_COMPARED = 1000
"""Frames of each kind that both models are compared on."""


@dataclass
class Improvement:
    """What improveModel() found.

    Attributes
    ----------
    path : Path
        the new model
    old : Path
        the one that was to be improved, untouched
    errors : dict of str to (ErrorReport, ErrorReport)
        errors of the old and the new model on held-out frames: 'all', 'earlier data', 'new data'
    training : TrainingResult
    newFrames : int
        frames that were added
    """

    path: Path
    old: Path
    errors: dict[str, tuple[ErrorReport, ErrorReport]]
    training: TrainingResult
    newFrames: int

    @property
    def isBetter(self) -> bool:
        """Whether forces and energies are better on all held-out frames."""
        old, new = self.errors["all"]
        return new.force.value < old.force.value and new.energySd.value < old.energySd.value

    def __str__(self) -> str:
        lines = [
            f"{self.newFrames} new frames; held-out frames, old -> new model:",
            f"{'':16s}{'frames':>8s}{'force RMSE (kJ/mol/nm)':>26s}{'sd(E) (kJ/mol)':>20s}",
        ]
        for name, (old, new) in self.errors.items():
            lines.append(
                f"{name:16s}{old.frames:8d}{old.force.value:16.2f} -> {new.force.value:6.2f}"
                f"{old.energySd.value:12.3f} -> {new.energySd.value:.3f}"
            )
        verdict = "is better" if self.isBetter else "is NOT better in both; keep the old one, or train longer"
        lines.append(f"The new model, {self.path}, {verdict}. {self.old} is untouched.")
        return "\n".join(lines)


def improveModel(
    system: openmm.System,
    positions,
    model: str | os.PathLike,
    data: Sequence[Dataset | str | os.PathLike],
    folder: str | os.PathLike,
    *,
    topology: app.Topology | None = None,
    kept: Sequence[Dataset | str | os.PathLike] = (),
    picoseconds=10,
    bias: Bias | None = None,
    fromEnds: bool = True,
    sample: dict | None = None,
    train: dict | None = None,
    seed: int = 1,
    cluster=None,
    progress: bool = True,
) -> Improvement:
    """Make a better model out of one that exists.

    Walkers move on the model, xTB labels their frames and what leads into the model's faults (sampleFrames()); with the
    frames that FrameKeeper kept in production runs they join the earlier data; the training goes on from the old model;
    both models are compared on frames that neither was trained on. Called again with the same arguments after an
    interruption it goes on.

    Parameters
    ----------
    system : System
        with an XtbForce and without a model, as createQMMMSystem() makes
    positions : array or Quantity
        as of sampleFrames()
    model : str or path
        the model file. If training.json of its training lies beside it, what was held out then is held out again
    data : sequence of Dataset, str or path
        what the model was trained on
    folder : str or path
        for the new data (active.kstep), the training (training/model.pt) and improve.json
    topology : Topology, optional
        says what is bonded
    kept : sequence of Dataset, str or path
        what FrameKeeper kept
    picoseconds : float or Quantity
        length of each walker's run; 0: no sampling, only ``kept``
    bias : UmbrellaWindows or Metadynamics, optional
        of the walkers, as of sampleFrames(): active learning in every window of a reaction. Two temperatures or more put
        several walkers into each window, so that what is held out is not all that there is of one
    fromEnds : bool
        whether the walkers begin where those of the last of ``data`` ended (with whole bonds), which shows more of a flexible
        molecule than to begin at ``positions`` each time. They begin there in any case with a bias, or where no walkers' states
        lie beside the data
    sample, train : dict, optional
        more arguments for sampleFrames() and trainModel()
    seed : int
    cluster : None, str or Client
        as of sampleFrames()
    progress : bool

    Returns
    -------
    Improvement

    Raises
    ------
    ValueError
        If the data are of another region, or there are no new frames.
    """
    folder, model = Path(folder), Path(model)
    folder.mkdir(parents=True, exist_ok=True)
    new = list(kept)
    if picoseconds:
        arguments = {"picoseconds": picoseconds, "bias": bias, "seed": seed, "cluster": cluster, "progress": progress}
        arguments |= sample or {}
        starts = None
        if fromEnds and arguments["bias"] is None:
            starts = findStarts(data, system.getNumParticles(), seed)
        starts = positions if starts is None else starts
        new.append(sampleFrames(system, starts, folder / ACTIVE, topology=topology, model=model, **arguments))
    merged = MergedDataset([*data, *new])
    frames = merged.read()
    isNew = frames.trajectories // TRAJECTORIES >= len(data)
    if not isNew.any():
        raise ValueError("There are no new frames: sample some (picoseconds > 0), or give what FrameKeeper kept.")
    heldOut = _held_out(frames, isNew, model, seed)
    training = trainModel(
        frames,
        folder / TRAINING,
        region=merged.region,
        dampingLengths=merged.dampingLengths,
        start=model,
        heldOut=heldOut,
        **{"seed": seed, "progress": progress} | (train or {}),
    )
    subjects = [prepareCheck(system, positions, m, topology) for m in (model, training.path)]
    held = np.isin(frames.trajectories, heldOut)
    errors = {
        name: _compare(subjects, frames, np.flatnonzero(mask), seed)
        for name, mask in (("all", held), ("earlier data", held & ~isNew), ("new data", held & isNew))
        if mask.sum() > 1
    }
    result = Improvement(training.path, model, errors, training, int(isNew.sum()))
    summary = {
        name: [{"force": e.force.value, "energySd": e.energySd.value, "frames": e.frames} for e in pair]
        for name, pair in errors.items()
    }
    (folder / COMPARISON).write_text(
        json.dumps(
            {"old": str(model), "new": str(training.path), "better": result.isBetter, "errors": summary}, indent=1
        )
    )
    return result


def _held_out(frames: Frames, isNew: np.ndarray, model: Path, seed: int) -> list[int]:
    """Trajectories to hold out: those that the old model's training held out, and a tenth of the new ones, at least one."""
    report = model.with_name("training.json")
    earlier = set(json.loads(report.read_text())["heldOut"]) if report.is_file() else set()
    earlier &= set(frames.trajectories[~isNew].tolist())
    fresh = np.unique(frames.trajectories[isNew])
    count = max(1, round(0.1 * len(fresh)))
    if len(fresh) == 1 and not earlier:
        raise ValueError(
            "All new frames are of one trajectory, and the old model's training held out none: sample more."
        )
    chosen = np.random.default_rng(seed).choice(fresh, count if len(fresh) > 1 else 0, replace=False)
    return sorted(earlier | set(chosen.tolist()))


def _compare(subjects, frames, index, seed) -> tuple[ErrorReport, ErrorReport]:
    """Errors of both models on the same frames, a part of them if there are many."""
    if len(index) > _COMPARED:
        index = np.sort(np.random.default_rng(seed).choice(index, _COMPARED, replace=False))
    old, new = (measureFrameErrors(subject, frames[index], "held-out frames") for subject in subjects)
    return old, new
