"""The QM/MM droplet of the demo: alanine dipeptide (QM, GFN2-xTB) in 165 rigid TIP3P waters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import createQMMMSystem

from .make_droplet import add_restraints, force_field

HERE = Path(__file__).parent
NUM_QM = 22
PLATFORM = "CPU"
PLATFORM_PROPERTIES = {"Threads": "1"}
HEAVY_HYDROGEN = 3.0  # dalton


class Droplet:
    """Topology, start and Systems of the droplet."""

    def __init__(self, model: str | Path | None = HERE / "model.pt"):
        pdb = app.PDBFile(str(HERE / "alanine_droplet.pdb"))
        pdb.topology.setPeriodicBoxVectors(None)
        self.topology = pdb.topology
        self.positions = pdb.positions
        self.model = model

    def mm_charges(self) -> np.ndarray:
        """Force-field charges (e) of the water atoms, in order."""
        system = force_field().createSystem(self.topology, nonbondedMethod=app.NoCutoff)
        nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
        return np.array(
            [nonbonded.getParticleParameters(i)[0]._value for i in range(NUM_QM, nonbonded.getNumParticles())]
        )

    def create_system(self, with_model: bool, heavy_hydrogen: bool = False) -> openmm.System:
        """The QM/MM System. Heavy hydrogens take 2 Da from the heavy atom they are bonded to, in the QM region only."""
        classical = force_field().createSystem(
            self.topology,
            nonbondedMethod=app.NoCutoff,
            constraints=None,
            rigidWater=True,
            removeCMMotion=False,
            hydrogenMass=HEAVY_HYDROGEN * unit.dalton if heavy_hydrogen else None,
        )
        add_restraints(classical, self.topology)
        return createQMMMSystem(
            self.topology,
            classical,
            range(NUM_QM),
            method="GFN2-xTB",
            model=self.model if with_model else None,
            positions=self.positions,
        )
