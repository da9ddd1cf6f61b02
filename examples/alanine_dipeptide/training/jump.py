"""Trains the demo's direct model for the scheme 'jump': positions and velocities now -> their changes after 7 base steps.

    python -m alanine_dipeptide.training.jump --output jump.pt      (in the folder examples; some five minutes)

The network learns the map of the potential model's own dynamics, so its error is that of a direct map and nothing else.
Frames come from Langevin dynamics of the droplet on the potential model, velocities are drawn anew several times for
each, and the map is velocity Verlet of the solute alone in the gas phase. The network works in a frame of three
backbone atoms, conserves the centre of mass's motion, and knows nothing of energy conservation, as is usual.
"""

from __future__ import annotations

import argparse

import numpy as np
import openmm
import torch
from openmm import app
from tqdm import trange

from openmmkstep import KStepModelForce, ModelContract, saveModel

from ..comparison import GAS_CONSTANT
from ..droplet import HERE, NUM_QM, PLATFORM, PLATFORM_PROPERTIES, Droplet
from .labels import NUMBERS

DT, STEPS = 0.0005, 7  # ps; the k-th base step is the corrected one
FRAME_ATOMS = (4, 6, 8)  # C, N, C-alpha


def masses() -> np.ndarray:
    return np.array([app.Element.getByAtomicNumber(n).mass._value for n in NUMBERS])


def sample_frames(frames: int, temperature: float, seed: int) -> np.ndarray:
    """Solute positions (frames, 22, 3) every 10 fs of a run on the potential model."""
    droplet = Droplet()
    integrator = openmm.LangevinMiddleIntegrator(temperature, 2.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    integrator.setIntegrationForceGroups({0, 2})
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    system = droplet.create_system(with_model=True, heavy_hydrogen=True)
    context = openmm.Context(system, integrator, platform, PLATFORM_PROPERTIES)
    context.setPositions(droplet.positions)
    context.setVelocitiesToTemperature(temperature, seed)
    integrator.step(500)
    result = []
    for _ in trange(frames, desc=f"frames at {temperature:.0f} K"):
        integrator.step(10)
        result.append(context.getState(positions=True).getPositions(asNumpy=True)._value[:NUM_QM])
    return np.array(result)


def map_frames(x: np.ndarray, temperatures: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Random velocities, and the changes of positions and velocities after STEPS steps of velocity Verlet."""
    system = openmm.System()
    for mass in masses():
        system.addParticle(mass)
    system.addForce(KStepModelForce(HERE / "model.pt", range(NUM_QM)))
    integrator = openmm.CustomIntegrator(DT)
    integrator.addComputePerDof("v", "v + 0.5*dt*f/m")
    integrator.addComputePerDof("x", "x + dt*v")
    integrator.addComputePerDof("v", "v + 0.5*dt*f/m")
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    rng = np.random.default_rng(seed)
    width = np.sqrt(GAS_CONSTANT * temperatures[:, None, None] / masses()[:, None])
    v = rng.normal(size=x.shape) * width
    v -= (masses()[:, None] * v).sum(1, keepdims=True) / masses().sum()
    dx, dv = np.empty_like(x), np.empty_like(x)
    for i in trange(len(x), desc="maps"):
        context.setPositions(x[i])
        context.setVelocities(v[i])
        integrator.step(STEPS)
        state = context.getState(positions=True, velocities=True)
        dx[i] = state.getPositions(asNumpy=True)._value - x[i]
        dv[i] = state.getVelocities(asNumpy=True)._value - v[i]
    return v, dx, dv


class DirectModel(torch.nn.Module):
    """A network between coordinates in the frame of three atoms; units nm and nm/ps."""

    def __init__(self, hidden: int):
        super().__init__()
        n = 3 * NUM_QM
        self.tau = DT * STEPS
        self.a, self.b, self.c = FRAME_ATOMS
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2 * n, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, 2 * n),
        ).double()
        # Vibrations are nearly harmonic, and their map nearly linear.
        self.linear = torch.nn.Linear(2 * n, 2 * n).double()
        mass = torch.tensor(masses())
        self.register_buffer("weights", (mass / mass.sum())[:, None])
        self.register_buffer("in_mean", torch.zeros(2 * n, dtype=torch.float64))
        self.register_buffer("in_scale", torch.ones(2 * n, dtype=torch.float64))
        self.register_buffer("out_mean", torch.zeros(2 * n, dtype=torch.float64))
        self.register_buffer("out_scale", torch.ones(2 * n, dtype=torch.float64))

    def axes(self, x: torch.Tensor) -> torch.Tensor:
        """Rotation matrices (..., 3, 3) whose rows are the axes of the molecule."""
        u = x[..., self.b, :] - x[..., self.a, :]
        w = x[..., self.c, :] - x[..., self.a, :]
        u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        w = w - (w * u).sum(-1, keepdim=True) * u
        w = w / torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        return torch.stack((u, w, torch.linalg.cross(u, w)), -2)

    def inputs(self, x: torch.Tensor, v: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        centred = x - (self.weights * x).sum(-2, keepdim=True)
        turned = axes.transpose(-1, -2)
        return torch.cat(((centred @ turned).flatten(-2), (v @ turned).flatten(-2)), -1)

    def outputs(self, dx: torch.Tensor, dv: torch.Tensor, v: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        """What the network has to give: the deviation from free flight."""
        turned = axes.transpose(-1, -2)
        return torch.cat((((dx - self.tau * v) @ turned).flatten(-2), (dv @ turned).flatten(-2)), -1)

    def network(self, features: torch.Tensor) -> torch.Tensor:
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


def train(model: DirectModel, x, v, dx, dv, held: int, epochs: int, batch: int = 256, rate: float = 2e-3) -> float:
    """Fit to all but the first samples; returns the held-out error of the velocity changes as a share of their own spread."""
    x, v, dx, dv = (torch.from_numpy(a) for a in (x, v, dx, dv))
    axes = model.axes(x)
    features, targets = model.inputs(x, v, axes), model.outputs(dx, dv, v, axes)
    model.in_mean, model.in_scale = features.mean(0), features.std(0)
    model.out_mean, model.out_scale = targets.mean(0), targets.std(0)
    features = (features - model.in_mean) / model.in_scale
    targets = (targets - model.out_mean) / model.out_scale
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in trange(epochs, desc="training"):
        order = held + torch.randperm(len(x) - held)
        for part in order.split(batch):
            optimizer.zero_grad()
            loss = ((model.network(features[part]) - targets[part]) ** 2).mean()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = model.network(features[:held]) - targets[:held]
    return float(error[:, 3 * NUM_QM :].square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4000, help="structures at each of two temperatures")
    parser.add_argument("--velocities", type=int, default=3, help="draws for each structure")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="jump.pt")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    temperatures = (300.0, 400.0)
    frames = [sample_frames(args.frames, t, args.seed) for t in temperatures]
    x = np.concatenate([f for f in frames for _ in range(args.velocities)])
    t = np.repeat(temperatures, args.frames * args.velocities)
    v, dx, dv = map_frames(x, t, args.seed)
    # The end of each run is held out, not single frames: neighbours are alike.
    held = np.arange(len(x)) % args.frames >= 0.9 * args.frames
    order = np.concatenate([np.flatnonzero(held), np.flatnonzero(~held)])
    model = DirectModel(args.hidden)
    error = train(model, x[order], v[order], dx[order], dv[order], held.sum(), args.epochs)
    print(f"held-out error of the velocity changes: {100 * error:.1f} % of their spread")
    contract = ModelContract(
        species=NUMBERS,
        kind="jump",
        inputs=("positions", "velocities"),
        outputs=("displacements", "velocity_changes"),
        method="GFN2-xTB",
        k=STEPS,
        dt=DT,
        trainingTemperatures=temperatures,
    )
    saveModel(model.eval(), args.output, contract)
    print(f"{args.output} written")


if __name__ == "__main__":
    main()
