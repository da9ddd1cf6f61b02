"""The loop of a training: steps, averaged parameters, tests on held-out frames, checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch

from .model import predict
from .soap import Soap

SIGMA = {"force": 8.0, "energy": 0.4, "charge": 0.001}
"""Errors that the loss weighs by (kJ/mol/nm, kJ/mol, e): what a good model reaches."""
ENERGY_WEIGHT = 0.3
CHARGE_WEIGHT = 0.3
_BASIS_INTERVAL = 20  # steps between updates of the optimiser's basis
_WARM_UP = 100  # steps over which the learning rate rises
_TESTS = 40  # of the held-out frames in a training


class Trainer:
    """A training that can be saved and taken up again.

    What a step does follows from its number and the seed, and the schedule of the learning rate from the share of the
    steps, or of the seconds, that is over.

    Parameters
    ----------
    model : BatchModel
        at its start
    descriptors : Descriptors
    training, held_out : Samples
    factors : list of arrays of int
        the atom orders of graph.permutation_factors()
    steps : int or None
    seconds : float or None
        how long: one of both
    batch, rate, seed :
        frames in a step, largest learning rate, seed of frames and orders
    """

    def __init__(self, model, descriptors, training, held_out, factors, *, steps, seconds, batch, rate, seed):
        self.model, self.descriptors = model, descriptors
        self.training, self.held_out, self.factors = training, held_out, factors
        self.steps, self.seconds = steps, seconds
        self.batch, self.rate, self.seed = min(batch, len(training)), rate, seed
        self.optimizer = Soap(model.parameters(), lr=rate, every=_BASIS_INTERVAL)
        self.average = [p.detach().clone() for p in model.parameters()]
        self.best, self.best_loss = [p.clone() for p in self.average], np.inf
        self.step, self.elapsed, self.history = 0, 0.0, []

    @property
    def progress(self) -> float:
        """The share that is over, 1 at the end."""
        return min(1.0, self.step / self.steps if self.steps else self.elapsed / self.seconds)

    def sample(self):
        """The frames of the next step, atoms renumbered at random."""
        generator = np.random.default_rng([self.seed, self.step])
        part = self.training[torch.from_numpy(generator.integers(len(self.training), size=self.batch))]
        if self.factors:
            orders = np.tile(np.arange(part.x.shape[2]), (self.batch, 1))
            for factor in self.factors:
                orders = np.take_along_axis(orders, factor[generator.integers(len(factor), size=self.batch)], 1)
            part = part.permuted(orders)
        return part

    def loss(self, part):
        """Mean squared errors in units of SIGMA."""
        energy, force, charge = predict(self.model, self.descriptors, part.x, part.phi, part.phi_gradient)
        error = ((part.force - force) / SIGMA["force"]).pow(2).mean((1, 2))
        error = error + ENERGY_WEIGHT * ((part.energy - energy) / SIGMA["energy"]).pow(2)
        if self.model.layout.n_phi:
            error = error + CHARGE_WEIGHT * ((part.charge - charge) / SIGMA["charge"]).pow(2).mean(1)
        return (part.weight * error).mean()

    def advance(self) -> float:
        """One step; return its loss."""
        rate = self.rate * min(1.0, (self.step + 1) / _WARM_UP) * (1 - self.progress) ** 1.5
        loss = self.loss(self.sample())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = rate + 1e-6
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            keep = min(0.999, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - keep)
        return float(loss.detach())

    def use(self, parameters):
        """Exchange the model's parameters for others; return those it had."""
        old = [p.detach().clone() for p in self.model.parameters()]
        with torch.no_grad():
            for p, value in zip(self.model.parameters(), parameters, strict=True):
                p.copy_(value)
        return old

    def errors(self, samples, batch=256):
        """Errors (label - model) of the model's present parameters: energies, forces and charges of all frames."""
        parts = []
        with torch.no_grad():
            for begin in range(0, len(samples), batch):
                part = samples[begin : begin + batch]
                energy, force, charge = predict(self.model, self.descriptors, part.x, part.phi, part.phi_gradient)
                parts.append((part.energy - energy, part.force - force, part.charge[:, : charge.shape[1]] - charge))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def test(self, training_loss):
        """Errors of the averaged parameters on the held-out frames, into the history; keep the best parameters."""
        old = self.use(self.average)
        energy, force, charge = self.errors(self.held_out)
        self.use(old)
        record = {
            "step": self.step,
            "seconds": round(self.elapsed, 2),
            "loss": training_loss,
            "force": float(force.pow(2).mean().sqrt()),
            "energy": float(energy.std(unbiased=False)),
            "charge": float(charge.pow(2).mean().sqrt()) if charge.shape[1] else None,
        }
        loss = (force / SIGMA["force"]).pow(2).mean() + ENERGY_WEIGHT * (energy / SIGMA["energy"]).pow(2).mean()
        if charge.shape[1]:
            loss = loss + CHARGE_WEIGHT * (charge / SIGMA["charge"]).pow(2).mean()
        record["heldOutLoss"] = float(loss)
        self.history.append(record)
        if record["heldOutLoss"] < self.best_loss or not np.isfinite(self.best_loss):
            self.best, self.best_loss = [p.clone() for p in self.average], record["heldOutLoss"]
        return record

    def run(self, checkpoint: Path, interval: float, identity: dict, patience: int | None, report):
        """Go on to the end.

        Parameters
        ----------
        checkpoint : Path
            written every `interval` seconds and at the end
        identity : dict
            goes into it: what the training is of
        patience : int or None
            tests without a better one after which it ends early
        report : callable
            called with (self, record or None) after every step

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        begin, before = time.monotonic(), self.elapsed
        saved, losses = begin, []
        next_test = self.progress + 1 / _TESTS if self.history else 0.0
        while self.progress < 1:
            losses.append(self.advance())
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"The training loss is {losses[-1]} at step {self.step}; try a smaller learning rate, or look at the data."
                )
            self.elapsed = before + time.monotonic() - begin
            record = None
            if self.tested_next(next_test):
                record = self.test(float(np.mean(losses)))
                losses, next_test = [], self.progress + 1 / _TESTS
            report(self, record)
            if patience and self.since_best() >= patience:
                break
            if time.monotonic() - saved > interval:
                self.save(checkpoint, identity)
                saved = time.monotonic()
        self.save(checkpoint, identity)

    def tested_next(self, planned) -> bool:
        """Whether the held-out frames are due: by step numbers alone if the training is one of steps."""
        if self.steps:
            every = max(1, self.steps // _TESTS)
            return self.step % every == 0 or self.step == self.steps
        return self.progress >= planned or self.progress >= 1

    def since_best(self) -> int:
        """Tests after the best one."""
        losses = [record["heldOutLoss"] for record in self.history]
        return len(losses) - 1 - int(np.argmin(losses)) if losses else 0

    def save(self, path: Path, identity: dict):
        """Write a checkpoint, whole or not at all."""
        state = {
            "identity": identity,
            "mean": self.descriptors.mean,
            "scale": self.descriptors.scale,
            "strengths": self.descriptors.repulsion.strengths,
            "model": [p.detach() for p in self.model.parameters()],
            "average": self.average,
            "best": self.best,
            "bestLoss": float(self.best_loss),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
        }
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def restore(self, state: dict):
        """Take up what save() wrote."""
        self.descriptors.mean, self.descriptors.scale = state["mean"], state["scale"]
        self.use(state["model"])
        self.average, self.best, self.best_loss = state["average"], state["best"], state["bestLoss"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed, self.history = state["step"], state["elapsed"], state["history"]
