"""The cutoff of the embedding, and whether the periodic box allows it."""

from __future__ import annotations

import numpy as np
import openmm

from .._units import NANOMETER, strip
from ._geometry import minimum_image, positions_array

DEFAULT_CUTOFFS = (1.2, 1.0)  # nm
_SWITCHING_WIDTH = 0.2  # nm
_SPARE = 0.95
"""Share of half the box that cutoff and QM region may fill, so that both can change later."""
_TYPICAL_RADIUS = 0.5  # nm, of a QM region where no positions are given


def box_vectors(system: openmm.System) -> np.ndarray:
    """The default box vectors (3, 3) of a System in nm."""
    return np.array([tuple(v.value_in_unit(NANOMETER)) for v in system.getDefaultPeriodicBoxVectors()])


def half_width(vectors: np.ndarray) -> float:
    """Half of the smallest of a_x, b_y and c_z of box vectors (3, 3)."""
    return float(np.diag(vectors).min()) / 2


def region_radius(positions: np.ndarray, vectors: np.ndarray | None) -> float:
    """The largest distance (nm) of a QM atom from the centroid of the region; positions (n, 3) in nm."""
    if vectors is not None:
        positions = positions[0] + minimum_image(positions - positions[0], vectors)
    return float(np.linalg.norm(positions - positions.mean(axis=0), axis=1).max())


def choose_cutoff(
    system: openmm.System, qm: list[int], periodic: bool, positions, cutoff, switchingDistance
) -> tuple[float | None, float | None]:
    """Cutoff and switching distance of the embedding in nm; None for a system that is not periodic and has no cutoff.

    Raises
    ------
    ValueError
        If they contradict each other, or the box is too small for them.
    """
    cutoff = None if cutoff is None else strip(cutoff, NANOMETER)
    if switchingDistance is not None:
        switchingDistance = strip(switchingDistance, NANOMETER)
    if cutoff is None and periodic:
        cutoff = _default_cutoff(system, qm, positions)
    if cutoff is None:
        if switchingDistance is not None:
            raise ValueError(
                "A switching distance was given without a cutoff: give both, or none to embed in all charges."
            )
        return None, None
    if not cutoff > 0:
        raise ValueError(
            f"The cutoff of the embedding must be positive, found {cutoff:g} nm. To embed in no charges choose "
            "embedding='mechanical' or 'none'; to embed in all of a system that is not periodic leave the cutoff out."
        )
    if switchingDistance is None:
        switchingDistance = max(0.0, cutoff - _SWITCHING_WIDTH)
    if not 0 <= switchingDistance < cutoff:
        raise ValueError(
            f"The switching distance must be between 0 and the cutoff of the embedding, found {switchingDistance:g} and {cutoff:g} nm."
        )
    if periodic and positions is not None:
        room = _room(system, qm, positions)
        if cutoff > room:
            raise ValueError(
                f"The box is too small for the embedding: at most {max(0.0, room):.2f} nm of cutoff would leave only one image "
                f"of each group within reach (5 % to spare), found {cutoff:g} nm. Give a smaller cutoff or use a larger box."
            )
    return cutoff, switchingDistance


def _default_cutoff(system: openmm.System, qm: list[int], positions) -> float:
    room = _room(system, qm, positions)
    for value in DEFAULT_CUTOFFS:
        if value <= room:
            return value
    raise ValueError(
        f"The box is too small for the embedding: a cutoff of {DEFAULT_CUTOFFS[-1]:g} nm (and 5 % to spare) needs a wider one; "
        f"this one allows {max(0.0, room):.2f} nm. Use a larger box, or give a smaller cutoff, which is less accurate."
    )


def _room(system: openmm.System, qm: list[int], positions) -> float:
    vectors = box_vectors(system)
    radius = _TYPICAL_RADIUS
    if positions is not None:
        x = positions_array(positions, system.getNumParticles())
        radius = region_radius(x[qm], vectors)
    return _SPARE * half_width(vectors) - radius
