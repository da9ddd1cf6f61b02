"""Minimization and equilibration by the force field, kept in files: the folder 'prepared', which git ignores."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

PREPARED = Path(__file__).parent / "prepared"
TEMPERATURE = 300.0  # K
_DT = 0.002  # ps


def equilibrate(
    name: str,
    topology: app.Topology,
    system: openmm.System,
    positions,
    picoseconds: float,
    minimize: bool = True,
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Minimize, then run Langevin dynamics at 300 K (and 1 bar where there is a box).

    Parameters
    ----------
    name : str
        of the file
    picoseconds : float
        0: no dynamics and no file
    minimize : bool
        False for positions that come from dynamics already

    Returns
    -------
    positions : array of shape (atoms, 3)
        nm
    box : array of shape (3, 3) or None
        nm
    """
    path = PREPARED / f"{name}.npz"
    atoms = np.array([f"{a.residue.name} {a.name}" for a in topology.atoms()])
    if picoseconds > 0 and path.exists():
        with np.load(path) as kept:
            same = float(kept["picoseconds"]) == picoseconds and np.array_equal(kept["atoms"], atoms)
            if same:
                return kept["positions"], kept["box"] if kept["box"].size else None
    periodic = system.usesPeriodicBoundaryConditions()
    barostat = openmm.MonteCarloBarostat(1 * unit.bar, TEMPERATURE * unit.kelvin, 25)
    barostat.setRandomNumberSeed(1)
    if periodic:
        system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 2.0, _DT)
    integrator.setRandomNumberSeed(1)
    integrator.setConstraintTolerance(1e-6)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1", "DeterministicForces": "true"})
    if periodic:
        context.setPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    context.setPositions(positions)
    context.applyConstraints(1e-6)
    context.computeVirtualSites()
    if minimize:
        openmm.LocalEnergyMinimizer.minimize(context, 10, 100 if picoseconds > 0 else 10)
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    steps, chunk = round(picoseconds / _DT), 50
    bar = tqdm(
        total=steps,
        desc=name,
        disable=not progress or steps == 0,
        mininterval=0.2 if sys.stderr.isatty() else 15.0,
        unit="steps",
    )
    with bar:
        for done in range(0, steps, chunk):
            integrator.step(min(chunk, steps - done))
            bar.update(min(chunk, steps - done))
    state = context.getState(positions=True)
    x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) if periodic else None
    if picoseconds > 0:
        PREPARED.mkdir(exist_ok=True)
        np.savez(path, positions=x, box=np.zeros(0) if box is None else box, atoms=atoms, picoseconds=picoseconds)
    return x, box
