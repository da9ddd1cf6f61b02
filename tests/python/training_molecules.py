"""Molecules for the tests of training, and frames of them labelled by xTB."""

import numpy as np
import openmm
from conftest import K_E, make_context

from openmmkstep import XtbForce
from openmmkstep.data import Frames, Region

ETHANOL_X = np.array(
    [
        [-0.0887, 0.0175, -0.0017],
        [0.0460, -0.0516, 0.0002],
        [0.1442, 0.0471, 0.0013],
        [-0.0950, 0.0815, 0.0864],
        [-0.0950, 0.0800, -0.0909],
        [-0.1699, -0.0553, -0.0010],
        [0.0573, -0.1153, 0.0891],
        [0.0573, -0.1150, -0.0890],
        [0.2310, 0.0060, 0.0010],
    ]
)
ETHANOL = ((6, 6, 8, 1, 1, 1, 1, 1, 1), ((0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)))
TOLUENE = (
    (6,) * 6 + (1,) * 5 + (6, 1, 1, 1),
    tuple(
        [(i, (i + 1) % 6) for i in range(6)]
        + [(i, i + 5) for i in range(1, 6)]
        + [(0, 11), (11, 12), (11, 13), (11, 14)]
    ),
)


def chain(carbons: int, end: int = 17):
    """An alkane of `carbons` carbons whose last hydrogen is another element (chlorine)."""
    species, bonds = [6] * carbons, [(i, i + 1) for i in range(carbons - 1)]
    for c in range(carbons):
        for _ in range(2 + (c == 0) + (c == carbons - 1)):
            bonds.append((c, len(species)))
            species.append(1)
    species[-1] = end
    return tuple(species), tuple(bonds)


# name: species, bonds, charge
MOLECULES = {
    "hydrogen": ((1, 1), ((0, 1),), 0),
    "ion pair": ((3, 9), (), 0),
    "water": ((8, 1, 1), ((0, 1), (0, 2)), 0),
    "two waters": ((8, 1, 1, 8, 1, 1), ((0, 1), (0, 2), (3, 4), (3, 5)), 0),
    "hydrated zinc": ((30, 8, 1, 1), ((1, 2), (1, 3)), 2),
    "ethanol": (*ETHANOL, 0),
    "cyclopropane": (
        (6,) * 3 + (1,) * 6,
        ((0, 1), (1, 2), (0, 2)) + tuple((c, 3 + 2 * c + k) for c in range(3) for k in range(2)),
        0,
    ),
    "toluene": (*TOLUENE, 0),
    "acetate": ((6, 6, 8, 8, 1, 1, 1), ((0, 1), (1, 2), (1, 3), (0, 4), (0, 5), (0, 6)), -1),
    "chlorodecane": (*chain(10), 0),
}


def spread(n: int, seed: int) -> np.ndarray:
    """Positions at random, no two atoms closer than 0.1 nm."""
    rng = np.random.default_rng(seed)
    x = np.zeros((0, 3))
    while len(x) < n:
        new = rng.uniform(-0.5, 0.5, 3) * (n / 20) ** (1 / 3)
        if not len(x) or np.linalg.norm(x - new, axis=1).min() > 0.1:
            x = np.concatenate([x, new[None]])
    return x


def region_of(name: str, embedded: bool = False) -> Region:
    species, bonds, charge = MOLECULES[name]
    return Region(species, tuple(range(len(species))), bonds, charge=charge, hardnessElement=10 if embedded else None)


def label(region: Region, x: np.ndarray, damping=None, seed: int = 1) -> Frames:
    """GFN2-xTB of structures (frames, n, 3), 80 frames a trajectory; with damping lengths four charges about 0.5 nm away."""
    rng = np.random.default_rng(seed)
    n, count = region.numAtoms, 0 if damping is None else 4
    force = XtbForce(region.method, range(n), region.species, region.charge, region.multiplicity)
    charges = rng.uniform(-0.4, 0.4, count)
    for j, q in enumerate(charges):
        force.addEmbeddingCharge(n + j, q, 10)
    context = make_context([force], n + count)
    columns = {name: [] for name in ("energies", "forces", "charges", "potentials", "potentialGradients")}
    for frame in x:
        direction = rng.normal(size=(count, 3))
        outside = 0.55 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        context.setPositions(np.concatenate([frame, outside]))
        state = context.getState(energy=True, forces=True)
        delta = frame[:, None] - outside[None]
        squared = (delta**2).sum(2) + (np.zeros((n, 1)) if damping is None else np.array(damping)[:, None] ** 2)
        columns["energies"].append(state.getPotentialEnergy()._value)
        columns["forces"].append(state.getForces(asNumpy=True)._value[:n])
        columns["charges"].append(force.getPartialCharges(context)._value)
        columns["potentials"].append(K_E * (charges * squared**-0.5).sum(1))
        columns["potentialGradients"].append(-K_E * ((charges * squared**-1.5)[:, :, None] * delta).sum(1))
    return Frames(
        positions=x,
        temperatures=np.full(len(x), 300.0),
        trajectories=np.arange(len(x)) // 80,
        **columns,
    )


def ethanol_frames(count: int = 480, damping=None, seed: int = 1) -> Frames:
    """Ethanol at random about one conformer, mostly within 0.005 nm."""
    rng = np.random.default_rng(seed)
    x = ETHANOL_X + 0.003 * rng.normal(size=(count, 9, 3))
    return label(region_of("ethanol", damping is not None), x, damping, seed)


def openmm_context(forces, positions):
    """A Context on the Reference platform with one thread."""
    return make_context(forces, len(positions), positions, openmm.VerletIntegrator(0.0005))
