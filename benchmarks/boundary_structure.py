"""What a cut through bonds does to its surroundings: alanine dipeptide in water, cut, all QM, and plain MM.

    python benchmarks/boundary_structure.py --picoseconds 10

runs Langevin dynamics of the three at 300 K on one thread from the same start and compares the lengths of the two cut
bonds (Q1-M1), the angles at either end (Q2-Q1-M1 and Q1-M1-M2), and for water the number of molecules and their
temperature by the distance of the oxygen from the nearest atom of the cut's QM region. Results that are in the file
already are not made again. Prints a table and makes a plot.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from qmmm_drift import DT, INTERVAL, ROOT, SYSTEMS, TEMPERATURE, PreparedSystem, context_of, mm_reference
from tqdm import tqdm

from openmmkstep.analysis import mean_and_error

GAS_CONSTANT = 8.31446261815324e-3
FRICTION = 1.0  # 1/ps
EDGES = np.array([0.15, 0.25, 0.30, 0.35, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90, 1.00, 1.10, 1.20])  # nm
BLOCKS = 5


class Geometry:
    """The atoms around the cuts of a system, and its rigid waters."""

    def __init__(self, cut: PreparedSystem):
        bonded: dict[int, set[int]] = {}
        for bond in cut.topology.bonds():
            bonded.setdefault(bond.atom1.index, set()).add(bond.atom2.index)
            bonded.setdefault(bond.atom2.index, set()).add(bond.atom1.index)
        atoms = list(cut.topology.atoms())
        self.bonds = cut.cut_bonds()
        self.names = [f"{atoms[q].residue.name} {atoms[q].name}-{atoms[m].name}" for q, m in self.bonds]
        self.inner = [[(i, q, m) for i in sorted(bonded[q] - {m})] for q, m in self.bonds]
        self.outer = [[(q, m, i) for i in sorted(bonded[m] - {q})] for q, m in self.bonds]
        self.qm = list(cut.qm_atoms)
        self.waters = np.array(
            [
                [a.index for a in sorted(r.atoms(), key=lambda a: a.element is app.element.hydrogen)]
                for r in cut.topology.residues()
                if r.name == "HOH"
            ]
        )

    def sample(self, x: np.ndarray, v: np.ndarray, box: np.ndarray, masses: np.ndarray) -> dict:
        """Lengths (nm), mean angles (degrees), and the waters by distance: numbers and sums of temperatures (K)."""

        def angle(i, j, k):
            a, b = x[i] - x[j], x[k] - x[j]
            return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))

        separation = x[self.waters[:, 0]][:, None] - x[self.qm]
        separation -= box * np.round(separation / box)
        nearest = np.linalg.norm(separation, axis=2).min(axis=1)
        kinetic = 0.5 * (masses[self.waters][:, :, None] * v[self.waters] ** 2).sum(axis=(1, 2))
        # Six degrees of freedom in a rigid water.
        temperatures = kinetic / (3 * GAS_CONSTANT)
        return {
            "lengths": [float(np.linalg.norm(x[q] - x[m])) for q, m in self.bonds],
            "inner": [float(np.mean([angle(*a) for a in angles])) for angles in self.inner],
            "outer": [float(np.mean([angle(*a) for a in angles])) for angles in self.outer],
            "numbers": np.histogram(nearest, EDGES)[0].tolist(),
            "heat": np.histogram(nearest, EDGES, weights=temperatures)[0].tolist(),
        }


def simulate(system: openmm.System, start: PreparedSystem, geometry: Geometry, picoseconds: float, label: str) -> dict:
    """Samples along a run; the first tenth, at least 1 ps, is left out."""
    context = context_of(system, FRICTION, 7)
    context.setPositions(start.positions)
    context.applyConstraints(1e-6)
    context.setVelocitiesToTemperature(TEMPERATURE, 7)
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
    context.getIntegrator().step(round(max(1.0, 0.1 * picoseconds) / DT))
    samples = []
    for _ in tqdm(range(round(picoseconds / INTERVAL)), desc=label, mininterval=0.5 if sys.stderr.isatty() else 30):
        context.getIntegrator().step(round(INTERVAL / DT))
        state = context.getState(positions=True, velocities=True)
        x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        v = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
        samples.append(geometry.sample(x, v, np.diag(start.box), masses))
    return {key: [s[key] for s in samples] for key in samples[0]}


def by_blocks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of the mean from blocks, along the first axis."""
    means = np.array([b.mean(axis=0) for b in np.array_split(values, BLOCKS)])
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def temperature_profile(result: dict) -> tuple[np.ndarray, np.ndarray]:
    """Temperature in each shell and its standard error from blocks."""
    heat, numbers = (np.array_split(np.array(result[key], dtype=float), BLOCKS) for key in ("heat", "numbers"))
    with np.errstate(invalid="ignore"):
        blocks = np.array([h.sum(axis=0) / n.sum(axis=0) for h, n in zip(heat, numbers, strict=True)])
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def report(results: dict[str, dict], geometry: Geometry) -> str:
    lines = [f"{'':34s}" + "".join(f"{name:>28s}" for name in results)]
    for key, title, scale, unit_name in (
        ("lengths", "Q1-M1", 1e3, "pm"),
        ("inner", "angles Q2-Q1-M1", 1, "deg"),
        ("outer", "angles Q1-M1-M2", 1, "deg"),
    ):
        for cut, name in enumerate(geometry.names):
            line = f"{f'{title} {name}, {unit_name}':34s}"
            for result in results.values():
                values = scale * np.array(result[key])[:, cut]
                mean, error = mean_and_error(values)
                line += f"{f'{mean:.2f} +- {error:.2f} ({values.std():.2f})':>28s}"
            lines.append(line)
    lines += ["", "Waters by distance (nm): number, temperature (K)"]
    for shell in range(len(EDGES) - 1):
        line = f"{EDGES[shell]:.2f} to {EDGES[shell + 1]:.2f}" + " " * 22
        for result in results.values():
            number, dn = (a[shell] for a in by_blocks(np.array(result["numbers"], dtype=float)))
            kelvin, dk = (a[shell] for a in temperature_profile(result))
            line += f"{f'{number:.2f} +- {dn:.2f}  {kelvin:.0f} +- {dk:.0f}':>28s}"
        lines.append(line)
    return "\n".join(lines)


def plot(results: dict[str, dict], geometry: Geometry, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5))
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])
    for (name, result), color in zip(results.items(), ("tab:blue", "tab:red", "tab:green"), strict=False):
        for cut, axis in enumerate(axes[0]):
            lengths = 1e3 * np.array(result["lengths"])[:, cut]
            axis.hist(lengths, bins=30, density=True, histtype="step", color=color, label=name)
            axis.set_xlabel(f"Q1-M1: {geometry.names[cut]}, pm")
        number, error = by_blocks(np.array(result["numbers"], dtype=float))
        per_width = np.diff(EDGES) * 10
        axes[1, 0].errorbar(centres, number / per_width, error / per_width, color=color, marker="o", ms=3, lw=1)
        axes[1, 1].errorbar(centres, *temperature_profile(result), color=color, marker="o", ms=3, lw=1)
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].set(xlabel="distance from the QM region, nm", ylabel="waters per 0.1 nm")
    axes[1, 1].set(xlabel="distance from the QM region, nm", ylabel="temperature of water, K")
    axes[1, 1].axhline(TEMPERATURE, color="gray", lw=0.7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "boundary_structure.json")
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    cut, whole = SYSTEMS["alanine-cut"](), SYSTEMS["alanine"]()
    # The same radii, so that only the cut differs.
    cut = dataclasses.replace(cut, cutoff=whole.cutoff, switching_distance=whole.switching_distance)
    geometry = Geometry(cut)
    systems = {
        "MM": lambda: mm_reference(cut),
        "cut": cut.create_qmmm_system,
        "all QM": whole.create_qmmm_system,
    }
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for name, create in systems.items():
        if name not in results:
            results[name] = simulate(create(), cut, geometry, args.picoseconds, name)
            args.results.write_text(json.dumps(results))
    print(report(results, geometry))
    plot(results, geometry, args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
