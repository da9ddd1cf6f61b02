"""Peptides cut out of proteins: a stretch of residues between an acetyl (ACE) and an N-methylamide (NME) cap."""

from __future__ import annotations

import random

import numpy as np
import openmm
from openmm import app, unit

# The cap's atoms (right) are backbone atoms (left) of the residue before or after the stretch.
_ACE = {"CA": "CH3", "C": "C", "O": "O"}
_NME = {"N": "N", "CA": "C"}
_MARGIN = 1.0  # nm, of water around a solute from which a droplet is taken
_RESTRAINT = 1000.0  # kJ/mol/nm^2


def force_field() -> app.ForceField:
    """The force field of all systems that do not come with AMBER files of their own."""
    return app.ForceField("amber14-all.xml", "amber14/tip3p.xml")


def capped_peptide(topology: app.Topology, positions, first: int, last: int) -> app.Modeller:
    """Cut residues first to last (indices in the topology, both included) out of a protein and cap them.

    The protein must go on by one residue on either side. Hydrogens are placed anew, in the same way each time.
    """
    random.seed(1)  # of Modeller
    residues = list(topology.residues())
    x = np.array(positions.value_in_unit(unit.nanometer))
    peptide = app.Topology()
    chain = peptide.addChain()
    found = []
    for i in range(first - 1, last + 2):
        name, names = residues[i].name, None
        if i == first - 1:
            name, names = "ACE", _ACE
        elif i == last + 1:
            name, names = "NME", _NME
        new = peptide.addResidue(name, chain)
        for atom in residues[i].atoms():
            if atom.element is not app.element.hydrogen and (names is None or atom.name in names):
                peptide.addAtom(names[atom.name] if names else atom.name, atom.element, new)
                found.append(x[atom.index])
    peptide.createStandardBonds()
    modeller = app.Modeller(peptide, np.array(found) * unit.nanometer)
    modeller.addHydrogens(force_field(), platform=openmm.Platform.getPlatformByName("Reference"))
    return modeller


def solvate(modeller: app.Modeller, edge: float, molar: float) -> None:
    """Fill a cubic box of this edge (nm) with water, counter-ions and sodium chloride of this concentration."""
    random.seed(2)
    box = openmm.Vec3(edge, edge, edge) * unit.nanometer
    modeller.addSolvent(force_field(), model="tip3p", boxSize=box, ionicStrength=molar * unit.molar)


def make_droplet(modeller: app.Modeller, waters: int) -> None:
    """Add the water molecules nearest to the peptide, without a periodic box, centred on the origin."""
    random.seed(2)
    solute = np.array(modeller.positions.value_in_unit(unit.nanometer))
    low, high = solute.min(axis=0), solute.max(axis=0)
    edge = (high - low).max() + 2 * _MARGIN
    # Modeller fills the box from the corner at the origin.
    solute += 0.5 * (edge - low - high)
    modeller.positions = solute * unit.nanometer
    box = openmm.Vec3(edge, edge, edge) * unit.nanometer
    modeller.addSolvent(force_field(), model="tip3p", boxSize=box, neutralize=False)
    molecules = [r for r in modeller.topology.residues() if r.name == "HOH"]
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    oxygens = x[[next(r.atoms()).index for r in molecules]]
    distances = np.linalg.norm(oxygens[:, None] - solute, axis=2).min(axis=1)
    order = np.argsort(distances, kind="stable")
    if distances[order[waters - 1]] > _MARGIN:
        raise ValueError(
            f"The nearest {waters} waters reach further than the {_MARGIN} nm around the solute; raise it."
        )
    modeller.delete([molecules[i] for i in order[waters:]])
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    modeller.positions = (x - 0.5 * edge) * unit.nanometer
    modeller.topology.setPeriodicBoxVectors(None)


def droplet_restraint(topology: app.Topology, radius: float, centre: int) -> openmm.CustomExternalForce:
    """Flat-bottom restraints: heavy atoms within the radius (nm) of the origin, one atom of the solute within 0.2 nm."""
    restraint = openmm.CustomExternalForce("0.5*restraintK*max(0, sqrt(x*x+y*y+z*z)-radius)^2")
    restraint.addGlobalParameter("restraintK", _RESTRAINT)
    restraint.addPerParticleParameter("radius")
    restraint.setName("Restraint")
    for atom in topology.atoms():
        if atom.element is not app.element.hydrogen:
            restraint.addParticle(atom.index, [0.2 if atom.index == centre else radius])
    return restraint
