"""A plot of what run.sh measured: python benchmarks/gpu/plot.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    folder = Path(sys.argv[1])
    overhead, production, memory = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("overhead", "production", "create_destroy")
    )
    figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    best = {name: min(times) for name, times in overhead["us_per_step"].items()}
    axes[0].barh(list(best), list(best.values()))
    axes[0].set(xlabel="us per base step", title=f"trivial corrector and model, {overhead['atoms']} atoms")
    axes[1].barh(list(production["ns_per_day"]), list(production["ns_per_day"].values()))
    axes[1].set(xlabel="ns/day", xscale="log", title=f"22 QM atoms of {production['atoms']}")
    for name in ("openmm", "openmmkstep"):
        axes[2].plot(range(1, 1 + len(memory[name]["megabytes"])), memory[name]["megabytes"], label=name)
    axes[2].legend()
    axes[2].set(xlabel=f"twentieths of {memory['cycles']} Contexts", ylabel="MB", title="memory of the process")
    for axis in axes[:2]:
        axis.invert_yaxis()
    figure.savefig(folder / "gpu.png", dpi=150)


if __name__ == "__main__":
    main()
