"""Train the model on frames labelled with xTB and write it with its contract.

First a least-squares fit of the quadratic part, then all parameters together with SOAP. Targets are energies, QM forces
and Mulliken charges (for dE/dphi); methyl hydrogens are turned cyclically at random for augmentation.
"""

from __future__ import annotations

import argparse
import glob
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from openmmkstep import ModelContract, findDistanceRanges, saveModel

from .labels import HARDNESS_ELEMENT, NUMBERS, damping_lengths
from .model import BatchModel, Descriptors, FastModel, Layout, methyl_permutations
from .soap import Soap

FIELDS = ("x", "energy", "force", "charge", "phi", "grad_phi", "temperature", "trajectory")
SIGMA = {"force": 8.0, "energy": 0.4, "charge": 0.001}
FIT_SIGMA = {"force": 50.0, "energy": 2.0, "charge": 0.01}


def load(patterns):
    """Read npz files into one dictionary of float64 tensors."""
    paths = sorted(path for pattern in patterns for path in glob.glob(pattern))
    files = [np.load(path) for path in paths]
    frames = {
        name: torch.from_numpy(np.concatenate([np.asarray(data[name], dtype=np.float64) for data in files]))
        for name in FIELDS
    }
    good = torch.isfinite(frames["energy"])
    good &= frames["force"].abs().amax((1, 2)) < 2e4
    return {name: value[good] for name, value in frames.items()}


def select(frames, index):
    """The chosen frames."""
    return {name: value[index] for name, value in frames.items()}


def permute(frames, orders):
    """Renumber the atoms of every frame by its own order."""
    rows = torch.arange(len(orders))[:, None]
    result = dict(frames)
    for name in ("x", "force", "charge", "phi", "grad_phi"):
        result[name] = frames[name][rows, orders]
    return result


def fit_quadratic(model, descriptors, frames, offset, ridge, batch=8):
    """Least-squares fit of the quadratic part to energies, forces, charges."""
    layout = model.layout
    chosen = torch.tensor(layout.quadratic)
    rows, columns = np.nonzero(layout.quadratic_mask())
    first, second = chosen[rows], chosen[columns]
    n_linear, n_atoms = len(chosen), frames["x"].shape[1]
    size = n_linear + len(rows) + 1
    gram = torch.zeros(size, size)
    right = torch.zeros(size)
    eye = torch.eye(layout.n_features)
    for start in range(0, len(frames["x"]), batch):
        part = select(frames, slice(start, start + batch))
        count = len(part["x"])
        phi = part["phi"] - part["phi"].mean(1, keepdim=True)
        z, parts = descriptors(part["x"], phi)
        jacobian = torch.stack(
            [
                torch.cat([g_x.flatten(1), (g_phi - g_phi.mean(1, keepdim=True))], 1)
                for g_x, g_phi in (
                    descriptors.pull_back(eye, ([parts[0][k : k + 1], [cross[k : k + 1] for cross in parts[1]]]))
                    for k in range(count)
                )
            ]
        )  # frame, descriptor, 66 + 22
        terms = z[:, first, None] * jacobian[:, second] + z[:, second, None] * jacobian[:, first]
        slopes = torch.cat([jacobian[:, chosen], terms], 1).transpose(1, 2)
        values = torch.cat([z[:, chosen], z[:, first] * z[:, second], torch.ones(count, 1)], 1)
        gradient = -(part["force"] + part["charge"][:, :, None] * part["grad_phi"]).flatten(1)
        target = torch.cat([gradient, part["charge"]], 1).float()
        weight = torch.cat(
            [torch.full((3 * n_atoms,), 1 / FIT_SIGMA["force"]), torch.full((n_atoms,), 1 / FIT_SIGMA["charge"])]
        )
        design = torch.zeros(count, len(weight) + 1, size)
        design[:, :-1, :-1] = slopes * weight[:, None]
        design[:, -1] = values / FIT_SIGMA["energy"]
        energy = (part["energy"] - offset).float() / FIT_SIGMA["energy"]
        target = torch.cat([target * weight, energy[:, None]], 1)
        design = design.flatten(0, 1)
        gram += design.T @ design
        right += design.T @ target.flatten()
    gram, right = gram.double(), right.double()
    gram += ridge * len(frames["x"]) * torch.eye(size, dtype=torch.float64)
    solution = torch.linalg.solve(gram, right).float()
    with torch.no_grad():
        model.linear.copy_(solution[:n_linear])
        model.matrix.zero_()
        model.matrix[rows, columns] = solution[n_linear:-1]
    return float(solution[-1])


def resume(model, descriptors, path):
    """Take scale and parameters from a model file; return its offset."""
    saved = torch.jit.load(path)
    descriptors.scale = saved.scale.clone()
    descriptors.mean = -saved.shift / saved.scale
    old_index = saved.index.view(model.index.shape)
    with torch.no_grad():
        model.w1.zero_()
        for net, chosen in enumerate(model.layout.inputs):
            for row, feature in enumerate(old_index[net].tolist()):
                if feature in chosen:
                    place = chosen.index(feature)
                    model.w1[net, place] += saved.w1[net, row]
        for name in ("b1", "w2", "b2", "w3", "linear"):
            getattr(model, name).copy_(getattr(saved, name))
        model.matrix.copy_(saved.half_matrix)
    return float(saved.offset)


def start(model, descriptors, frames, args):
    """Scale the descriptors and fit the quadratic part; return the offset."""
    generator = torch.Generator().manual_seed(args.seed)
    orders = torch.from_numpy(methyl_permutations())
    shuffled = torch.randperm(len(frames["x"]), generator=generator)
    subset = select(frames, shuffled[: args.fit_frames])
    turn = torch.randint(len(orders), (len(subset["x"]),), generator=generator)
    subset = permute(subset, orders[turn])
    descriptors.fit_scale(subset["x"], subset["phi"])
    offset = float(frames["energy"].mean())
    return offset + fit_quadratic(model, descriptors, subset, offset, args.ridge)


def predict(model, descriptors, frames):
    """Energy (without offset), forces and charges of frames."""
    z, parts = descriptors(frames["x"], frames["phi"])
    energy, g = model.energy_gradient(z)
    g_x, charge = descriptors.pull_back(g, parts)
    force = -g_x - charge[:, :, None] * frames["grad_phi"].float()
    return energy, force, charge


def evaluate(model, descriptors, frames, offset, batch=200):
    """Errors of the model on frames."""
    errors = []
    with torch.no_grad():
        for start in range(0, len(frames["x"]), batch):
            part = select(frames, slice(start, start + batch))
            energy, force, charge = predict(model, descriptors, part)
            errors.append((part["energy"] - offset - energy, part["force"] - force, part["charge"] - charge))
    energy, force, charge = (torch.cat(column) for column in zip(*errors, strict=True))
    return {
        "frames": len(energy),
        "force_rmse": float(force.pow(2).mean().sqrt()),
        "energy_sd": float(energy.std()),
        "energy_mean": float(energy.mean()),
        "charge_rmse": float(charge.pow(2).mean().sqrt()),
    }


def groups(frames):
    """Frames by phase and temperature."""
    embedded = frames["phi"].abs().sum(1) > 0
    result = {}
    for name, mask in (("embedded", embedded), ("gas", ~embedded)):
        for temperature in sorted(set(frames["temperature"].tolist())):
            chosen = mask & (frames["temperature"] == temperature)
            if chosen.any():
                result[f"{name} {temperature:.0f} K"] = select(frames, chosen)
    return result


def report(model, descriptors, frames, offset):
    """Errors by group, printed and returned."""
    result = {}
    for name, part in groups(frames).items():
        result[name] = evaluate(model, descriptors, part, offset)
        trajectories = sorted(set(part["trajectory"].tolist()))
        spread = [
            evaluate(model, descriptors, select(part, part["trajectory"] == number), offset) for number in trajectories
        ]
        print(
            "  {:16s} n {frames:5d} force {force_rmse:6.2f} sd(E) "
            "{energy_sd:.3f} mean {energy_mean:+.3f} charge "
            "{charge_rmse:.5f}".format(name, **result[name]),
            "| sd per trajectory",
            " ".join(f"{item['energy_sd']:.3f}" for item in spread),
            flush=True,
        )
    return result


def train(model, descriptors, frames, held_out, offset, args):
    """SOAP on batches of randomly permuted frames."""
    generator = torch.Generator().manual_seed(args.seed)
    orders = torch.from_numpy(methyl_permutations())
    optimizer = Soap(model.parameters(), lr=args.rate, every=args.every)
    cold = 300.0 / frames["temperature"]
    begin, step = time.time(), 0
    size = len(frames["x"])
    while step < args.steps:
        index = torch.randint(size, (args.batch,), generator=generator)
        turn = torch.randint(len(orders), (args.batch,), generator=generator)
        part = permute(select(frames, index), orders[turn])
        energy, force, charge = predict(model, descriptors, part)
        e_error = (part["energy"] - offset - energy) / SIGMA["energy"]
        f_error = (part["force"] - force) / SIGMA["force"]
        q_error = (part["charge"] - charge) / SIGMA["charge"]
        weight = cold[index] ** 2
        loss = (
            weight
            * (
                f_error.pow(2).mean((1, 2))
                + args.energy_weight * e_error.pow(2)
                + args.charge_weight * q_error.pow(2).mean(1)
            )
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        progress = step / args.steps
        rate = args.rate * min(1.0, (step + 1) / 100) * (1 - progress) ** 1.5
        optimizer.param_groups[0]["lr"] = rate + 1e-6
        optimizer.step()
        step += 1
        if step % args.print_every == 0 or step == args.steps:
            print(f"step {step} loss {float(loss.detach()):.3f} {time.time() - begin:.0f} s", flush=True)
            report(model, descriptors, held_out, offset)
    print("on frames of the training set:")
    report(model, descriptors, select(frames, slice(0, None, 20)), offset)


def time_per_call(path, frame, phi):
    """Microseconds of a frozen call (called from Python, one thread)."""
    module = torch.jit.freeze(torch.jit.load(path).eval())
    best = np.inf
    with torch.inference_mode():
        for _ in range(20):
            begin = time.perf_counter()
            for _ in range(200):
                module(frame, phi)
            best = min(best, (time.perf_counter() - begin) / 200)
    return best * 1e6


def export(model, descriptors, offset, frames, path):
    """Write the single-frame model with its contract, whose region of validity is that of the training frames."""
    contract = ModelContract(
        species=NUMBERS,
        inputs=("positions", "phi"),
        outputs=("energy", "forces", "charges"),
        dampingLengths=damping_lengths(),
        method="GFN2-xTB",
        hardnessElement=HARDNESS_ELEMENT,
        trainingTemperatures=sorted(set(frames["temperature"].tolist())),
        distanceRanges=findDistanceRanges(frames["x"].numpy(), methyl_permutations()),
        versions={"xtb": version("xtb"), "openmm": version("openmm")},
    )
    saveModel(torch.jit.script(FastModel(model, descriptors, offset).eval()), path, contract)


def parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="npz files of sample.py and augment.py")
    parser.add_argument("--held-out", type=int, nargs="*", default=[6, 16], help="trajectories kept for testing")
    parser.add_argument(
        "--hidden", type=int, nargs=2, default=(96, 64), help="units of the two layers of every network"
    )
    parser.add_argument("--fit-frames", type=int, default=2000, help="frames of the least-squares fit")
    parser.add_argument("--ridge", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=20, help="steps between updates of the SOAP basis")
    parser.add_argument("--energy-weight", type=float, default=0.3)
    parser.add_argument("--charge-weight", type=float, default=0.3)
    parser.add_argument("--print-every", type=int, default=1000)
    parser.add_argument("--start", help="model file to go on from (same --hidden)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="model.pt", help="model file; what was reached goes into a .json beside it")
    return parser


def run(args):
    """Fit, train and write the model."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    frames = load(args.data)
    held = torch.isin(frames["trajectory"].long(), torch.tensor(args.held_out))
    held_out, training = select(frames, held), select(frames, ~held)
    print(f"{len(training['x'])} frames to train on, {len(held_out['x'])} held out", flush=True)
    descriptors = Descriptors(Layout())
    model = BatchModel(descriptors.layout, args.hidden, args.seed)
    if args.start:
        offset = resume(model, descriptors, args.start)
        report(model, descriptors, held_out, offset)
    else:
        offset = start(model, descriptors, training, args)
    # TorchScript reads the source when it compiles: better to fail now than after the training.
    export(model, descriptors, offset, training, args.output)
    train(model, descriptors, training, held_out, offset, args)
    export(model, descriptors, offset, training, args.output)
    reached = {
        "frames": {name: len(part["x"]) for name, part in groups(training).items()},
        "held_out_errors": report(model, descriptors, held_out, offset),
        "microseconds_per_call": time_per_call(args.output, held_out["x"][0], held_out["phi"][0]),
        "arguments": vars(args),
        "python": platform.python_version(),
    }
    Path(args.output).with_suffix(".json").write_text(json.dumps(reached, indent=2))
    print(f"{args.output} written", flush=True)


if __name__ == "__main__":
    run(parser().parse_args())
