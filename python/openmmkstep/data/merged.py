"""Several datasets as one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from .dataset import Dataset
from .frames import Frames

TRAJECTORIES = 100_000
"""Trajectory t of the i-th dataset is number i * TRAJECTORIES + t of all."""


class MergedDataset:
    """Datasets of one region, read one after the other; trajectories of each get numbers of their own.

    Parameters
    ----------
    datasets : sequence of Dataset, str or path
        at least one

    Attributes
    ----------
    region : Region
    dampingLengths : list of float or None
        with which phi was computed (nm)

    Raises
    ------
    ValueError
        If there are none, or their regions or damping lengths differ.
    """

    def __init__(self, datasets: Sequence[Dataset | str | os.PathLike]):
        self.datasets = [d if isinstance(d, Dataset) else Dataset(d) for d in datasets]
        if not self.datasets:
            raise ValueError("At least one dataset is needed.")
        first = self.datasets[0]
        self.region, self.dampingLengths = first.region, first.dampingLengths
        for other in self.datasets[1:]:
            if other.region.digest() != self.region.digest():
                raise ValueError(
                    f"The datasets '{first.folder}' and '{other.folder}' are of different regions (atoms, bonds, charge or "
                    "method) and cannot be used together."
                )
            if other.dampingLengths != self.dampingLengths:
                raise ValueError(
                    f"phi was computed with different damping lengths in '{first.folder}' and '{other.folder}'; sample anew "
                    "with one version of openmmkstep."
                )

    def read(self) -> Frames:
        """All frames, with numbers of trajectories that are theirs alone.

        Raises
        ------
        ValueError
            If a block is corrupt; see Dataset.read().
        """
        parts = []
        for i, dataset in enumerate(self.datasets):
            frames = dataset.read()
            if len(frames) and np.max(frames.trajectories) >= TRAJECTORIES:
                raise ValueError(f"Trajectory numbers in '{dataset.folder}' reach {TRAJECTORIES}, which is too many.")
            parts.append(dataclasses.replace(frames, trajectories=frames.trajectories + i * TRAJECTORIES))
        return Frames.concatenate(parts)

    def __len__(self) -> int:
        return sum(map(len, self.datasets))
