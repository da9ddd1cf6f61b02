"""Small periodic systems for the tests of QM/MM set-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from conftest import water_positions, water_topology
from openmm import app, unit

DROPLET = Path(__file__).parents[2] / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb"
BOXES = {
    "cubic": np.diag([2.0, 2.0, 2.0]),
    "orthorhombic": np.diag([2.3, 1.9, 2.1]),
    "triclinic": np.array([[2.2, 0, 0], [0.4, 2.0, 0], [-0.3, 0.4, 1.9]]),
    "tilted": np.array([[2.2, 0, 0], [0.7, 2.0, 0], [-0.6, 0.8, 1.9]]),
}
"""Box vectors (nm) as rows, in OpenMM's reduced form.

In the tilted one the neighbour lists of OpenMM 8.6.1's Reference and CPU platforms lose pairs (openmm/openmm#5382): it
is for the QM region's own force only.
"""


def set_box(topology: app.Topology, box) -> None:
    if box is not None:
        topology.setPeriodicBoxVectors([openmm.Vec3(*v) for v in BOXES[box]] * unit.nanometer)


def nonbonded_of(system: openmm.System) -> openmm.NonbondedForce:
    return next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))


def create_system(force_field: app.ForceField, topology: app.Topology, box, **options) -> openmm.System:
    """Coulomb to about 1e-5 kJ/mol: all pairs without a box, Ewald's sum, or a fine mesh in triclinic boxes."""
    options = {"rigidWater": True, "removeCMMotion": False} | options
    if box is None:
        return force_field.createSystem(topology, nonbondedMethod=app.NoCutoff, **options)
    method = app.PME if box in ("triclinic", "tilted") else app.Ewald
    options = {"nonbondedMethod": method, "nonbondedCutoff": 0.9, "ewaldErrorTolerance": 1e-9} | options
    system = force_field.createSystem(topology, **options)
    nonbonded_of(system).setPMEParameters(4.6, 100, 100, 100)
    return system


def water_box(num: int, box: str, force_field: str = "amber14/tip3p.xml", spacing: float = 0.42, **options):
    """Topology, force-field System and positions (nm) of water molecules spread over a box, each one whole."""
    virtual_sites = "tip4p" in force_field
    topology = water_topology(num, virtual_sites)
    set_box(topology, box)
    system = create_system(app.ForceField(force_field), topology, box, **options)
    x = water_positions(num, 5, spacing, virtual_sites)
    return topology, system, with_virtual_sites(system, x)


def alanine_dipeptide(
    waters: int, box: str | None = None, protein: str = "amber14/protein.ff14SB.xml", **options
) -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Alanine dipeptide (atoms 0-21) and the waters of the example's droplet that are nearest to it."""
    pdb = app.PDBFile(str(DROPLET))
    x = np.array(pdb.positions.value_in_unit(unit.nanometer))
    oxygens = np.arange(22, len(x), 3)
    distance = np.linalg.norm(x[oxygens, None] - x[None, :22], axis=2).min(1)
    keep = set(oxygens[np.argsort(distance)[:waters]])
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.delete([r for r in pdb.topology.residues() if r.name == "HOH" and next(r.atoms()).index not in keep])
    modeller.topology.setPeriodicBoxVectors(None)
    set_box(modeller.topology, box)
    system = create_system(app.ForceField(protein, "amber14/tip3p.xml"), modeller.topology, box, **options)
    return modeller.topology, system, np.array(modeller.positions.value_in_unit(unit.nanometer))


def with_virtual_sites(system: openmm.System, x: np.ndarray) -> np.ndarray:
    """The positions with virtual sites where they belong."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    context.computeVirtualSites()
    return context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer).copy()
