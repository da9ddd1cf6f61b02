"""Cheap extra labels from frames that sample.py wrote: one xTB call a frame, no dynamics.

gas: the QM geometries without water. swap: every frame's water around the geometry of another frame, laid over it.
"""

from __future__ import annotations

import argparse

import numpy as np

from ..droplet import Droplet
from .labels import Labeller
from .model import HEAVY

CLOSEST = 0.14  # nm; swapped geometries nearer to the water are dropped


def superpose(x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Lay x over target by the heavy atoms; return it and the deviation."""
    heavy = list(HEAVY)
    centre, goal = x[heavy].mean(0), target[heavy].mean(0)
    left, _, right = np.linalg.svd((x[heavy] - centre).T @ (target[heavy] - goal))
    rotation = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
    moved = (x - centre) @ rotation + goal
    return moved, float(np.sqrt(((moved - target)[heavy] ** 2).sum(1).mean()))


def swapped(target: np.ndarray, x_mm: np.ndarray, donors: np.ndarray, candidates: int, rng) -> np.ndarray | None:
    """The best fitting of some random donors laid over the target; None if it clashes with the water."""
    chosen = rng.choice(len(donors), min(candidates, len(donors)), replace=False)
    moved = [superpose(donors[i], target) for i in chosen if not np.array_equal(donors[i], target)]
    x_qm = min(moved, key=lambda item: item[1])[0]
    nearest = ((x_qm[:, None] - x_mm[None]) ** 2).sum(2).min() ** 0.5
    return x_qm if nearest >= CLOSEST else None


def run(args) -> None:
    frames = dict(np.load(args.source))
    rng = np.random.default_rng(args.seed)
    donors = np.concatenate([np.load(path)["x"] for path in args.donors or [args.source]])
    gas = args.kind == "gas"
    labeller = Labeller() if gas else Labeller(Droplet().mm_charges())
    rows = []
    size = len(frames["energy"])
    for index in np.sort(rng.choice(size, min(args.count, size), replace=False)):
        x_qm, x_mm = frames["x"][index], np.zeros((0, 3))
        if not gas:
            x_mm = frames["x_mm"][index].astype(float)
            x_qm = swapped(x_qm, x_mm, donors, args.candidates, rng)
            if x_qm is None:
                continue
        row = labeller.label(x_qm, x_mm)
        row.update(temperature=frames["temperature"][index], trajectory=frames["trajectory"][index])
        rows.append(row)
    np.savez(args.output, **{name: np.array([row[name] for row in rows]) for name in rows[0]})
    print(f"{args.output}: {len(rows)} frames", flush=True)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("gas", "swap"))
    parser.add_argument("source", help="npz file of sample.py")
    parser.add_argument("output", help="npz file")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--donors", nargs="+", help="npz files with swapped geometries (default: the source)")
    parser.add_argument("--candidates", type=int, default=40, help="frames to choose the swapped geometry from")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    run(parser().parse_args())
