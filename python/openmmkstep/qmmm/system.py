"""createQMMMSystem: a force-field System in, a QM/MM System out."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable

import openmm
from openmm import app, unit

from .._units import CHARGE
from ..contract import readContract
from ..forces import KStepModelForce, XtbForce

CORRECTOR_GROUP = 1
MODEL_GROUP = 2
HARDNESS_ELEMENT = {"GFN1-xTB": 2, "GFN2-xTB": 10}
"""The uniform element of the embedding charges: helium or neon, whose hardness makes them nearly point-like."""

_CHARGE_TOLERANCE = 1e-4
_BONDED = (
    "HarmonicBondForce",
    "HarmonicAngleForce",
    "PeriodicTorsionForce",
    "RBTorsionForce",
    "CMAPTorsionForce",
    "CustomBondForce",
    "CustomAngleForce",
    "CustomTorsionForce",
)
_KEPT = (
    "CMMotionRemover",
    "AndersenThermostat",
    "CustomExternalForce",
    "CustomCentroidBondForce",
    "CustomCVForce",
    "RMSDForce",
)
_REFUSED = {
    "GBSAOBCForce": "implicit solvent would have to be solved together with the QM density",
    "CustomGBForce": "implicit solvent would have to be solved together with the QM density",
    "DrudeForce": "polarizable force fields would have to be solved together with the QM density",
    "AmoebaMultipoleForce": "polarizable force fields would have to be solved together with the QM density",
}


def createQMMMSystem(
    topology: app.Topology,
    mmSystem: openmm.System,
    qmAtoms: Iterable[int],
    method: str = "GFN2-xTB",
    charge: int = 0,
    multiplicity: int = 1,
    embedding: str = "electrostatic",
    model: str | os.PathLike | None = None,
) -> openmm.System:
    """Make a QM/MM System from a force-field one, for non-periodic systems without bonds between the regions.

    The QM atoms lose their bonded terms, constraints and nonbonded interactions with each other. Their
    Lennard-Jones and fixed-charge Coulomb interactions with the MM atoms stay in the NonbondedForce. An XtbForce in
    force group 1 adds E_xTB in the field of all MM charges minus that Coulomb interaction. The result holds the true
    Hamiltonian for any integrator. With a model, a KStepModelForce in group 2 stands in for the XtbForce where the
    energy of group 1 is not asked for.

    Terms of a CustomBondForce, CustomAngleForce or CustomTorsionForce among QM atoms count as force field and are
    removed: add restraints on QM atoms to the result, not to ``mmSystem``.

    Parameters
    ----------
    topology : Topology
        says which elements and bonds there are
    mmSystem : System
        the whole system by force field; it is not changed
    qmAtoms : iterable of int
        indices of the QM atoms: whole molecules. Their order is that of the model's atoms
    method : str
        'GFN1-xTB', 'GFN2-xTB'
    charge, multiplicity : int
        of the QM region
    embedding : str
        'electrostatic': MM charges polarize the QM region
    model : str or path, optional
        a k-step model file (see saveModel()) for the same atoms

    Returns
    -------
    System
        a new System

    Raises
    ------
    ValueError
        If the input does not allow this; the message says what was expected, what was found and what to do.
    """
    qm = [int(i) for i in qmAtoms]
    atoms = list(topology.atoms())
    _check_region(topology, mmSystem, qm)
    if embedding != "electrostatic":
        raise ValueError(
            f"Expected the embedding 'electrostatic', found {embedding!r}; no other is available in this version."
        )
    if method not in HARDNESS_ELEMENT:
        raise ValueError(
            f"Expected one of the methods {', '.join(HARDNESS_ELEMENT)} for electrostatic embedding, found {method!r}."
        )
    numbers = [atoms[i].element.atomic_number for i in qm]
    nonbonded = _find_nonbonded(mmSystem)
    fixed = [nonbonded.getParticleParameters(i)[0].value_in_unit(CHARGE) for i in qm]
    total = round(sum(fixed), 4) + 0.0  # the sum of -0.0 and 0.0 is 0.0
    if abs(total - charge) > _CHARGE_TOLERANCE:
        raise ValueError(
            f"The force-field charges of the QM atoms add up to {total:.4f} e, but the charge of the QM region is {charge} e; "
            "they must be equal. Check the charge and that qmAtoms holds whole molecules."
        )
    if model is not None:
        _check_model(model, numbers, charge, multiplicity, HARDNESS_ELEMENT[method])

    system = _without_qm_terms(mmSystem, set(qm))
    _exclude_qm_pairs(system, qm)
    try:
        xtb = XtbForce(method, qm, numbers, charge, multiplicity)
    except openmm.OpenMMException as e:
        raise ValueError(str(e)) from e
    xtb.setForceGroup(CORRECTOR_GROUP)
    forces = [xtb]
    if model is not None:
        standIn = KStepModelForce(model, qm)
        standIn.setForceGroup(MODEL_GROUP)
        standIn.setCorrectorForceGroup(CORRECTOR_GROUP)
        forces.append(standIn)
    sees_charges = [xtb] + [f for f in forces[1:] if "phi" in readContract(model).inputs]
    region = set(qm)
    for force in sees_charges:
        for j in range(system.getNumParticles()):
            q = nonbonded.getParticleParameters(j)[0]
            if j not in region and q != 0 * CHARGE:
                force.addEmbeddingCharge(j, q, HARDNESS_ELEMENT[method])
        for a, q in enumerate(fixed):
            force.setFixedCharge(a, q)
    for force in forces:
        system.addForce(force)
    return system


def _check_region(topology: app.Topology, system: openmm.System, qm: list[int]) -> None:
    num = topology.getNumAtoms()
    if num != system.getNumParticles():
        raise ValueError(
            f"The topology has {num} atoms but the System has {system.getNumParticles()} particles; they must be of the same system."
        )
    if not qm:
        raise ValueError("qmAtoms is empty: expected the indices of the QM atoms.")
    if len(set(qm)) != len(qm):
        raise ValueError("An atom occurs twice in qmAtoms.")
    if min(qm) < 0 or max(qm) >= num:
        raise ValueError(f"qmAtoms must be indices from 0 to {num - 1}, found {min(qm)} to {max(qm)}.")
    atoms = list(topology.atoms())
    for i in qm:
        if atoms[i].element is None:
            raise ValueError(
                f"QM atom {i} ({atoms[i].name}) has no element: virtual sites and dummy atoms cannot be in the QM region."
            )
        if system.isVirtualSite(i):
            raise ValueError(f"QM atom {i} ({atoms[i].name}) is a virtual site, which cannot be in the QM region.")
    region = set(qm)
    for bond in topology.bonds():
        a, b = bond.atom1.index, bond.atom2.index
        if (a in region) != (b in region):
            raise ValueError(
                f"The bond between atoms {a} and {b} crosses the border of the QM region. Cuts through bonds are not available in this version: put whole molecules into qmAtoms."
            )
    if system.usesPeriodicBoundaryConditions():
        raise ValueError(
            "The System is periodic. Only non-periodic systems (nonbondedMethod=NoCutoff, such as a droplet) are available in this version."
        )


def _find_nonbonded(system: openmm.System) -> openmm.NonbondedForce:
    found = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    if len(found) != 1:
        raise ValueError(f"Expected one NonbondedForce in the System, found {len(found)}.")
    force = found[0]
    if force.getNonbondedMethod() != openmm.NonbondedForce.NoCutoff:
        raise ValueError(
            "The NonbondedForce uses a cutoff, which would not agree with the embedding; create the System with nonbondedMethod=NoCutoff."
        )
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise ValueError(
            "The NonbondedForce has parameter offsets: charges that change with a parameter cannot be embedded."
        )
    return force


def _check_model(model, numbers: list[int], charge: int, multiplicity: int, hardness: int) -> None:
    contract = readContract(model)
    if contract.kind != "potential":
        raise ValueError(f"Expected a model of kind 'potential', found {contract.kind!r} in '{model}'.")
    if list(contract.species) != numbers:
        raise ValueError(
            f"Expected a model for the elements {numbers} of qmAtoms, in this order, found one for {list(contract.species)} in '{model}'."
        )
    if (contract.charge, contract.multiplicity) != (charge, multiplicity):
        raise ValueError(
            f"Expected a model for charge {charge} and multiplicity {multiplicity}, found one for {contract.charge} and {contract.multiplicity} in '{model}'."
        )
    if "phi" in contract.inputs and contract.hardnessElement != hardness:
        raise ValueError(
            f"Expected a model that was trained with the hardness element {hardness}, found {contract.hardnessElement} in '{model}'."
        )


def _particles_of(term: ET.Element) -> list[int]:
    """The particles of a bonded term in OpenMM's XML: attributes p1, p2..., or a1..a4 and b1..b4 of CMAP."""
    return [int(v) for k, v in term.attrib.items() if len(k) == 2 and k[0] in "pab" and k[1].isdigit()]


def _without_qm_terms(mmSystem: openmm.System, qm: set[int]) -> openmm.System:
    """A copy of the System without constraints and bonded terms among QM atoms.

    OpenMM's forces cannot lose terms, so this works on the XML, which holds every number exactly.
    """
    root = ET.fromstring(openmm.XmlSerializer.serialize(mmSystem))
    lists = [(root.find("Constraints"), "constraint")]
    for force in root.find("Forces"):
        kind = force.get("type")
        name = force.get("name") or kind
        if int(force.get("forceGroup", 0)) in (CORRECTOR_GROUP, MODEL_GROUP):
            raise ValueError(
                f"{name} is in force group {force.get('forceGroup')}; groups {CORRECTOR_GROUP} and {MODEL_GROUP} are for the corrector and the model. Move it with setForceGroup()."
            )
        if kind in _BONDED:
            lists += [(child, name) for child in force if child.tag in ("Bonds", "Angles", "Torsions")]
        elif kind in _REFUSED:
            raise ValueError(
                f"{name} cannot be part of a QM/MM System: {_REFUSED[kind]}. Use a fixed-charge force field and explicit solvent."
            )
        elif kind not in ("NonbondedForce", "CustomNonbondedForce", *_KEPT):
            raise ValueError(
                f"createQMMMSystem does not know what to do with a {kind}. Remove it from mmSystem; if it is a bias or restraint, add it to the result."
            )
    for terms, name in lists:
        for term in list(terms):
            inside = [p in qm for p in _particles_of(term)]
            if all(inside):
                terms.remove(term)
            elif any(inside) and name == "constraint":
                raise ValueError(
                    f"A constraint connects QM and MM atoms ({_particles_of(term)}); put whole molecules into qmAtoms."
                )
            elif any(inside):
                raise ValueError(
                    f"A term of {name} connects QM and MM atoms ({_particles_of(term)}); put whole molecules into qmAtoms."
                )
    return openmm.XmlSerializer.deserialize(ET.tostring(root, encoding="unicode"))


def _exclude_qm_pairs(system: openmm.System, qm: list[int]) -> None:
    region = set(qm)
    nonbonded = _find_nonbonded(system)
    for i in range(nonbonded.getNumExceptions()):
        p1, p2, product, _, epsilon = nonbonded.getExceptionParameters(i)
        if (p1 in region) != (p2 in region):
            raise ValueError(
                f"The NonbondedForce has an exception between QM and MM atoms ({p1}, {p2}), which the embedding does not know of; put whole molecules into qmAtoms."
            )
    for n, i in enumerate(qm):
        for j in qm[:n]:
            nonbonded.addException(i, j, 0, 0.1 * unit.nanometer, 0, True)
    for force in system.getForces():
        if isinstance(force, openmm.CustomNonbondedForce):
            excluded = {tuple(sorted(force.getExclusionParticles(i))) for i in range(force.getNumExclusions())}
            for n, i in enumerate(qm):
                for j in qm[:n]:
                    if tuple(sorted((i, j))) not in excluded:
                        force.addExclusion(i, j)
