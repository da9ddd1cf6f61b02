"""Labelled frames: what a potential is trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass
class Frames:
    """Structures of one molecule with what the quantum method says about them.

    The energy is that of the QM region in the field of the charges around it, E(x, {Q_j}), without the subtractive
    fixed-charge term. To a model these charges are the potential phi_a at its atoms. Its forces at fixed charges are
    F_a = -dE/dx_a|phi - q_a dphi_a/dx_a with q_a = dE/dphi_a. Frames in the gas phase have phi = 0.

    Attributes
    ----------
    positions : array of shape (frames, atoms, 3)
        the molecule in one piece, link hydrogens last (nm)
    energies : array of shape (frames,)
        kJ/mol
    forces : array of shape (frames, atoms, 3)
        at fixed charges around it (kJ/mol/nm)
    charges : array of shape (frames, atoms)
        dE/dphi_a, the Mulliken charges of xTB (e)
    potentials : array of shape (frames, atoms)
        phi_a = k_e sum_j Q_j / sqrt(R_aj^2 + d_a^2) (kJ/mol/e)
    potentialGradients : array of shape (frames, atoms, 3)
        derivative of phi_a with respect to the position of atom a (kJ/mol/e/nm)
    temperatures : array of shape (frames,)
        of the run that the frame is from (K)
    trajectories : array of int of shape (frames,)
        number of that run; frames of one run are correlated, so they are held out together

    Raises
    ------
    ValueError
        If the shapes do not fit together or a value is not finite.
    """

    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    charges: np.ndarray
    potentials: np.ndarray
    potentialGradients: np.ndarray
    temperatures: np.ndarray
    trajectories: np.ndarray

    def __post_init__(self):
        for name in self.names():
            kind = np.int64 if name == "trajectories" else np.float64
            setattr(self, name, np.asarray(getattr(self, name), dtype=kind))
        if self.positions.ndim != 3 or self.positions.shape[2] != 3:
            raise ValueError(f"Expected positions of the shape (frames, atoms, 3), found {self.positions.shape}.")
        for name, expected in self.shapes(*self.positions.shape[:2]).items():
            found = getattr(self, name)
            if found.shape != expected:
                raise ValueError(
                    f"Expected {name} of the shape {expected} to go with the positions, found {found.shape}."
                )
            if not np.isfinite(found).all():
                raise ValueError(f"The {name} hold NaN or infinite values; label these frames again or drop them.")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(f.name for f in dataclasses.fields(cls))

    @staticmethod
    def shapes(frames: int, atoms: int) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        vectors, scalars = (frames, atoms, 3), (frames, atoms)
        return {
            "positions": vectors,
            "energies": (frames,),
            "forces": vectors,
            "charges": scalars,
            "potentials": scalars,
            "potentialGradients": vectors,
            "temperatures": (frames,),
            "trajectories": (frames,),
        }

    @classmethod
    def empty(cls, atoms: int) -> Frames:
        """No frames."""
        return cls(**{name: np.zeros(shape) for name, shape in cls.shapes(0, atoms).items()})

    @classmethod
    def concatenate(cls, parts) -> Frames:
        """Frames of all parts, in order; there must be one part at least."""
        parts = list(parts)
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in cls.names()})

    @property
    def embedded(self) -> np.ndarray:
        """Whether each frame sees charges."""
        return (self.potentials != 0).any(axis=1)

    def __len__(self) -> int:
        return len(self.energies)

    def __getitem__(self, index) -> Frames:
        """Frames by a slice, a mask or a list of indices."""
        if isinstance(index, int | np.integer):
            index = [index]
        return Frames(**{name: getattr(self, name)[index] for name in self.names()})
