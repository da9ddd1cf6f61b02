"""Capped residues of villin with one proton more, and what is left without it: the same System, one particle less."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app, unit

from .files import load_villin
from .peptides import capped_peptide, force_field

_RESIDUES = {"ASH": (2, "HD2", 0), "LYS": (6, "HZ3", 1), "HIP": (26, "HE2", 1)}
"""Variant: index in villin, name of the proton that leaves, charge before it does."""


@dataclass
class Molecule:
    """A topology, its System by force field, positions (n, 3) in nm and the charge (e)."""

    topology: app.Topology
    system: openmm.System
    positions: np.ndarray
    charge: int

    def index(self, name: str, residue: int = 1) -> int:
        return next(a.index for a in list(self.topology.residues())[residue].atoms() if a.name == name)

    def side_chain(self) -> list[int]:
        """The atoms of the middle residue beyond CA."""
        backbone = ("N", "H", "CA", "HA", "C", "O")
        return [a.index for a in self.topology.atoms() if a.residue.index == 1 and a.name not in backbone]


def protonated_peptide(variant: str) -> Molecule:
    """ACE-X-NME at a minimum of the force field, X being 'ASH', 'LYS' or 'HIP'."""
    index, _, charge = _RESIDUES[variant]
    platform = openmm.Platform.getPlatformByName("Reference")
    topology, positions = load_villin()
    modeller = capped_peptide(topology, positions, index, index)
    random.seed(1)  # of Modeller
    modeller.addHydrogens(force_field(), variants=[None, variant, None], platform=platform)
    system = force_field().createSystem(modeller.topology, removeCMMotion=False)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    x = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return Molecule(modeller.topology, system, np.array(x), charge)


def deprotonated(molecule: Molecule, variant: str) -> Molecule:
    """The molecule without the proton of this variant; nothing else of its System changes, charges neither."""
    proton = molecule.index(_RESIDUES[variant][1])
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.delete([a for a in molecule.topology.atoms() if a.index == proton])
    x = np.delete(molecule.positions, proton, axis=0)
    return Molecule(modeller.topology, _without_particle(molecule.system, proton), x, molecule.charge - 1)


def _without_particle(system: openmm.System, particle: int) -> openmm.System:
    """A copy of a System of bonded forces and a NonbondedForce without one particle and all terms that it is in."""
    root = ET.fromstring(openmm.XmlSerializer.serialize(system))
    for particles in root.iter("Particles"):
        particles.remove(particles[particle])
    for parent in list(root.iter()):
        for term in list(parent):
            keys = [k for k in term.attrib if len(k) == 2 and k[0] == "p" and k[1].isdigit()]
            indices = [int(term.get(k)) for k in keys]
            if particle in indices:
                parent.remove(term)
            for key, i in zip(keys, indices, strict=True):
                term.set(key, str(i - (i > particle)))
    return openmm.XmlSerializer.deserialize(ET.tostring(root, encoding="unicode"))
