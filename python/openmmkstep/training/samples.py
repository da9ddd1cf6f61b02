"""Labelled frames as tensors for training: which are good, which are held out, and in which groups errors are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..data import Frames

LARGEST_FORCE = 2e4  # kJ/mol/nm; beyond, atoms overlap and the label teaches nothing


def drop_bad(frames: Frames) -> tuple[Frames, int]:
    """Frames whose forces are finite and below LARGEST_FORCE, and how many were not."""
    largest = np.abs(frames.forces).max(axis=(1, 2), initial=0)
    good = np.isfinite(frames.energies) & (largest < LARGEST_FORCE)
    return frames[good], int((~good).sum())


def split(frames: Frames, held_out, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the frames to train on and of those held out.

    Parameters
    ----------
    frames : Frames
    held_out : float or sequence of int
        the share of frames to hold out by whole trajectories, so that no structure is held out in one phase and trained on in
        the other: at least one of the embedded and one of the gas-phase ones (the last frames of the only one where there is
        but one). Or the numbers of those trajectories
    seed : int
        of the choice

    Raises
    ------
    ValueError
        If nothing is left to train on or nothing is held out.
    """
    held = np.zeros(len(frames), dtype=bool)
    if np.ndim(held_out) > 0:
        held = np.isin(frames.trajectories, np.asarray(held_out, dtype=int))
    elif held_out > 0:
        held = _choose(frames, held_out, np.random.default_rng(seed))
    if not held.any() or held.all():
        raise ValueError(
            f"Of {len(frames)} frames {int(held.sum())} would be held out for testing and the rest used for training; "
            f"give heldOut as a share (0.1), or as numbers of some of the trajectories {np.unique(frames.trajectories).tolist()}."
        )
    return ~held, held


def _choose(frames: Frames, share: float, generator: np.random.Generator) -> np.ndarray:
    held = np.zeros(len(frames), dtype=bool)
    phases = [phase for phase in (frames.embedded, ~frames.embedded) if phase.any()]
    for phase in phases:
        wanted = share * phase.sum()
        for number in generator.permutation(np.unique(frames.trajectories[phase])):
            if (held & phase).sum() >= wanted:
                break
            more = held | (frames.trajectories == number)
            if all((other & ~more).any() for other in phases):
                held = more
        if not (held & phase).any():
            held[np.flatnonzero(phase)[-max(1, round(wanted)) :]] = True
    return held


@dataclass
class Samples:
    """Frames as tensors: positions, forces and gradients as (frames, 3, n) around the centroid, energies from an offset."""

    x: torch.Tensor
    energy: torch.Tensor
    force: torch.Tensor
    charge: torch.Tensor
    phi: torch.Tensor
    phi_gradient: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def make(cls, frames: Frames, descriptors, offset: float) -> Samples:
        """Convert frames, without the fixed repulsion.

        Those of higher temperature than the lowest one weigh less, by the square of the ratio.
        """

        def tensor(array):
            return torch.from_numpy(np.ascontiguousarray(array)).to(descriptors.dtype)

        energies, forces = (v.numpy() for v in descriptors.repulsion(frames.positions))
        return cls(
            descriptors.centred(frames.positions),
            tensor(frames.energies - energies - offset),
            tensor((frames.forces - forces).transpose(0, 2, 1)),
            tensor(frames.charges),
            tensor(frames.potentials),
            tensor(frames.potentialGradients.transpose(0, 2, 1)),
            tensor((frames.temperatures.min(initial=np.inf) / frames.temperatures) ** 2),
        )

    def __len__(self):
        return len(self.energy)

    def __getitem__(self, index) -> Samples:
        return Samples(**{name: value[index] for name, value in vars(self).items()})

    def permuted(self, orders) -> Samples:
        """Every frame with its atoms in its own order, an array of int of shape (frames, n)."""
        orders = torch.as_tensor(orders)
        wide = orders[:, None].expand(-1, 3, -1)
        result = dict(vars(self))
        for name in ("x", "force", "phi_gradient"):
            result[name] = result[name].gather(2, wide)
        for name in ("charge", "phi"):
            result[name] = result[name].gather(1, orders)
        return Samples(**result)


def groups(frames: Frames) -> dict[str, np.ndarray]:
    """Masks of the frames by phase and temperature, by name ('embedded 300 K')."""
    result = {}
    for phase, of_phase in (("embedded", frames.embedded), ("gas", ~frames.embedded)):
        for temperature in np.unique(frames.temperatures[of_phase]):
            result[f"{phase} {temperature:.0f} K"] = of_phase & (frames.temperatures == temperature)
    return result
