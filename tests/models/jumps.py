"""Direct models (jumps) whose maps are known exactly, as TorchScript files."""

from __future__ import annotations

import numpy as np
import torch

from openmmkstep import ModelContract, saveModel

OUTPUTS = ("displacements", "velocity_changes")


def tensor(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values, dtype=float))


class Oscillators(torch.nn.Module):
    """The exact flow over a time (ps) of independent oscillators: centres (n, 3) in nm, angular frequencies (n,) in 1/ps."""

    def __init__(self, centres, omega, time: float):
        super().__init__()
        omega = tensor(omega)[:, None]
        self.register_buffer("centres", tensor(centres))
        self.register_buffer("omega", omega)
        self.register_buffer("cos", torch.cos(omega * time))
        self.register_buffer("sin", torch.sin(omega * time))

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        q = positions - self.centres
        displacements = q * (self.cos - 1) + velocities * (self.sin / self.omega)
        return displacements, velocities * (self.cos - 1) - q * (self.omega * self.sin)


class Molecule(torch.nn.Module):
    """The exact flow of coupled oscillators, exp(t [[0, 1], [-K/m, 0]]), with K (3n, 3n) in kJ/mol/nm^2 and m (n,)."""

    def __init__(self, centres, stiffness, masses, time: float):
        super().__init__()
        n = 3 * len(masses)
        generator = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
        generator[:n, n:] = torch.eye(n)
        generator[n:, :n] = -tensor(stiffness) / tensor(np.repeat(masses, 3))[:, None]
        self.register_buffer("centres", tensor(centres))
        self.register_buffer("change", torch.linalg.matrix_exp(generator * time) - torch.eye(2 * n))

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        n = positions.numel()
        z = torch.cat([(positions - self.centres).reshape(-1), velocities.reshape(-1)])
        dz = self.change @ z
        return dz[:n].reshape(-1, 3), dz[n:].reshape(-1, 3)


class FreeFlight(torch.nn.Module):
    """No forces."""

    def __init__(self, time: float):
        super().__init__()
        self.time = time

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return velocities * self.time, torch.zeros_like(velocities)


class Still(torch.nn.Module):
    """No change."""

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return torch.zeros_like(positions), torch.zeros_like(velocities)


class ShowsForces(torch.nn.Module):
    """Returns what it was given: changes in proportion to the forces."""

    def __init__(self, displacement: float, change: float):
        super().__init__()
        self.displacement = displacement
        self.change = change

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor, forces: torch.Tensor):
        return self.displacement * forces, self.change * forces


class FromAction(torch.nn.Module):
    """Free flight, with the velocities from a gradient that the model takes itself."""

    def __init__(self, time: float):
        super().__init__()
        self.time = time

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        v = velocities.detach().requires_grad_(True)
        gradient = torch.autograd.grad([0.5 * (v * v).sum()], [v])[0]
        assert gradient is not None
        return gradient.detach() * self.time, torch.zeros_like(velocities)


class FailsFarOut(torch.nn.Module):
    """Free flight; beyond x = 1 nm it throws, or returns NaN."""

    def __init__(self, time: float, throws: bool):
        super().__init__()
        self.time = time
        self.throws = throws

    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        displacements = velocities * self.time
        if float(positions[0, 0]) > 1:
            if self.throws:
                raise RuntimeError("this model does not like large x")
            displacements = displacements * float("nan")
        return displacements, torch.zeros_like(velocities)


class OneTensor(torch.nn.Module):
    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return positions


class ThreeTensors(torch.nn.Module):
    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return positions, velocities, velocities


class Flat(torch.nn.Module):
    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return positions, velocities.reshape(-1)


class OneTooMany(torch.nn.Module):
    def forward(self, positions: torch.Tensor, velocities: torch.Tensor):
        return torch.cat([positions, positions[:1]]), velocities


def write_jump(path, module: torch.nn.Module, n: int, steps: int, dt: float, **fields) -> None:
    """Write a jump model of n hydrogen atoms that covers a number of base steps (dt in ps)."""
    inputs = ("positions", "velocities", "forces")[: 3 if isinstance(module, ShowsForces) else 2]
    fields = {"species": [1] * n, "inputs": inputs, "outputs": OUTPUTS, "k": steps, "dt": dt} | fields
    saveModel(module, path, ModelContract(kind="jump", **fields))
