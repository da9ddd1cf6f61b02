"""Direct models for the scheme 'jump': positions and velocities now to their changes after k base steps.

The network learns the map of a potential model's own dynamics, so that its error is that of a direct map and nothing
else. It works in a frame of three bonded atoms, conserves the motion of the centre of mass, and knows nothing of the
conservation of energy, as is usual: it samples under a thermostat only.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm import app, unit

from .._units import NANOMETER
from ..contract import ModelContract, readContract, saveModel
from ..data import Frames, graph
from ..forces import KStepModelForce
from ..handedness import neighbourLists

_BOLTZMANN = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)
_SMALLEST_SINE = 0.3  # of the angle between the two bonds that carry the molecule's frame


@dataclass
class JumpResult:
    """What trainJump() returns.

    Attributes
    ----------
    path : Path
        the model file
    velocityError, displacementError : float
        held-out errors of the changes of velocities, and of positions beyond free flight, as shares of their spread
    frameAtoms : tuple of int
        the three atoms whose frame the network works in
    samples : int
        pairs of states that it was trained on
    """

    path: Path
    velocityError: float
    displacementError: float
    frameAtoms: tuple[int, int, int]
    samples: int

    def __str__(self):
        return (
            f"{self.path}: {self.samples} pairs of states; held-out errors are {100 * self.velocityError:.1f} % of the spread "
            f"of the velocities' changes, {100 * self.displacementError:.1f} % of that of displacements"
        )


class DirectModel(torch.nn.Module):
    """A network between coordinates in the frame of three atoms; units nm and nm/ps.

    Parameters
    ----------
    masses : array of shape (n,)
        u
    frame_atoms : three ints
        the frame's origin is the second
    tau : float
        k dt (ps)
    hidden : int
        units of both layers
    """

    def __init__(self, masses, frame_atoms, tau, hidden):
        super().__init__()
        n = 3 * len(masses)
        self.tau = float(tau)
        self.a, self.b, self.c = (int(i) for i in frame_atoms)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2 * n, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, 2 * n),
        ).double()
        # Vibrations are nearly harmonic, and their map nearly linear.
        self.linear = torch.nn.Linear(2 * n, 2 * n).double()
        mass = torch.as_tensor(masses, dtype=torch.float64)
        self.register_buffer("weights", (mass / mass.sum())[:, None])
        for name in ("in", "out"):
            self.register_buffer(name + "_mean", torch.zeros(2 * n, dtype=torch.float64))
            self.register_buffer(name + "_scale", torch.ones(2 * n, dtype=torch.float64))

    def axes(self, x: torch.Tensor) -> torch.Tensor:
        """Rotation matrices (..., 3, 3) whose rows are the axes of the molecule."""
        u = x[..., self.a, :] - x[..., self.b, :]
        w = x[..., self.c, :] - x[..., self.b, :]
        u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        w = w - (w * u).sum(-1, keepdim=True) * u
        w = w / torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        return torch.stack((u, w, torch.linalg.cross(u, w)), -2)

    def inputs(self, x: torch.Tensor, v: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        """Positions about the centre of mass, and velocities relative to its own, in the molecule's frame."""
        centred = x - (self.weights * x).sum(-2, keepdim=True)
        relative = v - (self.weights * v).sum(-2, keepdim=True)
        turned = axes.transpose(-1, -2)
        return torch.cat(((centred @ turned).flatten(-2), (relative @ turned).flatten(-2)), -1)

    def outputs(self, dx: torch.Tensor, dv: torch.Tensor, v: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        """What the network has to give: the deviation from free flight."""
        turned = axes.transpose(-1, -2)
        return torch.cat((((dx - self.tau * v) @ turned).flatten(-2), (dv @ turned).flatten(-2)), -1)

    def network(self, features: torch.Tensor) -> torch.Tensor:
        """Scaled outputs of scaled inputs."""
        return self.net(features) + self.linear(features)

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        axes = self.axes(positions)
        features = (self.inputs(positions, velocities, axes) - self.in_mean) / self.in_scale
        out = self.network(features) * self.out_scale + self.out_mean
        n = out.shape[-1] // 2
        dx = out[..., :n].reshape(positions.shape) @ axes
        dv = out[..., n:].reshape(positions.shape) @ axes
        dx = dx - (self.weights * dx).sum(-2, keepdim=True) + self.tau * velocities
        dv = dv - (self.weights * dv).sum(-2, keepdim=True)
        return dx, dv


def trainJump(
    model: str | os.PathLike,
    frames: Frames,
    path: str | os.PathLike,
    *,
    k: int = 7,
    dt: float | unit.Quantity = 0.0005,
    bonds=None,
    masses=None,
    draws: int = 3,
    hidden: int = 256,
    epochs: int = 120,
    heldOut: float = 0.1,
    seed: int = 1,
    progress: bool = True,
) -> JumpResult:
    """Train a direct model on the dynamics of a potential model in the gas phase.

    Parameters
    ----------
    model : path
        a potential with its contract, such as trainModel() writes
    frames : Frames
        structures to start from, and their temperatures, at which velocities are drawn
    path : path
        the file to write
    k : int
        base steps that one call covers
    dt : float or Quantity
        base step (ps)
    bonds : sequence of (int, int), optional
        between the atoms, to choose the three that carry the frame by; by default those of the first structure
    masses : sequence of float, optional
        of the atoms (u), if they are not those of the elements: a direct model is one of its masses
    draws : int
        random velocities for each structure
    hidden, epochs :
        units of the network's two layers, passes over the data
    heldOut : float
        share of the frames, from the end, that errors are measured on
    seed : int
    progress : bool

    Raises
    ------
    ValueError
        If the frames do not fit the model, k or dt are not positive, or no three atoms make a frame.
    """
    from tqdm import tqdm

    contract = readContract(model)
    if unit.is_quantity(dt):
        dt = dt.value_in_unit(unit.picosecond)
    x = frames.positions
    if contract.kind != "potential" or x.shape[1] != len(contract.species):
        raise ValueError(
            f"Expected a potential of {x.shape[1]} atoms, as the frames have, found a {contract.kind} of {len(contract.species)}."
        )
    if k < 1 or not dt > 0 or not 0 < heldOut < 1 or len(x) < 2:
        raise ValueError(
            f"A direct model needs a positive k and dt, two frames, and a share of them held out, found k={k}, dt={dt}, "
            f"{len(x)} frames, heldOut={heldOut}."
        )
    if masses is None:
        masses = [app.Element.getByAtomicNumber(z).mass.value_in_unit(unit.dalton) for z in contract.species]
    masses = np.asarray(masses, dtype=float)
    atoms = find_frame_atoms(contract.species, _bonds(contract.species, x[0]) if bonds is None else bonds, x)
    rng = np.random.default_rng(seed)
    held = max(1, round(heldOut * len(x)))
    # Held-out structures first, with all their velocities.
    order = np.repeat(np.concatenate([np.arange(len(x) - held, len(x)), np.arange(len(x) - held)]), draws)
    states = tqdm(order, desc="maps", disable=not progress)
    x, v, dx, dv = _maps(model, x, frames.temperatures, masses, k, dt, rng, states)

    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        direct = DirectModel(masses, atoms, k * dt, hidden)
        errors = _fit(direct, (x, v, dx, dv), held * draws, epochs, progress)
    finally:
        torch.set_rng_state(torch_state)
    saveModel(
        torch.jit.script(direct.eval().requires_grad_(False)),
        path,
        ModelContract(
            species=contract.species,
            kind="jump",
            inputs=("positions", "velocities"),
            outputs=("displacements", "velocity_changes"),
            method=contract.method,
            charge=contract.charge,
            multiplicity=contract.multiplicity,
            k=k,
            dt=dt,
            trainingTemperatures=sorted(set(frames.temperatures.tolist())),
            distanceRanges=contract.distanceRanges,
            versions={"openmm": importlib.metadata.version("openmm")},
        ),
    )
    return JumpResult(Path(path), errors[1], errors[0], atoms, len(order) - held * draws)


def _bonds(species, positions):
    from ..data import findBonds

    return findBonds(species, positions)


def find_frame_atoms(species, bonds, positions) -> tuple[int, int, int]:
    """Two bonds at one atom that never come near a line: of heavy atoms if possible, and in the middle of the molecule.

    Raises
    ------
    ValueError
        If there are none.
    """
    n = len(species)
    middle = graph.bond_distances(n, bonds).sum(axis=1)
    best = None
    for b, around in enumerate(neighbourLists(n, bonds)):
        for a, c in itertools.combinations(around, 2):
            u, w = positions[:, a] - positions[:, b], positions[:, c] - positions[:, b]
            area = np.linalg.norm(np.cross(u, w), axis=1)
            sine = (area / (np.linalg.norm(u, axis=1) * np.linalg.norm(w, axis=1))).min()
            key = (-sum(species[i] > 1 for i in (a, b, c)), middle[[a, b, c]].sum(), a, b, c)
            if sine > _SMALLEST_SINE and (best is None or key < best):
                best = key
    if best is None:
        raise ValueError("A direct model needs two bonds at one atom that are never in a line; this molecule has none.")
    return best[2:]


def _maps(model, positions, temperatures, masses, k, dt, rng, order):
    """States, and the changes of their positions and velocities in k steps of velocity Verlet on the model."""
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    system.addForce(KStepModelForce(os.fspath(model), range(len(masses))))
    integrator = openmm.CustomIntegrator(dt)
    integrator.addComputePerDof("v", "v + 0.5*dt*f/m")
    integrator.addComputePerDof("x", "x + dt*v")
    integrator.addComputePerDof("v", "v + 0.5*dt*f/m")
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    columns = [], [], [], []
    for frame in order:
        x = positions[frame]
        v = rng.normal(size=x.shape) * np.sqrt(_BOLTZMANN * temperatures[frame] / masses)[:, None]
        v -= masses @ v / masses.sum()
        context.setPositions(x)
        context.setVelocities(v)
        integrator.step(k)
        state = context.getState(positions=True, velocities=True)
        dx = state.getPositions(asNumpy=True).value_in_unit(NANOMETER) - x
        dv = state.getVelocities(asNumpy=True).value_in_unit(NANOMETER / unit.picosecond) - v
        for column, value in zip(columns, (x, v, dx, dv), strict=True):
            column.append(value)
    return tuple(torch.from_numpy(np.array(column)) for column in columns)


def _fit(model: DirectModel, states, held: int, epochs: int, progress: bool, batch: int = 256, rate: float = 2e-3):
    """Fit to all but the first samples; return the held-out errors of displacements and velocities' changes."""
    from tqdm import trange

    x, v, dx, dv = states
    axes = model.axes(x)
    features, targets = model.inputs(x, v, axes), model.outputs(dx, dv, v, axes)
    model.in_mean, model.in_scale = features[held:].mean(0), features[held:].std(0).clamp(min=1e-6)
    model.out_mean, model.out_scale = targets[held:].mean(0), targets[held:].std(0).clamp(min=1e-9)
    features = (features - model.in_mean) / model.in_scale
    targets = (targets - model.out_mean) / model.out_scale
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in trange(epochs, desc="train", disable=not progress):
        order = held + torch.randperm(len(x) - held)
        for part in order.split(batch):
            optimizer.zero_grad()
            loss = ((model.network(features[part]) - targets[part]) ** 2).mean()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = (model.network(features[:held]) - targets[:held]).square().mean(0)
    half = len(error) // 2
    return tuple(float(part.mean().sqrt()) for part in (error[:half], error[half:]))
