"""Alanine dipeptide in a periodic box of water (PME): volume under pressure, and what the k-step schemes cost and conserve.

    python benchmarks/periodic.py --picoseconds 300

equilibrates some 2,000 atoms by the force field (kept beside the results), then runs three parts. 'mm' and 'qmmm': the
volume at 1 bar by the force field and by the scheme metropolis on GFN2-xTB, which must agree, since the solute is one
molecule of 670. 'schemes': the demo's settings at constant volume against plain xTB. The model is that of the demo,
which was trained in a droplet. One thread; some 4 s per picosecond for the volumes, 50 s for plain xTB. Parts can be run
one by one, also at the same time, and the table shows all that are in the results folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from alanine_dipeptide.comparison import Setting, run
from alanine_dipeptide.droplet import HEAVY_HYDROGEN, HERE, NUM_QM, PLATFORM, PLATFORM_PROPERTIES
from alanine_dipeptide.make_droplet import force_field
from qmmm_drift import set_ewald

from openmmkstep import KStepIntegrator, createQMMMSystem, findMollification
from openmmkstep.analysis import drift, heating_rate, mean_and_error

EDGE = 2.8  # nm
MM_SWITCHING, MM_CUTOFF = 0.7, 0.9  # nm
# Cutoff and the QM region's radius (0.43 to 0.5 nm) must fit into half of a box that is shrinking.
SWITCHING, CUTOFF = 0.6, 0.8  # nm
TEMPERATURE = 300.0  # K
EWALD, SPACING = 1e-6, 0.06  # error of PME's direct part; nm
DT, K = 0.002, 64  # ps, base steps
EQUILIBRATION = 20.0  # ps


class Box:
    """Topology, Systems and state of the box; what comparison.run() asks of a droplet."""

    def __init__(self):
        pdb = app.PDBFile(str(HERE / "alanine_droplet.pdb"))
        modeller = app.Modeller(pdb.topology, pdb.positions)
        modeller.deleteWater()
        modeller.addSolvent(force_field(), boxSize=openmm.Vec3(EDGE, EDGE, EDGE) * unit.nanometer, model="tip3p")
        self.topology = modeller.topology
        self.positions = modeller.positions

    @property
    def num_waters(self) -> int:
        return (self.topology.getNumAtoms() - NUM_QM) // 3

    def create_mm_system(self, heavy_hydrogen: bool) -> openmm.System:
        system = force_field().createSystem(
            self.topology,
            nonbondedMethod=app.PME,
            nonbondedCutoff=MM_CUTOFF,
            switchDistance=MM_SWITCHING,
            constraints=None,
            rigidWater=True,
            removeCMMotion=False,
            hydrogenMass=HEAVY_HYDROGEN * unit.dalton if heavy_hydrogen else None,
        )
        nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
        set_ewald(nonbonded, EWALD, SPACING, self.topology.getPeriodicBoxVectors())
        return system

    def create_system(self, with_model: bool, heavy_hydrogen: bool = False) -> openmm.System:
        return createQMMMSystem(
            self.topology,
            self.create_mm_system(heavy_hydrogen),
            range(NUM_QM),
            model=HERE / "model.pt" if with_model else None,
            cutoff=CUTOFF,
            switchingDistance=SWITCHING,
            positions=self.positions,
        )

    def set_state(self, state: openmm.State) -> None:
        """Take positions and box of a State for all Systems made from now on."""
        self.positions = state.getPositions()
        self.topology.setPeriodicBoxVectors(state.getPeriodicBoxVectors())


def add_barostat(system: openmm.System, frequency: int, seed: int) -> openmm.System:
    barostat = openmm.MonteCarloBarostat(1 * unit.bar, TEMPERATURE * unit.kelvin, frequency)
    barostat.setRandomNumberSeed(seed)
    system.addForce(barostat)
    return system


def new_context(system: openmm.System, integrator: openmm.Integrator, box: Box, seed: int) -> openmm.Context:
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(PLATFORM), PLATFORM_PROPERTIES)
    context.setPositions(box.positions)
    context.setVelocitiesToTemperature(TEMPERATURE, seed)
    return context


def langevin() -> openmm.Integrator:
    return openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, DT)


def volumes_along(
    context: openmm.Context, picoseconds: float, steps: int, name: str, minutes: float = np.inf
) -> list[float]:
    """Volumes (nm^3), one after each call of step(steps); after that many minutes the run ends early."""
    volumes = []
    context.setTime(0)
    end = time.monotonic() + 60 * minutes
    with tqdm(total=picoseconds, desc=f"{name:14s}", mininterval=0.2 if sys.stderr.isatty() else 20.0) as bar:
        while context.getTime()._value < picoseconds - 1e-6 and time.monotonic() < end:
            context.getIntegrator().step(steps)
            volumes.append(context.getState().getPeriodicBoxVolume()._value)
            bar.update(min(picoseconds, context.getTime()._value) - bar.n)
    return volumes


def equilibrated(folder: Path, seed: int) -> Box:
    """The box after a run at 1 bar by the force field; it is kept in the folder."""
    box = Box()
    file = folder / f"periodic_start_{seed}.xml"
    if not file.exists():
        system = add_barostat(box.create_mm_system(True), K, seed)
        context = new_context(system, langevin(), box, seed)
        openmm.LocalEnergyMinimizer.minimize(context, 10, 200)
        context.setVelocitiesToTemperature(TEMPERATURE, seed)
        volumes_along(context, EQUILIBRATION, K, "equilibration")
        state = context.getState(positions=True)
        file.write_text(openmm.XmlSerializer.serialize(state))
    box.set_state(openmm.XmlSerializer.deserialize(file.read_text()))
    return box


def measure_volume(box: Box, picoseconds: float, minutes: float, seed: int, qmmm: bool) -> dict:
    """The volume by one of the two Hamiltonians. Both barostats try once in K base steps."""
    if qmmm:
        integrator = KStepIntegrator(DT, K, "metropolis", TEMPERATURE, 1.0)
        context = new_context(add_barostat(box.create_system(True, True), 1, seed), integrator, box, seed)
        volumes = volumes_along(context, picoseconds, 1, "metropolis", minutes)
        statistics = {name: float(getattr(v, "_value", v)) for name, v in integrator.getStatistics().items()}
    else:
        context = new_context(add_barostat(box.create_mm_system(True), K, seed), langevin(), box, seed)
        volumes = volumes_along(context, picoseconds, K, "force field", minutes)
        statistics = {}
    return {"volumes": volumes, "picoseconds": context.getTime()._value, "statistics": statistics}


def settings(picoseconds: float, mollification) -> list[Setting]:
    return [
        Setting("plain xTB 0.5 fs", "plain", 0.0005, 1, picoseconds),
        Setting("impulse k = 4, 0.5 fs", "impulse", 0.0005, 4, 2 * picoseconds),
        Setting("deep mollified k = 8, 0.5 fs", "impulse", 0.0005, 8, 2 * picoseconds, mollification=mollification),
        Setting("metropolis k = 64, 2 fs, H = 3 u", "metropolis", DT, K, 20 * picoseconds, heavy_hydrogen=True),
    ]


def measure_schemes(box: Box, picoseconds: float, seed: int) -> list[dict]:
    """Cost, drift and statistics of each setting, from one start at the true Hamiltonian."""
    context = new_context(
        box.create_system(True, True), KStepIntegrator(DT, K, "metropolis", TEMPERATURE, 2.0), box, seed
    )
    volumes_along(context, 4.0, 1, "start")
    box.set_state(context.getState(positions=True))
    found = findMollification(box.topology, box.create_system(True), box.positions, deep=True)
    rows = []
    for setting in settings(picoseconds, found):
        result = run(box, setting, box.positions, seed)
        row = {"setting": setting.name, "picoseconds": result.picoseconds, "seconds_per_ps": result.seconds_per_ps}
        row["calls_per_ps"] = result.calls_per_ps
        if setting.is_nve:
            row["drift"], row["drift_error"] = drift(result.times, result.energies)
            row["sd(E)"] = float(np.std(result.energies))
            row["times"] = result.times
            row["energies"] = list(np.array(result.energies) - result.energies[0])
            if result.picoseconds >= 8:
                row["heating_rate"] = heating_rate(result.times, result.energies, TEMPERATURE)
        if setting.scheme != "plain":
            s = result.statistics
            row["sdD"] = s["sdD"]._value
            row["redone"] = s["redone"]
        if setting.scheme == "metropolis":
            row["first_accepted"] = s["firstAccepted"] / s["macroSteps"]
            row["accepted"] = s["accepted"] / s["macroSteps"]
            row["flips_per_ps"] = s["flips"] / result.picoseconds
        for region in ("qm", "mm"):
            row[f"T_{region}"] = mean_and_error(getattr(result, f"{region}_temperatures"))
        rows.append(row)
    return rows


def mean_volume(part: dict) -> tuple[float, float]:
    """Mean and error (nm^3) without the first tenth, in which the box still settles."""
    return mean_and_error(part["volumes"][len(part["volumes"]) // 10 :])


def report(parts: dict) -> str:
    lines = []
    volumes = {name: mean_volume(parts[name]) for name in ("mm", "qmmm") if name in parts}
    for name, (mean, error) in volumes.items():
        title = {"mm": "force field", "qmmm": "metropolis, QM/MM"}[name]
        lines.append(
            f"{title:36s}volume {mean:.4f} +- {error:.4f} nm^3 in {parts[name]['picoseconds']:.0f} ps at 1 bar"
        )
    if len(volumes) == 2:
        (a, da), (b, db) = volumes.values()
        lines.append(
            f"{'difference':36s}{100 * (b / a - 1):+.3f} % ({(b - a) / np.hypot(da, db):+.1f} standard errors)"
        )
        s = parts["qmmm"]["statistics"]
        lines.append(
            f"{'metropolis under pressure':36s}accepted at first {s['firstAccepted'] / s['macroSteps']:.3f}, at any "
            f"{s['accepted'] / s['macroSteps']:.4f}; xTB calls per macro-step {s['correctorCalls'] / s['macroSteps']:.2f}"
        )
    rows = parts.get("schemes", [])
    if rows:
        lines += [
            "",
            f"{'':36s}{'s/ps':>8s}{'xTB/ps':>9s}{'speed-up':>10s}{'drift, kJ/mol/ps':>22s}{'sd(D)':>8s}{'ps':>7s}",
        ]
    for row in rows:
        energy = f"{row['drift']:.3f} +- {row['drift_error']:.3f}" if "drift" in row else ""
        lines.append(
            f"{row['setting']:36s}{row['seconds_per_ps']:8.2f}{row['calls_per_ps']:9.1f}"
            f"{rows[0]['seconds_per_ps'] / row['seconds_per_ps']:9.1f}x{energy:>22s}{row.get('sdD', float('nan')):8.3f}"
            f"{row['picoseconds']:7.1f}"
        )
    for row in (row for row in rows if "accepted" in row):
        lines.append(
            f"{row['setting']:36s}accepted at first {row['first_accepted']:.3f}, at any {row['accepted']:.4f}; "
            f"{row['flips_per_ps']:.3f} flips/ps"
        )
    return "\n".join(lines)


def plot(parts: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (volume, energy) = plt.subplots(1, 2, figsize=(11, 4.2))
    for name, title in (("mm", "force field"), ("qmmm", "metropolis, QM/MM")):
        if name in parts:
            values = np.array(parts[name]["volumes"])
            times = np.linspace(0, parts[name]["picoseconds"], len(values))
            mean, error = mean_volume(parts[name])
            volume.plot(times, values, linewidth=0.6, label=f"{title}: {mean:.3f} +- {error:.3f}")
    volume.set(xlabel="time, ps", ylabel="volume, nm$^3$", title="Volume at 1 bar, 300 K")
    for row in (row for row in parts.get("schemes", []) if "energies" in row):
        energy.plot(row["times"], row["energies"], linewidth=0.8, label=row["setting"])
    energy.set(xlabel="time, ps", ylabel="total energy - start, kJ/mol", title="Energy conservation at constant volume")
    for axes in (volume, energy):
        if axes.lines:
            axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="mm, qmmm, schemes (default: all three, one after the other)")
    parser.add_argument("--picoseconds", type=float, default=300.0, help="length of each run under pressure")
    parser.add_argument("--minutes", type=float, default=np.inf, help="end a run under pressure after this time")
    parser.add_argument(
        "--plain", type=float, default=5.0, help="length (ps) of the run by plain xTB; the others run longer"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    box = equilibrated(args.folder, args.seed)
    for part in args.parts or ["mm", "qmmm", "schemes"]:
        if part == "schemes":
            result = measure_schemes(box, args.plain, args.seed)
        else:
            result = measure_volume(box, args.picoseconds, args.minutes, args.seed, part == "qmmm")
        (args.folder / f"periodic_{part}.json").write_text(json.dumps(result, indent=1))
    files = {part: args.folder / f"periodic_{part}.json" for part in ("mm", "qmmm", "schemes")}
    parts = {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}
    print(f"{box.topology.getNumAtoms()} atoms, {box.num_waters} waters\n")
    print(report(parts))
    plot(parts, args.folder / "periodic.png")


if __name__ == "__main__":
    main()
