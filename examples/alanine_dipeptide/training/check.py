"""Check a model: derivatives, invariances, time per call, acceptance.

Acceptance is estimated from npz files that sample.py wrote with --model: D is
the xTB energy minus the model's, taken between frames --lag apart.
"""

import argparse

import numpy as np
import torch

from train import load, time_per_call

KT = 0.00831446261815324 * 300.0


def derivatives(model, x, phi, step=1e-6):
    """Largest deviations of forces and charges from central differences.

    To be asked of the model in double precision, which shows the formulas to
    be right; ``rounding`` says how far single precision is from it.
    """
    _, force, charge = model(x, phi)
    worst_force = worst_charge = 0.0
    for atom in range(len(x)):
        for axis in range(3):
            values = []
            for sign in (1, -1):
                moved = x.clone()
                moved[atom, axis] += sign * step
                values.append(float(model(moved, phi)[0]))
            slope = (values[0] - values[1]) / (2 * step)
            worst_force = max(worst_force, abs(slope + float(force[atom, axis])))
        values = []
        for sign in (1, -1):
            moved = phi.clone()
            moved[atom] += sign * 0.5
            values.append(float(model(x, moved)[0]))
        worst_charge = max(worst_charge, abs(values[0] - values[1] - float(charge[atom])))
    return worst_force, worst_charge


def rounding(model, double, x, phi):
    """Largest differences of energy and forces, single and double."""
    single, exact = model(x, phi), double(x, phi)
    return (abs(float(single[0] - exact[0])), float((single[1] - exact[1]).abs().max()))


def invariance(model, x, phi):
    """Deviations after a rigid motion: energy and turned-back forces."""
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    first = model(x, phi)
    second = model(x @ turn.T + 1.7, phi)
    return (abs(float(first[0] - second[0])), float((first[1] - second[1] @ turn).abs().max()))


def acceptance(path, lag):
    """Spread of D and mean acceptance between frames ``lag`` apart."""
    data = np.load(path)
    difference = data["energy"] - data["model_energy"]
    step = difference[lag:] - difference[:-lag]
    return (
        len(difference),
        difference.mean(),
        difference.std(),
        np.minimum(1.0, np.exp(-step / KT)).mean(),
        np.abs(difference - np.median(difference)).max(),
    )


def main():
    """Run all checks and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="model.pt")
    parser.add_argument("--data", nargs="+", default=["data/held_out.npz"], help="frames for the derivatives")
    parser.add_argument("--runs", nargs="*", default=[], help="model-driven npz files for the acceptance")
    parser.add_argument("--lag", type=int, default=1, help="frames between two tests")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    frames = load(args.data)
    model = torch.jit.freeze(torch.jit.load(args.model).eval())
    double = torch.jit.load(args.model).double()
    for index in np.linspace(0, len(frames["x"]) - 1, 3).astype(int):
        x, phi = frames["x"][index], frames["phi"][index]
        force, charge = derivatives(double, x, phi)
        rounded = rounding(model, double, x, phi)
        energy, turned = invariance(model, x, phi)
        print(
            f"frame {index}: force {force:.1e} kJ/mol/nm and charge "
            f"{charge:.1e} e off central differences; rigid motion "
            f"{energy:.1e} kJ/mol, {turned:.1e} kJ/mol/nm; rounding "
            f"{rounded[0]:.1e} kJ/mol, {rounded[1]:.1e} kJ/mol/nm"
        )
    x, phi = frames["x"][0], frames["phi"][0]
    print(f"time per call {time_per_call(args.model, x, phi):.0f} us")
    for path in args.runs:
        count, mean, spread, accepted, largest = acceptance(path, args.lag)
        print(
            f"{path}: {count} frames, D mean {mean:+.3f} sd {spread:.3f} "
            f"largest deviation {largest:.2f} kJ/mol, acceptance "
            f"{accepted:.3f}"
        )


if __name__ == "__main__":
    main()
