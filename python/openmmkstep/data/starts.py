"""Where the walkers of an earlier sampling were last, for others to go on from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..covalent import findBrokenBonds
from .dataset import Dataset
from .plan import BAD_STATE, state_file
from .region import Region


def findStarts(data: Sequence[Dataset | str | os.PathLike], particles: int, seed: int) -> np.ndarray | None:
    """Find structures that are far from each other: where the walkers of the last of several samplings ended.

    Walkers that all begin at one structure see little of a flexible molecule within their picoseconds, and a model fails
    where none of them has been.

    Parameters
    ----------
    data : sequence of Dataset, str or path
        samplings in their order; datasets that hold no walkers of this System are passed over
    particles : int
        number of particles of the System
    seed : int
        of the order, which decides the walker that goes on from each

    Returns
    -------
    array of shape (starts, particles, 3), or None
        nm; for each walker the last structure it kept in which all bonds of the QM region are whole. None if there is none
    """
    for dataset in reversed(list(data)):
        dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        paths = [state_file(dataset.folder, number) for number in range(dataset.nextWalker)]
        ends = [end for path in paths if (end := _whole_end(path, dataset.region, particles)) is not None]
        if ends:
            return np.array(ends)[np.random.default_rng(seed).permutation(len(ends))]
    return None


def _whole_end(path: Path, region: Region, particles: int) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = file["good"]
    except BAD_STATE:
        return None
    if kept.ndim != 3 or kept.shape[1:] != (particles, 3):
        return None
    n = len(region.particles)
    bonds = [bond for bond in region.bonds if max(bond) < n]
    for positions in kept[::-1]:
        if not findBrokenBonds(region.species, bonds, positions[None, list(region.particles)]):
            return positions
    return None
