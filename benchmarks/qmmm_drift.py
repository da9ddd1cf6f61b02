"""Does QM/MM conserve the energy as plain MM does? Drift in NVE of the real systems of examples/qmmm_systems.

    python benchmarks/qmmm_drift.py --picoseconds 5 --starts 2 alanine-cut peptide-20

runs each system (all by default) by xTB/MM and by MM, from states that a short Langevin run of the same
Hamiltonian left, on one thread, by velocity Verlet with 0.5 fs. In both the atoms of the QM region have no constraints.
Every run is added to the results file as soon as it is done; those that are there already are not repeated. Then a
table and a plot are made of everything in the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import unit
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from qmmm_systems import SYSTEMS, PreparedSystem

from openmmkstep import KStepIntegrator, XtbForce, cast
from openmmkstep.analysis import drift

DT = 0.0005  # ps
FRICTION = 5.0  # 1/ps
INTERVAL = 0.02  # ps, between energies
TEMPERATURE = 300.0  # K
CORRECTOR_GROUP = 1


def mm_reference(prepared: PreparedSystem) -> openmm.System:
    """The force-field System with the QM atoms' bonds free to vibrate, as they are in the QM/MM System."""
    # Where a bond is constrained, its term adds nothing.
    system = prepared.create_mm_system(flexibleConstraints=True)
    qm = set(prepared.qm_atoms)
    for i in reversed(range(system.getNumConstraints())):
        p1, p2, _ = system.getConstraintParameters(i)
        if p1 in qm and p2 in qm:
            system.removeConstraint(i)
    # KStepIntegrator asks for a corrector: one without terms, so that both run by the same integrator.
    corrector = openmm.HarmonicBondForce()
    corrector.setForceGroup(CORRECTOR_GROUP)
    system.addForce(corrector)
    return system


def context_of(system: openmm.System, friction: float, seed: int) -> openmm.Context:
    """Velocity Verlet, or BAOAB with friction."""
    integrator = KStepIntegrator(DT, 1, "impulse", TEMPERATURE if friction else None, friction)
    integrator.setRandomNumberSeed(seed)
    integrator.setConstraintTolerance(1e-6)
    # Its positions and velocities are in double precision, its nonbonded forces in single.
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})


def velocities_of(context: openmm.Context) -> np.ndarray:
    state = context.getState(velocities=True)
    return state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)


def run(context: openmm.Context, picoseconds: float, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (ps), total energies, and shadow energies (kJ/mol) along a run.

    Velocity Verlet conserves H - dt^2/24 sum m a^2 - dt^2/12 sum m v da/dt up to the fourth order (Hairer, Lubich and
    Wanner, Geometric Numerical Integration, IX). H itself wanders with the energy in the fast vibrations, by some
    0.1 kJ/mol, which would hide a drift for tens of picoseconds.
    """
    system, integrator = context.getSystem(), context.getIntegrator()
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])[:, None]
    times, energies, shadows = [], [], []
    for _ in tqdm(range(round(picoseconds / INTERVAL)), desc=label, mininterval=0.5 if sys.stderr.isatty() else 30):
        integrator.step(round(INTERVAL / DT) - 2)
        before = velocities_of(context)
        integrator.step(1)
        state, now = context.getState(energy=True), velocities_of(context)
        integrator.step(1)
        after = velocities_of(context)
        total = state.getPotentialEnergy() + state.getKineticEnergy()
        times.append(state.getTime().value_in_unit(unit.picosecond))
        energies.append(total.value_in_unit(unit.kilojoule_per_mole))
        # dt a and dt^2 da/dt; they hold the forces of the constraints.
        first, second = 0.5 * (after - before), after - 2 * now + before
        shadows.append(energies[-1] - (masses * (first**2 / 24 + now * second / 12)).sum())
    return np.array(times), np.array(energies), np.array(shadows)


def measure(prepared: PreparedSystem, kind: str, seed: int, args: argparse.Namespace) -> dict:
    """One run from one equilibrated start; kind is 'MM' or 'QM/MM'."""
    picoseconds, accuracy = args.picoseconds, args.accuracy
    system = mm_reference(prepared) if kind == "MM" else prepared.create_qmmm_system()
    for force in map(cast, system.getForces()):
        if isinstance(force, XtbForce):
            force.setAccuracy(accuracy)
        if isinstance(force, openmm.NonbondedForce):
            set_ewald(force, args.ewald, args.spacing, prepared.topology.getPeriodicBoxVectors())
    label = f"{prepared.name} {kind} {seed}"
    bath = context_of(system, FRICTION, seed)
    bath.setPositions(prepared.positions)
    bath.applyConstraints(1e-6)
    bath.setVelocitiesToTemperature(TEMPERATURE, seed)
    run(bath, args.equilibration, f"{label} bath")
    state = bath.getState(positions=True, velocities=True)
    context = context_of(system, 0.0, seed)
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
    begin = time.perf_counter()
    times, energies, shadows = run(context, picoseconds, label)
    slope, error = drift(times, shadows)
    return {
        "system": prepared.name,
        "kind": kind,
        "seed": seed,
        "accuracy": accuracy if kind == "QM/MM" else None,
        "atoms": len(prepared.positions),
        "qm_atoms": len(prepared.qm_atoms),
        "picoseconds": picoseconds,
        "drift": slope,
        "error": error,
        "drift_of_energy": drift(times, energies),
        "sd_of_energy": spread(times, energies),
        "sd": spread(times, shadows),
        "seconds_per_ps": (time.perf_counter() - begin) / picoseconds,
        "times": np.round(times, 4).tolist(),
        "energies": np.round(shadows - shadows[0], 5).tolist(),
    }


def set_ewald(force: openmm.NonbondedForce, tolerance: float, spacing: float, box) -> None:
    """Make what PME leaves out at the cutoff small; the grid may be as coarse as ever.

    Forces of the reciprocal part are the gradient of its energy whatever the grid, so only the truncation of the direct
    part shows as a drift. The grid that goes with a tolerance of 1e-6 makes steps ten times as long.
    """
    if box is None:
        return
    alpha = np.sqrt(-np.log(2 * tolerance)) / force.getCutoffDistance().value_in_unit(unit.nanometer)
    force.setPMEParameters(alpha, *(int(np.ceil(box[i][i].value_in_unit(unit.nanometer) / spacing)) for i in range(3)))


def spread(times: np.ndarray, energies: np.ndarray) -> float:
    """Standard deviation (kJ/mol) from a straight line."""
    return float(np.std(energies - np.polyval(np.polyfit(times, energies, 1), times)))


def average(runs: list[dict]) -> tuple[float, float]:
    """Mean drift and its error, each run weighted by the cube of its length (a slope's weight in a common fit)."""
    weights = np.array([r["picoseconds"] for r in runs]) ** 3
    weights /= weights.sum()
    mean = float(weights @ [r["drift"] for r in runs])
    return mean, float(np.sqrt((weights**2) @ [r["error"] ** 2 for r in runs]))


def report(runs: list[dict]) -> str:
    lines = [
        f"{'system':14s}{'QM':>4s}{'atoms':>7s}{'ps':>6s}{'MM drift':>20s}{'QM/MM drift':>20s}{'difference':>20s}"
        f"{'sd MM':>8s}{'sd QM/MM':>9s}{'s/ps':>7s}   (kJ/mol/ps, kJ/mol)"
    ]
    for name in SYSTEMS:
        kinds = {k: [r for r in runs if r["system"] == name and r["kind"] == k] for k in ("MM", "QM/MM")}
        if not all(kinds.values()):
            continue
        (m, dm), (q, dq) = (average(kinds[k]) for k in ("MM", "QM/MM"))
        first = kinds["QM/MM"][0]
        sd = [np.mean([r["sd"] for r in kinds[k]]) for k in ("MM", "QM/MM")]
        length = "/".join(f"{sum(r['picoseconds'] for r in kinds[k]):g}" for k in ("MM", "QM/MM"))
        lines.append(
            f"{name:14s}{first['qm_atoms']:4d}{first['atoms']:7d}{length:>6s}{m:11.4f} +- {dm:.4f}{q:10.4f} +- {dq:.4f}"
            f"{q - m:10.4f} +- {np.hypot(dm, dq):.4f}{sd[0]:8.4f}{sd[1]:9.4f}"
            f"{np.mean([r['seconds_per_ps'] for r in kinds['QM/MM']]):7.1f}"
        )
    return "\n".join(lines)


def plot(runs: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [n for n in SYSTEMS if any(r["system"] == n for r in runs)]
    figure, axes = plt.subplots(len(names), 1, figsize=(7, 1.8 * len(names)), sharex=True, squeeze=False)
    for name, axis in zip(names, axes[:, 0], strict=True):
        for r in (r for r in runs if r["system"] == name):
            color = "tab:blue" if r["kind"] == "MM" else "tab:red"
            axis.plot(r["times"], r["energies"], color=color, lw=0.7, label=r["kind"] if r["seed"] == 1 else None)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylabel("E - E(0), kJ/mol", fontsize=7)
    axes[0, 0].legend(fontsize=8)
    axes[-1, 0].set_xlabel("time, ps")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", help=f"all by default; 'none' only prints: {', '.join(SYSTEMS)}")
    parser.add_argument("--picoseconds", type=float, default=5.0)
    parser.add_argument("--equilibration", type=float, default=1.0, help="length of the Langevin run (ps)")
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--accuracy", type=float, default=0.05, help="of xTB (default: that of XtbForce, 0.05)")
    # At 1e-4 what PME leaves out at the cutoff makes the energy wander by 0.3 kJ/mol, in MM as in QM/MM.
    parser.add_argument("--ewald", type=float, default=1e-6, help="error tolerance of the direct part of PME")
    parser.add_argument("--spacing", type=float, default=0.06, help="of the grid of PME (nm)")
    parser.add_argument("--kinds", nargs="*", default=["MM", "QM/MM"])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "qmmm_drift.json")
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)

    def kept() -> list[dict]:
        return json.loads(args.results.read_text()) if args.results.exists() else []

    for name in (n for n in args.systems or SYSTEMS if n != "none"):
        prepared = SYSTEMS[name]()
        for seed in range(1, args.starts + 1):
            for kind in args.kinds:
                if not any((r["system"], r["kind"], r["seed"]) == (name, kind, seed) for r in kept()):
                    result = measure(prepared, kind, seed, args)
                    # Several of these may run side by side: read the file again just before writing it.
                    args.results.write_text(json.dumps([*kept(), result]))
    runs = kept()
    print(report(runs))
    plot(runs, args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
