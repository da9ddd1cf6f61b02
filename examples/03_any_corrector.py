"""Any Force as corrector: a quantum program called from Python, with a cheap model in the steps between its calls.

The corrector is a PythonForce over tblite's GFN2-xTB, which stands for any program that returns an energy and forces (a DFT
code, a universal potential); openmm-ml's mechanical embedding puts it into a droplet of water. Two models take its place in
between: a k-step model, and GFN-FF, a force field that needs no training. Compares impulse and metropolis with a call at
every step: calls, seconds, drift of the energy, acceptance, a bond length. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from openmmml import MLPotential
from tblite.interface import Calculator

from openmmkstep import KStepIntegrator
from openmmkstep.analysis import drift, mean_and_error
from openmmkstep.ml import createKStepSystem

HERE = Path(__file__).parent / "alanine_dipeptide"
QM = range(22)
CARBONYL = (4, 5)  # a carbon and its oxygen
TEMPERATURE = 300  # K
EQUILIBRATION = 0.5  # ps
KJ_PER_HARTREE, NM_PER_BOHR = 2625.4996394799, 0.0529177210903


class TBLite:
    """What a PythonForce calls: positions of the QM atoms in, energy (kJ/mol) and forces (kJ/mol/nm) out."""

    def __init__(self, numbers):
        self.numbers = np.array(numbers)
        self.calls = 0
        self._calculator = self._result = None

    def __call__(self, state):
        x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer) / NM_PER_BOHR
        self.calls += 1
        if self._calculator is None:
            self._calculator = Calculator("GFN2-xTB", self.numbers, x)
            self._calculator.set("verbosity", 0)
            self._calculator.set("accuracy", 0.05)  # what the SCF leaves over drifts
        self._calculator.update(x)
        try:
            # The last wavefunction is the next one's first guess.
            self._result = self._calculator.singlepoint(self._result)
        except RuntimeError:
            # No energy: a rejected proposal, or a macro-step that KStepIntegrator repeats with a smaller k.
            self._result = None
            return np.nan, np.zeros_like(x)
        energy, gradient = self._result.get("energy"), self._result.get("gradient")
        return energy * KJ_PER_HARTREE, -gradient * (KJ_PER_HARTREE / NM_PER_BOHR)


@dataclass
class Setting:
    """One run: a line of the table."""

    model: str
    scheme: str
    base_step: float  # ps
    k: int
    picoseconds: float

    @property
    def name(self) -> str:
        how = f"{self.scheme} k = {self.k}, {1000 * self.base_step:g} fs"
        return "every 0.5 fs" if self.model == "none" else f"{self.model}, {how}"


def settings(picoseconds: float) -> list[Setting]:
    return [
        Setting("none", "impulse", 0.0005, 1, picoseconds),
        Setting("k-step model", "impulse", 0.0005, 4, picoseconds),
        Setting("k-step model", "metropolis", 0.001, 64, 4 * picoseconds),
        Setting("GFN-FF", "impulse", 0.0005, 4, picoseconds),
    ]


class Droplet:
    """The molecule in water: topology, positions, and Systems with one of the models."""

    def __init__(self):
        pdb = app.PDBFile(str(HERE / "alanine_droplet.pdb"))
        self.topology, self.positions = pdb.topology, pdb.positions
        force_field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
        self.mm = force_field.createSystem(self.topology, nonbondedMethod=app.NoCutoff, rigidWater=True)
        self.numbers = [a.element.atomic_number for a in self.topology.atoms()][: len(QM)]

    def create(self, model: str) -> tuple[openmm.System, TBLite]:
        models = {"none": None, "k-step model": HERE / "model.pt", "GFN-FF": MLPotential("gfn-ff")}
        corrector = TBLite(self.numbers)
        system = createKStepSystem(
            self.topology, self.mm, QM, openmm.PythonForce(corrector), models[model], positions=self.positions
        )
        return system, corrector


def equilibrate(droplet: Droplet, picoseconds: float, seed: int) -> openmm.State:
    """A state at 300 K, by metropolis on the k-step model."""
    system, _ = droplet.create("k-step model")
    integrator = KStepIntegrator(0.001, 10, "metropolis", temperature=TEMPERATURE, friction=10)
    integrator.setRandomNumberSeed(seed)
    simulation = app.Simulation(droplet.topology, system, integrator)
    simulation.context.setPositions(droplet.positions)
    simulation.minimizeEnergy(maxIterations=30)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    simulation.step(max(1, round(picoseconds / 0.01)))
    return simulation.context.getState(positions=True, velocities=True)


def run(droplet: Droplet, setting: Setting, start: openmm.State, seed: int) -> dict:
    """What a run costs and what it finds."""
    system, corrector = droplet.create(setting.model)
    metropolis = setting.scheme == "metropolis"
    integrator = KStepIntegrator(
        setting.base_step, setting.k, setting.scheme, temperature=TEMPERATURE if metropolis else None
    )
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator)
    context.setPositions(start.getPositions())
    context.setVelocities(start.getVelocities())
    steps = round(setting.picoseconds / (setting.base_step * setting.k))
    interval = max(1, round(0.01 / (setting.base_step * setting.k)))  # macro-steps between samples
    integrator.step(1)  # the first call is slow everywhere
    calls, begin = corrector.calls, time.process_time()
    times, energies, lengths = [], [], []
    for _ in range(max(8, steps // interval)):
        integrator.step(interval)
        x = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        lengths.append(float(np.linalg.norm(x[CARBONYL[0]] - x[CARBONYL[1]])))
        if not metropolis:
            times.append(context.getTime().value_in_unit(unit.picosecond))
            energies.append(integrator.computeConservedEnergy().value_in_unit(unit.kilojoule_per_mole))
    seconds, calls = time.process_time() - begin, corrector.calls - calls
    statistics = integrator.getStatistics()
    # In metropolis path time advances with every test.
    length = len(lengths) * interval * setting.base_step * setting.k
    result = {
        "calls_per_ps": calls / length,
        "cpu_seconds_per_ps": seconds / length,
        "carbonyl_length_nm": mean_and_error(lengths),
    }
    if metropolis:
        result["acceptance"] = statistics["firstAccepted"] / statistics["macroSteps"]
    else:
        result["drift"] = drift(times, energies)
        result["spread"] = float(np.std(energies))
    if setting.model != "none":
        result["sd_D"] = statistics["sdD"].value_in_unit(unit.kilojoule_per_mole)
    return result


def report(results: dict[str, dict]) -> str:
    lines = [
        f"{'':44}{'calls/ps':>9}{'CPU s/ps':>10}{'sd(D)':>8}{'drift, kJ/mol/ps':>20}{'accepted':>10}{'C=O, pm':>16}",
    ]
    for name, r in results.items():
        slope = "{:8.2f} +- {:.2f}".format(*r["drift"]) if "drift" in r else ""
        accepted = f"{r['acceptance']:.2f}" if "acceptance" in r else ""
        spread = f"{r['sd_D']:.2f}" if "sd_D" in r else ""
        mean, error = (1000 * v for v in r["carbonyl_length_nm"])
        lines.append(
            f"{name:44}{r['calls_per_ps']:9.0f}{r['cpu_seconds_per_ps']:10.2f}{spread:>8}{slope:>20}{accepted:>10}"
            f"{f'{mean:.1f} +- {error:.1f}':>16}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picoseconds", type=float, default=2.0, help="length of the dynamics runs (default: 2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the numbers")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    droplet = Droplet()
    start = equilibrate(droplet, min(EQUILIBRATION, args.picoseconds), args.seed)
    results = {}
    for setting in settings(args.picoseconds):
        print(f"{setting.name} ...", flush=True)
        results[setting.name] = run(droplet, setting, start, args.seed)
    print(report(results))
    (args.output / "any_corrector.json").write_text(json.dumps(results, indent=1))
    print(f"\nNumbers: {args.output}/any_corrector.json")


if __name__ == "__main__":
    main()
