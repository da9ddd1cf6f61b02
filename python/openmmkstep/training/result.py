"""What a training reached."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import openmm
import torch

from ..forces import KStepModelForce


@dataclass
class TrainingResult:
    """What trainModel() returns and writes to training.json.

    Attributes
    ----------
    path : Path
        the model file
    errors : dict
        by group of held-out frames ('embedded 300 K'): frames, forceRMSE (kJ/mol/nm), energySD and energyMean of label
        minus model (kJ/mol), chargeRMSE (e; None without embedding)
    frames : dict
        number of training frames by group
    heldOut : list of int
        trajectories (or the only one, of which the last frames are) that errors are of
    dropped : int
        frames not used because of a force beyond 20,000 kJ/mol/nm
    steps : int
        steps of the optimiser, also those before a restart
    seconds : float
        of wall time in these steps
    microsecondsPerCall : float
        energy and forces of one frame by KStepModelForce, on one thread, the step of a VerletIntegrator included
    history : list of dict
        step, seconds, loss, and held-out force (RMSE), energy (SD), charge (RMSE) and heldOutLoss of every test
    settings : dict
        arguments and versions
    """

    path: Path
    errors: dict
    frames: dict
    heldOut: list
    dropped: int
    steps: int
    seconds: float
    microsecondsPerCall: float
    history: list
    settings: dict

    def __str__(self):
        lines = [
            f"{self.path}: {sum(self.frames.values())} frames, {self.steps} steps, {self.seconds:.0f} s, "
            f"{self.microsecondsPerCall:.0f} us per call",
            f"{'held-out frames of':24s}{'frames':>8s}{'force RMSE':>14s}{'sd(E)':>10s}{'mean(E)':>10s}{'charge RMSE':>14s}",
            f"{'':24s}{'':8s}{'kJ/mol/nm':>14s}{'kJ/mol':>10s}{'kJ/mol':>10s}{'e':>14s}",
        ]
        for name, e in self.errors.items():
            charge = "-" if e["chargeRMSE"] is None else f"{e['chargeRMSE']:.5f}"
            lines.append(
                f"{name:24s}{e['frames']:8d}{e['forceRMSE']:14.2f}{e['energySD']:10.3f}{e['energyMean']:10.3f}{charge:>14s}"
            )
        if self.dropped:
            lines.append(f"{self.dropped} frames with forces beyond 20,000 kJ/mol/nm were not used.")
        return "\n".join(lines)

    def write(self, path: Path):
        """Write it as JSON."""
        fields = dataclasses.asdict(self) | {"path": self.path.name}
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(fields, indent=2))
        os.replace(temporary, path)


def errors_by_group(trainer, masks) -> dict:
    """Errors of a Trainer's model on its held-out frames by group."""
    result = {}
    for name, mask in masks.items():
        energy, force, charge = trainer.errors(trainer.held_out[torch.from_numpy(mask)])
        result[name] = {
            "frames": len(energy),
            "forceRMSE": float(force.pow(2).mean().sqrt()),
            "energySD": float(energy.std(unbiased=False)),
            "energyMean": float(energy.mean()),
            "chargeRMSE": float(charge.pow(2).mean().sqrt()) if charge.shape[1] else None,
        }
    return result


def time_per_call(path: Path, positions, repeats=20) -> float:
    """Microseconds that a KStepModelForce of a model file takes for energy and forces: the best of some series of steps.

    The step of a VerletIntegrator on the Reference platform, a few microseconds, is counted too.
    """
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    system.addForce(KStepModelForce(path, range(len(positions))))
    integrator = openmm.VerletIntegrator(1e-7)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    integrator.step(5)
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        integrator.step(50)
        best = min(best, (time.perf_counter() - begin) / 50)
    return best * 1e6


def plot_history(history, path: Path):
    """Held-out errors along the training as a PNG; nothing if matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    steps = [record["step"] for record in history]
    axes[0].semilogy(steps, [record["force"] for record in history], label="force RMSE, kJ/mol/nm")
    axes[0].semilogy(steps, [record["energy"] for record in history], label="sd(E), kJ/mol")
    axes[0].set_title("held-out frames")
    axes[1].semilogy(steps, [record["loss"] for record in history], label="training")
    axes[1].semilogy(steps, [record["heldOutLoss"] for record in history], label="held out")
    axes[1].set_title("loss")
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=120)
