"""Which classical terms stay when a QM region is taken out of a force-field System.

GROMACS's rule: bond terms among QM atoms go, angles with two or more QM atoms, torsions with three or more. The bond term
of a cut bond stays, since a link atom lies at a fixed distance; the link atom supplies the bends and torsions. Pairs of
atoms two or three bonds apart (Urey-Bradley, 1-4) follow the rule of the angles and torsions that they belong to.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

import openmm
from openmm import unit

from .graph import pathsBetween

CORRECTOR_GROUP = 1
MODEL_GROUP = 2

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
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloFlexibleBarostat",
    "MonteCarloMembraneBarostat",
    "CustomExternalForce",
    "CustomCentroidBondForce",
    "CustomCVForce",
    "RMSDForce",
)
_IMPLICIT = "implicit solvent would have to be solved together with the QM density"
_POLARIZABLE = "polarizable force fields would have to be solved together with the QM density"
_REFUSED = {
    "GBSAOBCForce": _IMPLICIT,
    "CustomGBForce": _IMPLICIT,
    "AmoebaGeneralizedKirkwoodForce": _IMPLICIT,
    "DrudeForce": _POLARIZABLE,
    "AmoebaMultipoleForce": _POLARIZABLE,
    "AmoebaVdwForce": _POLARIZABLE,
    "HippoNonbondedForce": _POLARIZABLE,
}
_MOST_QM = {3: 1, 4: 2}
"""The largest number of QM atoms with which an angle (three atoms) or torsion (four) stays."""


def withoutQMTerms(mmSystem: openmm.System, neighbours: Sequence[Sequence[int]], qm: set[int]) -> openmm.System:
    """A copy of the System without constraints and bonded terms that the QM region takes over.

    OpenMM's forces cannot lose terms, so this works on the XML, which holds every number exactly.

    Raises
    ------
    ValueError
        If the System holds forces that QM/MM cannot have, or terms between the regions that follow no bond.
    """
    root = ET.fromstring(openmm.XmlSerializer.serialize(mmSystem))
    constraints = root.find("Constraints")
    for term in list(constraints):
        inside = [p in qm for p in _particles_of(term)]
        if all(inside):
            constraints.remove(term)
        elif any(inside):
            raise ValueError(
                f"A constraint connects QM and MM atoms ({_particles_of(term)}), but a cut bond must be flexible. Create "
                "the System with constraints=HBonds or None, or put whole molecules into qmAtoms."
            )
    for force in root.find("Forces"):
        kind = force.get("type")
        name = force.get("name") or kind
        _check_force(force, kind, name)
        for terms in force:
            if kind in _BONDED and terms.tag in ("Bonds", "Angles", "Torsions"):
                for term in list(terms):
                    if not _stays(_particles_of(term), name, neighbours, qm):
                        terms.remove(term)
    return openmm.XmlSerializer.deserialize(ET.tostring(root, encoding="unicode"))


def _check_force(force: ET.Element, kind: str, name: str) -> None:
    if kind in ("XtbForce", "KStepModelForce"):
        raise ValueError(
            f"mmSystem has a QM region already ({name}). createQMMMSystem makes one QM region: start from the force-field "
            "System and put the atoms of all parts into qmAtoms together."
        )
    if int(force.get("forceGroup", 0)) in (CORRECTOR_GROUP, MODEL_GROUP):
        raise ValueError(
            f"{name} is in force group {force.get('forceGroup')}; groups {CORRECTOR_GROUP} and {MODEL_GROUP} are for the "
            "corrector and the model. Move it with setForceGroup()."
        )
    if kind in _REFUSED:
        raise ValueError(
            f"{name} cannot be part of a QM/MM System: {_REFUSED[kind]}. Use a fixed-charge force field and explicit solvent."
        )
    if kind not in ("NonbondedForce", "CustomNonbondedForce", *_BONDED, *_KEPT):
        raise ValueError(
            f"createQMMMSystem does not know what to do with a {kind}. Remove it from mmSystem; if it is a bias or "
            "restraint, add it to the result."
        )


def _particles_of(term: ET.Element) -> list[int]:
    """The particles of a bonded term in OpenMM's XML: attributes p1, p2..., or a1..a4 and b1..b4 of CMAP."""
    return [int(v) for k, v in term.attrib.items() if len(k) == 2 and k[0] in "pab" and k[1].isdigit()]


def _stays(particles: list[int], name: str, neighbours: Sequence[Sequence[int]], qm: set[int]) -> bool:
    inside = [p in qm for p in particles]
    if all(inside):
        return False
    if not any(inside):
        return True
    # Terms between the regions must follow the bonds that are cut, or the topology does not know of a bond.
    if len(particles) == 2:
        paths = pathsBetween(neighbours, *particles)
        if not paths:
            raise _connects(name, particles)
        return any(_path_stays(path, qm) for path in paths)
    if not any(n not in qm for p in particles if p in qm for n in neighbours[p]):
        raise _connects(name, particles)
    if len(particles) == 8:  # CMAP: two torsions
        return _path_stays(particles[:4], qm) and _path_stays(particles[4:], qm)
    return sum(inside) <= _MOST_QM[len(particles)]


def _path_stays(path, qm: set[int]) -> bool:
    return len(path) == 2 or sum(p in qm for p in path) <= _MOST_QM[len(path)]


def _connects(name: str, particles: list[int]) -> ValueError:
    return ValueError(
        f"A term of {name} connects QM and MM atoms ({particles}) although no bond between the regions leads there. Check "
        "the topology's bonds (PDB files need CONECT records for ligands), or remove the term and add it to the result."
    )


def excludeQMPairs(
    system: openmm.System, nonbonded: openmm.NonbondedForce, qm: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> None:
    """Take the QM-QM interactions out of NonbondedForce and CustomNonbondedForces, in place.

    So goes the 1-4 Lennard-Jones interaction of a QM with an MM atom whose torsions the QM region takes over.

    Raises
    ------
    ValueError
        If the NonbondedForce has an exception between QM and MM atoms that follows no bond.
    """
    region = set(qm)
    for i in range(nonbonded.getNumExceptions()):
        p1, p2, product, sigma, epsilon = nonbonded.getExceptionParameters(i)
        if (p1 in region) == (p2 in region):
            continue
        paths = pathsBetween(neighbours, p1, p2)
        if not paths:
            raise ValueError(
                f"The NonbondedForce has an exception between QM and MM atoms ({p1}, {p2}) although no bond between the "
                "regions leads there. Check the topology's bonds, or put both atoms into one region."
            )
        if epsilon._value != 0 and not any(_path_stays(path, region) for path in paths):
            nonbonded.setExceptionParameters(i, p1, p2, product, sigma, 0)
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
