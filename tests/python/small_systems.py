"""Small periodic systems for the tests of QM/MM set-up."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import openmm
from conftest import get_positions, water_positions, water_topology
from openmm import app, unit

from openmmkstep import XtbForce, cast

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


THREE_SITES = """
<ForceField>
 <AtomTypes>
  <Type name="qm-O" class="OW" element="O" mass="15.99943"/>
  <Type name="qm-H" class="HW" element="H" mass="1.007947"/>
 </AtomTypes>
 <Residues>
  <Residue name="QMW">
   <Atom name="O" type="qm-O"/> <Atom name="H1" type="qm-H"/> <Atom name="H2" type="qm-H"/>
   <Bond from="0" to="1"/> <Bond from="0" to="2"/>
  </Residue>
 </Residues>
 <HarmonicBondForce><Bond class1="OW" class2="HW" length="0.09572" k="462750.4"/></HarmonicBondForce>
 <HarmonicAngleForce><Angle class1="HW" class2="OW" class3="HW" angle="1.8242" k="836.8"/></HarmonicAngleForce>
 <NonbondedForce coulomb14scale="0.833333" lj14scale="0.5">
  <Atom type="qm-O" charge="-0.834" sigma="0.3150752" epsilon="0.635968"/>
  <Atom type="qm-H" charge="0.417" sigma="1" epsilon="0"/>
 </NonbondedForce>
</ForceField>
"""
"""A water of three sites for the QM region among waters of four."""


def water_box(num: int, box: str, force_field: str = "amber14/tip3p.xml", spacing: float = 0.42, **options):
    """Topology, force-field System and positions (nm) of water molecules spread over a box, each one whole.

    The first molecule, in the middle, has three sites whatever the force field.
    """
    virtual_sites = "tip4p" in force_field
    topology = water_topology(num, virtual_sites)
    x = water_positions(num, 5, spacing, virtual_sites)
    files = [force_field]
    if virtual_sites:
        modeller = app.Modeller(topology, x * unit.nanometer)
        modeller.delete([list(topology.atoms())[3]])
        topology, x = modeller.topology, np.delete(x, 3, axis=0)
        files.append(io.StringIO(THREE_SITES))
    set_box(topology, box)
    system = create_system(app.ForceField(*files), topology, box, **options)
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
    context = new_context(system, x)
    context.computeVirtualSites()
    return get_positions(context)


def new_context(system: openmm.System, x: np.ndarray, platform: str = "Reference") -> openmm.Context:
    """A Context of a copy of the System, with xTB's SCF tight enough for differences of energies."""
    system = copy.deepcopy(system)
    for force in map(cast, system.getForces()):
        if isinstance(force, XtbForce):
            force.setAccuracy(0.001)
    integrator = openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions(x)
    return context


def molecules_of(topology: app.Topology) -> list[list[int]]:
    """The atoms of each molecule, virtual sites with their residue."""
    molecule = list(range(topology.getNumAtoms()))
    pairs = [(b.atom1.index, b.atom2.index) for b in topology.bonds()]
    for residue in topology.residues():
        first, *others = [a.index for a in residue.atoms()]
        pairs += [(first, i) for i in others]
    for i, j in pairs:
        old, new = molecule[j], molecule[i]
        molecule = [new if m == old else m for m in molecule]
    return [[i for i, m in enumerate(molecule) if m == n] for n in sorted(set(molecule))]


def wrapped_at_random(topology: app.Topology, x: np.ndarray, box: np.ndarray, seed: int) -> np.ndarray:
    """Each molecule moved by box vectors of its own."""
    rng = np.random.default_rng(seed)
    x = x.copy()
    for molecule in molecules_of(topology):
        x[molecule] += rng.integers(-2, 3, 3) @ box
    return x
