"""What a walker of sampleFrames() is to do, and the files that it goes on from."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bias import Bias

BAD_STATE = (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, json.JSONDecodeError, EOFError)
_PATIENCE = 60.0  # s; dask's workers outlive a killed client by half of that


@dataclass(frozen=True)
class Plan:
    """What a walker does; it depends on nothing else.

    Attributes
    ----------
    number : int
        of the trajectory
    seed : int
    system : str
        XML of the user's System
    positions : array of shape (particles, 3)
        nm
    box : array of shape (3, 3) or None
        nm
    dampingLengths : tuple of float
        nm
    temperature : float
        K
    frames : int
        to record, gas-phase ones and those that led to a fault of the model not counted
    interval : int
        steps between frames
    equilibration : int
        steps before the first one
    gas : float
        share of the frames that are also labelled without surroundings
    block : int
        frames a block
    model : str or None
        file of the model that drives
    order : tuple of int
        atom i of the model is atom order[i] of the region
    bias : UmbrellaWindows, Metadynamics or None
    window : int
        of the bias
    sweep : tuple of torsions, each 4 particles
        to drag one after the other
    platform : str
    """

    number: int
    seed: int
    system: str
    positions: np.ndarray
    box: np.ndarray | None
    dampingLengths: tuple[float, ...]
    temperature: float
    frames: int
    interval: int
    equilibration: int
    gas: float
    block: int
    model: str | None = None
    order: tuple[int, ...] = ()
    bias: Bias | None = None
    window: int = 0
    sweep: tuple[tuple[int, int, int, int], ...] = ()
    platform: str = "CPU"


def state_file(folder: Path, number: int) -> Path:
    """Where a walker keeps what it goes on from."""
    return Path(folder) / "walkers" / f"walker-{number:04d}.npz"


def read_progress(folder: Path, number: int) -> tuple[int, int]:
    """How many frames a walker has written, and how many faults it met; 0 before its first block."""
    try:
        with np.load(state_file(folder, number), allow_pickle=False) as file:
            numbers = json.loads(str(file["numbers"]))
        return numbers["frames"], numbers["faults"]
    except BAD_STATE:
        return 0, 0


@contextlib.contextmanager
def lock_walker(folder: Path, number: int) -> Iterator[None]:
    """Keep other processes from running the same walker; the lock goes with the process.

    Raises
    ------
    RuntimeError
        If another one has it for a minute.
    """
    path = state_file(folder, number).with_suffix(".lock")
    path.parent.mkdir(exist_ok=True)
    limit = time.monotonic() + _PATIENCE
    with open(path, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if time.monotonic() > limit:
                    raise RuntimeError(
                        f"Another process is running walker {number} of '{folder}'. Wait until it is done, or end it."
                    ) from e
                time.sleep(0.2)
        yield
