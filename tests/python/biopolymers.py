"""Topologies of peptides and nucleic acids as Amber's force field defines their residues."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from pathlib import Path

import openmm
from openmm import app
from openmm.app import forcefield

PROTEIN = "amber14/protein.ff14SB.xml"
DNA = "amber14/DNA.OL15.xml"
WATER = "amber14/tip3p.xml"


@functools.cache
def _templates(file: str) -> dict[str, tuple[list, list]]:
    """(names and symbols of the atoms, bonds) of each residue of a force-field file of OpenMM."""
    root = ET.parse(Path(forcefield.__file__).parent / "data" / file).getroot()
    symbols = {t.get("name"): t.get("element") for t in root.find("AtomTypes")}
    return {
        r.get("name"): (
            [(a.get("name"), symbols[a.get("type")]) for a in r.findall("Atom")],
            [(b.get("atomName1"), b.get("atomName2")) for b in r.findall("Bond")],
        )
        for r in root.find("Residues")
    }


def polymer(*sequence: str, file: str = PROTEIN) -> app.Topology:
    """One chain of residues, each bonded to the next (C-N in proteins, O3'-P in DNA)."""
    topology = app.Topology()
    chain = topology.addChain()
    last = {}
    for name in sequence:
        atoms, bonds = _templates(file)[name]
        residue = topology.addResidue(name, chain)
        found = {n: topology.addAtom(n, app.Element.getBySymbol(s), residue) for n, s in atoms}
        for a, b in bonds:
            topology.addBond(found[a], found[b])
        for a, b in (("C", "N"), ("O3'", "P")):
            if a in last and b in found:
                topology.addBond(last[a], found[b])
        last = found
    return topology


def join(*topologies: app.Topology, bonded=lambda bond: True) -> app.Topology:
    """A copy of topologies one after the other, with the bonds of which ``bonded`` is true."""
    result = app.Topology()
    for topology in topologies:
        atoms = []
        for chain in topology.chains():
            added = result.addChain()
            for residue in chain.residues():
                copy = result.addResidue(residue.name, added)
                atoms += [result.addAtom(a.name, a.element, copy) for a in residue.atoms()]
        for bond in filter(bonded, topology.bonds()):
            result.addBond(atoms[bond.atom1.index], atoms[bond.atom2.index], bond.type, bond.order)
    return result


def unbonded(*symbols: str) -> app.Topology:
    """A residue of atoms without bonds, such as ions."""
    topology = app.Topology()
    residue = topology.addResidue("ION", topology.addChain())
    for symbol in symbols:
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    return topology


def add_bond(topology: app.Topology, first: tuple[int, str], second: tuple[int, str], **kwargs) -> None:
    """Bond atoms given by number of the residue and name."""
    atoms = list(topology.atoms())
    topology.addBond(atoms[index(topology, *first)], atoms[index(topology, *second)], **kwargs)


def index(topology: app.Topology, residue: int, name: str) -> int:
    return next(a.index for a in list(topology.residues())[residue].atoms() if a.name == name)


def select(topology: app.Topology, residue: int, without: str = "", only: str = "") -> list[int]:
    """The atoms of a residue, without some or only some, whose names are separated by spaces."""
    if only:
        return sorted(index(topology, residue, name) for name in only.split())
    return [a.index for a in list(topology.residues())[residue].atoms() if a.name not in without.split()]


def side_chain(topology: app.Topology, residue: int) -> list[int]:
    return select(topology, residue, without="N H H1 H2 H3 CA HA C O")


def charges_of(topology: app.Topology, *files: str) -> list[float]:
    """The force-field charges (e)."""
    system = app.ForceField(*files).createSystem(topology)
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    return [force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())]
