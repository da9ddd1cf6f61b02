"""A run that may be killed at any time and started again: ``python killed_run.py FOLDER SCHEME STEPS``.

It continues from its reporters' files in FOLDER if there are any. Eight particles in a chain of anharmonic bonds, the
corrector a little stiffer than the model. Used by test_restart_kill.py.
"""

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import KStepIntegrator, KStepReporter, cutTable, cutTrajectory

NUM = 8
INTERVAL, CHECKPOINT_INTERVAL = 3, 12


def bonds(k: float, group: int) -> openmm.Force:
    force = openmm.CustomBondForce(f"0.5*{k}*(r-0.15)^2*(1-10*(r-0.15))")
    for i in range(NUM - 1):
        force.addBond(i, i + 1)
    force.setForceGroup(group)
    return force


def make_simulation(scheme: str) -> app.Simulation:
    topology = app.Topology()
    residue = topology.addResidue("CHN", topology.addChain())
    system = openmm.System()
    for i in range(NUM):
        topology.addAtom(f"C{i}", app.element.carbon, residue)
        system.addParticle(12)
    well = openmm.CustomExternalForce("50*(x^2+y^2+z^2)")
    for i in range(NUM):
        well.addParticle(i)
    for force in (bonds(2.0e5, 1), bonds(1.9e5, 2), well):
        system.addForce(force)
    integrator = KStepIntegrator(0.001, 4, scheme, 300, 1)
    integrator.setRandomNumberSeed(7)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    start = np.random.default_rng(8)
    simulation.context.setPositions(np.arange(NUM)[:, None] * [0.15, 0, 0] + 0.002 * start.normal(size=(NUM, 3)))
    simulation.context.setVelocities(0.4 * start.normal(size=(NUM, 3)) * unit.nanometer / unit.picosecond)
    return simulation


def run(folder: Path, scheme: str, steps: int) -> None:
    simulation = make_simulation(scheme)
    checkpoint, trajectory, table, log = (str(folder / f) for f in ("run.chk", "run.dcd", "run.csv", "log.csv"))
    if Path(checkpoint).exists():
        simulation.loadCheckpoint(checkpoint)
    step = simulation.currentStep
    regions = {"left": range(4), "right": range(4, NUM)}
    simulation.reporters = [
        app.DCDReporter(trajectory, INTERVAL, append=cutTrajectory(trajectory, step)),
        app.StateDataReporter(log, INTERVAL, step=True, kineticEnergy=True, append=cutTable(log, step) > 0),
        KStepReporter(table, INTERVAL, regions=regions, progress=False, totalSteps=steps, append=True),
        app.CheckpointReporter(checkpoint, CHECKPOINT_INTERVAL),
    ]
    print(f"running from {step}", flush=True)
    simulation.step(steps - step)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
