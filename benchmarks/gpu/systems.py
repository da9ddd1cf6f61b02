"""What the benchmarks of this folder share: the platform, and alanine dipeptide in a PME box of any size."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import createQMMMSystem

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from alanine_dipeptide.make_droplet import force_field

MODEL = EXAMPLES / "alanine_dipeptide" / "model.pt"
NUM_QM = 22


def parser(description: str, atoms: int = 25_000) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--platform", default="CUDA", help="CUDA or OpenCL")
    result.add_argument("--precision", default="mixed")
    result.add_argument("--atoms", type=int, default=atoms)
    result.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    return result


def new_context(system, integrator, positions, args: argparse.Namespace) -> openmm.Context:
    platform = openmm.Platform.getPlatformByName(args.platform)
    context = openmm.Context(system, integrator, platform, {"Precision": args.precision})
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300, 1)
    return context


def solvated(atoms: int) -> tuple[app.Topology, openmm.System, np.ndarray]:
    """The droplet's molecule in a cubic box of rigid water with PME at 0.9 nm, and positions (nm) that were relaxed."""
    pdb = app.PDBFile(str(EXAMPLES / "alanine_dipeptide" / "alanine_droplet.pdb"))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.delete([r for r in pdb.topology.residues() if r.name == "HOH"])
    modeller.topology.setPeriodicBoxVectors(None)
    modeller.addSolvent(force_field(), model="tip3p", numAdded=(atoms - NUM_QM) // 3)
    system = force_field().createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        rigidWater=True,
        removeCMMotion=False,
        hydrogenMass=3 * unit.dalton,
    )
    integrator = openmm.LangevinMiddleIntegrator(300, 10, 0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 200, 30)
    return modeller.topology, system, context.getState(getPositions=True).getPositions(asNumpy=True)._value


def with_model(
    topology: app.Topology, system: openmm.System, positions: np.ndarray, model: bool = True
) -> openmm.System:
    """The QM/MM System of the box, embedded to 1.0 nm."""
    return createQMMMSystem(
        topology,
        system,
        range(NUM_QM),
        method="GFN2-xTB",
        model=MODEL if model else None,
        positions=positions,
        cutoff=1.0,
        switchingDistance=0.9,
    )
