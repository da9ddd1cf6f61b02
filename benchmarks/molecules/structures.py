"""Molecules from xyz files: alone, or in a drop of water held together by flat-bottom restraints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from openmmkstep import KStepModelForce, XtbForce
from openmmkstep.data import findBonds

HERE = Path(__file__).parent
SPRING = 1000.0  # kJ/mol/nm^2
MARGIN = 0.9  # nm of water around the molecule before the nearest waters are chosen


def read_xyz(name: str) -> tuple[list[app.Element], np.ndarray]:
    """Elements and positions (nm) of NAME.xyz."""
    lines = (HERE / f"{name}.xyz").read_text().splitlines()[2:]
    rows = [line.split() for line in lines if line.strip()]
    return [app.Element.getBySymbol(r[0]) for r in rows], np.array([[float(v) for v in r[1:4]] for r in rows]) / 10


def make_topology(elements, positions, residues: dict[str, int]) -> app.Topology:
    """A topology with bonds by distance; residues: names and numbers of atoms, in order."""
    topology = app.Topology()
    chain, atoms = topology.addChain(), []
    for name, count in residues.items():
        residue = topology.addResidue(name, chain)
        for element in elements[len(atoms) : len(atoms) + count]:
            atoms.append(topology.addAtom(f"{element.symbol}{len(atoms)}", element, residue))
    for a, b in findBonds([e.atomic_number for e in elements], positions):
        topology.addBond(atoms[a], atoms[b])
    return topology


def gas_phase(name: str, charge: int = 0) -> tuple[app.Topology, np.ndarray, Callable]:
    """A molecule alone by GFN2-xTB: topology, positions and create(model), as a set-up file defines them."""
    elements, x = read_xyz(name)
    topology = make_topology(elements, x, {name[:3].upper(): len(elements)})

    def create(model) -> openmm.System:
        system = openmm.System()
        for element in elements:
            system.addParticle(element.mass)
        xtb = XtbForce("GFN2-xTB", range(len(elements)), [e.atomic_number for e in elements], charge)
        xtb.setForceGroup(1)
        system.addForce(xtb)
        if model is not None:
            force = KStepModelForce(model, range(len(elements)))
            force.setForceGroup(2)
            system.addForce(force)
        return system

    return topology, x, create


def droplet(
    name: str, residues: dict[str, int], force_field: app.ForceField, waters: int, radius: float
) -> tuple[app.Topology, np.ndarray, openmm.System]:
    """Topology, positions and force-field System of a molecule in the nearest water molecules, centred on the origin."""
    elements, x = read_xyz(name)
    topology = make_topology(elements, x, residues)
    edge = np.ptp(x, axis=0).max() + 2 * MARGIN
    x += 0.5 * edge - 0.5 * (x.min(axis=0) + x.max(axis=0))
    modeller = app.Modeller(topology, x * unit.nanometer)
    box = openmm.Vec3(edge, edge, edge) * unit.nanometer
    modeller.addSolvent(force_field, model="tip3p", boxSize=box, neutralize=False)
    molecules = [r for r in modeller.topology.residues() if r.name == "HOH"]
    y = np.array(modeller.positions.value_in_unit(unit.nanometer))
    oxygens = y[[next(r.atoms()).index for r in molecules]]
    distances = np.linalg.norm(oxygens[:, None] - x, axis=2).min(axis=1)
    modeller.delete([molecules[i] for i in np.argsort(distances, kind="stable")[waters:]])
    modeller.topology.setPeriodicBoxVectors(None)
    mm = force_field.createSystem(
        modeller.topology,
        nonbondedMethod=app.NoCutoff,
        rigidWater=True,
        removeCMMotion=False,
        hydrogenMass=3 * unit.dalton,
    )
    restraint = openmm.CustomExternalForce(f"0.5*{SPRING}*max(0, sqrt(x*x+y*y+z*z)-{radius})^2")
    for atom in modeller.topology.atoms():
        if atom.element is not app.element.hydrogen:
            restraint.addParticle(atom.index, [])
    mm.addForce(restraint)
    y = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return modeller.topology, y - 0.5 * edge, mm
