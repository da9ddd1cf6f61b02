"""Vibrational peaks of alanine dipeptide in the gas phase: xTB at every step against the mollified impulse.

Both run in NVE from the same start: the minimum of xTB, each normal mode with the energy kT, all of it kinetic. At low
temperature the lines are sharp. The mass-weighted velocities are projected on the normal modes, so that each line is
found in a power spectrum of its own and there is no doubt which peaks belong together; the sum over the modes is the
usual velocity power spectrum. The position of a peak is the centroid of the power around the maximum, which is known
much better than the resolution 1/T; several starts (other signs of the velocities) show how well.

The gas phase is in the training set of the demo's model (phi = 0), and a molecule that stays at its minimum has the
same frequencies in both runs, which water that moves does not give in 10 ps. Velocity Verlet's own frequency error at
0.5 fs (about (omega dt)^2/24: 14 /cm at 3300 /cm) is the same in both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import KStepIntegrator, createQMMMSystem, findMollification

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from alanine_dipeptide.droplet import NUM_QM, Droplet
from alanine_dipeptide.make_droplet import force_field

GAS_CONSTANT = 8.31446261815324e-3
PER_CM = 33.3564095
"""1/(speed of light) in ps/cm: a frequency in 1/ps times this is in 1/cm."""
DT = 0.0005  # ps
K = 8
TRUE_GROUPS = {0, 1}
HALF_WIDTH = 12.0
"""Half the width (1/cm) of the window around a maximum that its centroid is taken over."""
STRETCHES = 2500.0
"""Modes above this (1/cm) are X-H stretches."""
SLOW = 100.0
"""Modes below this (1/cm) are torsions that leave the harmonic region at any temperature and make few periods in 10 ps."""


def make_system() -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Topology, QM/MM System (no MM atoms) and a start in nm."""
    droplet = Droplet()
    modeller = app.Modeller(droplet.topology, droplet.positions)
    modeller.delete([r for r in droplet.topology.residues() if r.name == "HOH"])
    classical = force_field().createSystem(modeller.topology, nonbondedMethod=app.NoCutoff, removeCMMotion=False)
    system = createQMMMSystem(modeller.topology, classical, range(NUM_QM), method="GFN2-xTB", model=droplet.model)
    return modeller.topology, system, np.array(modeller.positions.value_in_unit(unit.nanometer))


def make_context(system: openmm.System, integrator: openmm.Integrator, positions) -> openmm.Context:
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(positions)
    return context


def minimum(system: openmm.System, positions: np.ndarray) -> np.ndarray:
    """The minimum of the true Hamiltonian (nm)."""
    integrator = openmm.VerletIntegrator(DT)
    integrator.setIntegrationForceGroups(TRUE_GROUPS)
    context = make_context(system, integrator, positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.05)
    return context.getState(positions=True).getPositions(asNumpy=True)._value.copy()


def normal_modes(system: openmm.System, positions: np.ndarray, groups: set) -> tuple[np.ndarray, np.ndarray]:
    """Harmonic frequencies (1/cm, ascending, without the six of translation and rotation) and modes (columns)."""
    context = make_context(system, openmm.VerletIntegrator(DT), positions)
    step = 5e-4  # nm
    hessian = np.zeros((3 * NUM_QM, 3 * NUM_QM))
    for i in range(3 * NUM_QM):
        for sign in (1, -1):
            x = positions.copy()
            x[i // 3, i % 3] += sign * step
            context.setPositions(x)
            forces = context.getState(forces=True, groups=groups).getForces(asNumpy=True)._value
            hessian[i] -= sign * forces.ravel() / (2 * step)
    roots = np.sqrt(masses_of(system)).repeat(3)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / (2 * np.outer(roots, roots)))
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) / (2 * np.pi) * PER_CM
    keep = np.sort(np.argsort(np.abs(frequencies))[6:])
    return frequencies[keep], vectors[:, keep]


def masses_of(system: openmm.System) -> np.ndarray:
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])


def start_velocities(system: openmm.System, modes: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """Velocities (nm/ps) that give each mode the energy kT, with random signs."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), modes.shape[1])
    weighted = modes @ (signs * np.sqrt(2 * GAS_CONSTANT * temperature))
    return weighted.reshape(-1, 3) / np.sqrt(masses_of(system))[:, None]


def projected_velocities(system, integrator, steps_per_sample, positions, velocities, modes, samples):
    """Run in NVE: mode velocities at the samples (samples x modes), drift of the energy (kJ/mol/ps), seconds."""
    context = make_context(system, integrator, positions)
    integrator.step(1)  # torch compiles the model
    context.setPositions(positions)
    context.setVelocities(velocities)
    context.setTime(0)
    roots = np.sqrt(masses_of(system))[:, None]
    rows, times, energies = [], [], []
    begin = time.perf_counter()
    for i in range(samples):
        integrator.step(steps_per_sample)
        v = context.getState(velocities=True).getVelocities(asNumpy=True)._value
        rows.append((v * roots).ravel() @ modes)
        if i % 10 == 0:
            times.append(context.getTime()._value)
            energies.append(integrator.computeConservedEnergy()._value)
    seconds = time.perf_counter() - begin
    return np.array(rows), float(np.polyfit(times, energies, 1)[0]), seconds


def power_spectra(velocities: np.ndarray, interval: float, padding: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (1/cm) and the power spectrum of each column, Hann window, zero-padded.

    This is the Fourier transform of the velocity autocorrelation function (Wiener and Khinchin).
    """
    n = len(velocities)
    transform = np.fft.rfft(velocities * np.hanning(n)[:, None], padding * n, axis=0)
    return np.fft.rfftfreq(padding * n, interval) * PER_CM, np.abs(transform) ** 2


def peak(frequencies: np.ndarray, power: np.ndarray, near: float, reach: float) -> float:
    """Centroid of the power around the highest maximum within ``reach`` of ``near`` (1/cm)."""
    candidates = np.where(np.abs(frequencies - near) < reach, power, 0)
    window = np.abs(frequencies - frequencies[np.argmax(candidates)]) < HALF_WIDTH
    return float(np.sum(frequencies[window] * power[window]) / np.sum(power[window]))


def compare(system, positions, harmonic, modes, bonds, args, seed):
    """Peak positions (1/cm) of both runs of one start, their total spectra, and what the runs cost."""
    velocities = start_velocities(system, modes, args.temperature, seed)
    samples = round(args.picoseconds / (K * DT))
    plain_system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    model = next(i for i, f in enumerate(plain_system.getForces()) if f.getForceGroup() == 2)
    plain_system.removeForce(model)
    mollified = KStepIntegrator(DT, K)
    mollified.setMollification(bonds)
    runs = {"plain": (plain_system, KStepIntegrator(DT, 1), K), "mollified": (system, mollified, 1)}
    peaks, totals, costs = {}, {}, {}
    for name, (run_system, integrator, steps) in runs.items():
        rows, drift, seconds = projected_velocities(
            run_system, integrator, steps, positions, velocities, modes, samples
        )
        frequencies, power = power_spectra(rows, K * DT)
        # Verlet and anharmonicity move a line from its harmonic place; both runs are searched alike.
        peaks[name] = [peak(frequencies, power[:, i], h, 0.02 * h + 15) for i, h in enumerate(harmonic)]
        totals[name] = power.sum(axis=1)
        costs[name] = {"drift, kJ/mol/ps": drift, "s/ps": seconds / args.picoseconds}
    return {name: np.array(p) for name, p in peaks.items()}, frequencies, totals, costs


def summarise(differences: np.ndarray) -> dict[str, float]:
    """Of the peaks' shifts, averaged over the starts."""
    mean = differences.mean(axis=0)
    return {
        "peaks": len(mean),
        "rms, /cm": float(np.sqrt(np.mean(mean**2))),
        "largest, /cm": float(np.abs(mean).max()),
        "largest of a single start, /cm": float(np.abs(differences).max()),
    }


def plot(path: Path, frequencies, totals) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(9, 9))
    for axis, (low, high) in zip(axes, ((0, 1000), (1000, 2000), (2800, 3600)), strict=True):
        shown = (frequencies > low) & (frequencies < high)
        for name, sign, colour in (("plain", 1, "#5b8a72"), ("mollified", -1, "#b6653a")):
            label = "xTB at every 0.5 fs" if name == "plain" else f"mollified impulse, h = {1000 * K * DT:g} fs"
            axis.plot(frequencies[shown], sign * totals[name][shown], color=colour, lw=0.9, label=label)
        axis.set_xlim(low, high)
        axis.set_yticks([])
        axis.axhline(0, color="0.6", lw=0.5)
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel("wave number, 1/cm")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picoseconds", type=float, default=10.0, help="length of each run (default: 10)")
    parser.add_argument("--temperature", type=float, default=50.0, help="energy of each mode over k, K (default: 50)")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/spectra.json"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    topology, system, positions = make_system()
    bonds = findMollification(topology, system, positions, args.temperature * unit.kelvin)
    positions = minimum(system, positions)
    harmonic, modes = normal_modes(system, positions, TRUE_GROUPS)
    model_error = normal_modes(system, positions, {0, 2})[0] - harmonic
    differences, places, all_costs = [], [], []
    for seed in range(1, args.starts + 1):
        peaks, frequencies, totals, costs = compare(system, positions, harmonic, modes, bonds, args, seed)
        differences.append(peaks["mollified"] - peaks["plain"])
        places.append(peaks["plain"])
        all_costs.append(costs)
        for name, cost in costs.items():
            print(f"start {seed}, {name}: " + ", ".join(f"{v:.3f} {k}" for k, v in cost.items()), flush=True)
        if seed == 1:
            plot(args.output.with_suffix(".png"), frequencies, totals)
    differences, place = np.array(differences), np.mean(places, axis=0)
    regions = {
        f"torsions below {SLOW:g} /cm": harmonic < SLOW,
        f"{SLOW:g} to {STRETCHES:g} /cm": (harmonic >= SLOW) & (harmonic < STRETCHES),
        "X-H stretches": harmonic >= STRETCHES,
    }
    summary = {name: summarise(differences[:, mask]) for name, mask in regions.items()}
    resolution = PER_CM / args.picoseconds
    print(f"Resolution {resolution:.1f} /cm (Hann window: lines {1.44 * resolution:.1f} wide), {args.starts} starts.")
    print("   harmonic      model   peak, xTB    mollified minus xTB, each start")
    for i, h in enumerate(harmonic):
        print(
            f"{h:11.1f}{model_error[i]:+11.1f}{place[i]:12.1f}    " + " ".join(f"{d:+7.2f}" for d in differences[:, i])
        )
    for name, values in summary.items():
        print(
            f"{name}: " + ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{v} {k}" for k, v in values.items())
        )
    result = {
        "picoseconds": args.picoseconds,
        "temperature": args.temperature,
        "resolution, /cm": resolution,
        "summary": summary,
        "harmonic, /cm": harmonic.tolist(),
        "model minus xTB, harmonic, /cm": model_error.tolist(),
        "peaks of xTB, /cm": place.tolist(),
        "mollified minus xTB, /cm": differences.tolist(),
        "runs": all_costs,
    }
    args.output.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
