"""createQMMMSystem: a force-field System in, a QM/MM System out."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import openmm
from openmm import app, unit

from .._engines import ENGINES
from ..forces import KStepModelForce, XtbForce
from ..region_force import QMRegionForce
from ._parts import PERIODIC_METHODS, check_same_size, find_nonbonded, particle_charges
from .boundary import boundary_charges, check_boundary, move_leftover_charge
from .box import choose_cutoff
from .charges import given_charges, mulliken_charges
from .cuts import Cut, cutWarnings, findCuts
from .graph import atoms_within, neighbour_lists
from .groups import Group, embeddingGroups
from .model import MatchedModel, check_model, match_model
from .terms import CORRECTOR_GROUP, MODEL_GROUP, exclude_qm_pairs, without_qm_terms

HARDNESS_ELEMENT = {"GFN1-xTB": 2, "GFN2-xTB": 10}
"""The uniform element of the embedding charges: helium or neon, whose hardness makes them nearly point-like."""
EMBEDDINGS = ("electrostatic", "mechanical", "none")
_ENGINES = ("auto", *ENGINES)

_ROUNDING = 0.01  # e
"""Charges of ligands, given with few digits, may add up to that much less or more; it is spread over the QM atoms."""
_NEAR_BONDS = 3
"""Exceptions reach this far, so the groups of these atoms are always seen."""


class QMMMWarning(UserWarning):
    """Something about a QM/MM set-up that works but deserves care."""


def createQMMMSystem(
    topology: app.Topology,
    mmSystem: openmm.System,
    qmAtoms: Iterable[int],
    method: str = "GFN2-xTB",
    charge: int = 0,
    multiplicity: int = 1,
    embedding: str = "electrostatic",
    model: str | os.PathLike | None = None,
    *,
    cutoff=None,
    switchingDistance=None,
    boundary: str = "rcd",
    charges: str | Sequence = "auto",
    positions=None,
    allowNativeCode: bool = False,
    engine: str = "auto",
) -> openmm.System:
    """Make a QM/MM System from a force-field one.

    The QM atoms lose their bonded terms, constraints and nonbonded interactions with each other. Their Lennard-Jones and
    fixed-charge Coulomb interactions with the MM atoms stay in the NonbondedForce, with PME where it has that. An XtbForce
    in force group 1 adds E_xTB in the field of the MM charges minus that Coulomb interaction, so that the long range is
    the force field's and the difference between xTB and fixed charges is what a cutoff acts on. The result holds the true
    Hamiltonian for any integrator. With a model, a KStepModelForce in group 2 stands in for the XtbForce where the energy
    of group 1 is not asked for.

    Where bonds are cut, link hydrogens saturate the QM region; bond terms among QM atoms, angles with two or more and
    torsions with three or more of them go, the bond term of a cut bond stays. Terms of custom bonded forces count as
    force field: add restraints on QM atoms to the result, not to ``mmSystem``.

    describe() prints what was made.

    Parameters
    ----------
    topology : Topology
        says which elements and bonds there are
    mmSystem : System
        the whole system by force field; it is not changed. Its NonbondedForce uses NoCutoff, or PME, Ewald or LJPME
    qmAtoms : iterable of int
        indices of the QM atoms. If there are none the result is a copy of ``mmSystem``
    method : str
        'GFN1-xTB', 'GFN2-xTB', or 'GFN-FF' without electrostatic embedding
    charge, multiplicity : int
        of the QM region, link hydrogens included
    embedding : str
        'electrostatic': MM charges polarize the QM region. 'mechanical': the regions interact by the force field alone.
        'none': by its Lennard-Jones interaction alone
    model : str or path, optional
        a k-step model file (see saveModel()) for the same molecule. Its atoms are found in this one by matchModel(), where
        its contract has bonds; else they must be those of ``qmAtoms``, in the same order, then the link hydrogens
    cutoff : float or Quantity, optional
        distance (nm) from the QM atoms beyond which MM groups do not polarize them. Default: none if not periodic, else
        1.2 if the box allows it, or 1.0
    switchingDistance : float or Quantity, optional
        where switching off begins (nm). Default: 0.2 less than the cutoff
    boundary : str
        what xTB sees of the MM hosts' charges: 'rcd', 'charge-shift' or 'none', see boundary_charges()
    charges : str or sequence
        fixed charges of the QM atoms in the NonbondedForce: 'forcefield'; 'mulliken', the mean of a short run that starts
        at ``positions``; a list (e); 'auto' is 'forcefield' for a neutral QM region with force-field charges, else
        'mulliken'
    positions : array or Quantity, optional
        of all particles (nm). Needed for Mulliken charges; used to check the box, and which of several equal atoms is which
        of the model's
    allowNativeCode : bool
        whether a model that is an AOTInductor package may run, see KStepModelForce
    engine : str
        what computes xTB: 'libxtb', 'tblite' (not with electrostatic embedding) or 'auto', see XtbForce.setEngine()

    Returns
    -------
    System
        a new System

    Warns
    -----
    QMMMWarning
        For cuts that deserve care, and for what makes a result worse than it could be.

    Raises
    ------
    ValueError
        If the input does not allow this; the message says what was expected, what was found and what to do.
    """
    qm = [int(i) for i in qmAtoms]
    _check_region(topology, mmSystem, qm)
    if not qm:
        _warn("qmAtoms is empty: the result is the force-field System as it is.")
        return copy.deepcopy(mmSystem)
    _check_method(method, embedding, engine)
    check_boundary(boundary)
    nonbonded = find_nonbonded(mmSystem)
    cuts = findCuts(topology, qm)
    atoms = list(topology.atoms())
    elements = [atoms[i].element.atomic_number for i in qm]
    _check_electrons(elements, len(cuts), charge, multiplicity)
    for sentence in cutWarnings(topology, qm, cuts):
        _warn(sentence)
    matched = None
    if model is not None:
        hardness = HARDNESS_ELEMENT[method] if embedding == "electrostatic" else None
        contract = check_model(model, charge, multiplicity, hardness)
        vectors = mmSystem.getDefaultPeriodicBoxVectors() if mmSystem.usesPeriodicBoundaryConditions() else None
        matched = match_model(model, contract, topology, qm, cuts, positions, vectors)
        matched.allow_native_code = allowNativeCode
        if positions is None and (contract.handedness or contract.sides):
            _warn(
                f"Whether the labels of equal atoms, and the stereoisomer, are those of the model '{model}' was not checked, "
                "since there are no positions; pass positions=."
            )
    periodic = nonbonded.getNonbondedMethod() in PERIODIC_METHODS
    if embedding == "electrostatic":
        cutoff, switchingDistance = choose_cutoff(mmSystem, qm, periodic, positions, cutoff, switchingDistance)
    elif cutoff is not None or switchingDistance is not None:
        raise ValueError(f"A cutoff of the embedding was given, but the embedding is {embedding!r}; leave it out.")

    neighbours = neighbour_lists(topology)
    base = without_qm_terms(mmSystem, neighbours, set(qm))
    exclude_qm_pairs(base, find_nonbonded(base), qm, neighbours)
    setup = _Setup(
        topology,
        neighbours,
        qm,
        elements,
        cuts,
        method,
        charge,
        multiplicity,
        embedding,
        boundary,
        periodic,
        cutoff,
        switchingDistance,
        engine,
    )
    fixed = _force_field_charges(topology, nonbonded, set(qm), cuts)
    if isinstance(charges, str):
        needed = embedding != "none"
        total, has_charges = sum(fixed[i] for i in qm), any(fixed[i] for i in qm)
        kind = _kind_of_charges(charges, total, charge, has_charges, needed, positions)
        rounding = (charge - total) / len(qm)
        chosen = [fixed[i] + rounding for i in qm]
        if kind == "mulliken":
            chosen = mulliken_charges(
                topology, qm, cuts, charge, positions, lambda values: setup.build(base, fixed, values, None)
            )
    else:
        chosen = given_charges(charges, len(qm), charge)
    return setup.build(base, fixed, chosen, matched)


@dataclass
class _Setup:
    """All that is settled before the charges are."""

    topology: app.Topology
    neighbours: list[list[int]]
    qm: list[int]
    elements: list[int]
    cuts: list[Cut]
    method: str
    charge: int
    multiplicity: int
    embedding: str
    boundary: str
    periodic: bool
    cutoff: float | None
    switchingDistance: float | None
    engine: str

    def build(
        self, base: openmm.System, fixed: Sequence[float], qm_charges: Sequence[float], model: MatchedModel | None
    ) -> openmm.System:
        """The QM/MM System from one without the QM region's terms, all fixed charges, and those of the QM atoms."""
        system = copy.deepcopy(base)
        charges = list(fixed)
        for i, q in zip(self.qm, qm_charges, strict=True):
            charges[i] = q if self.embedding != "none" else 0.0
        nonbonded = find_nonbonded(system)
        _set_charges(nonbonded, charges)
        if self.periodic:
            # Otherwise the excluded pairs of QM atoms, and with them the energy, depend on the images they are in.
            nonbonded.setExceptionsUsePeriodicBoundaryConditions(True)
        forces: list[QMRegionForce] = [self._corrector()]
        for cut in self.cuts:
            forces[0].addLinkAtom(*cut)
        if model is not None:
            forces.append(KStepModelForce(model.path, model.particles, model.allow_native_code))
            forces[1].setForceGroup(MODEL_GROUP)
            forces[1].setCorrectorForceGroup(CORRECTOR_GROUP)
            for cut in model.cuts:
                forces[1].addLinkAtom(*cut)
        for force in forces:
            force.setUsesPeriodicBoundaryConditions(self.periodic)
        if self.embedding == "electrostatic":
            self._embed(forces if model is not None and model.sees_charges else forces[:1], nonbonded, charges)
        for force in forces:
            system.addForce(force)
        return system

    def _corrector(self) -> XtbForce:
        try:
            xtb = XtbForce(self.method, self.qm, self.elements, self.charge, self.multiplicity)
        except openmm.OpenMMException as e:
            raise ValueError(str(e)) from e
        xtb.setEngine(self.engine)
        xtb.setForceGroup(CORRECTOR_GROUP)
        return xtb

    def _embed(
        self, forces: Sequence[QMRegionForce], nonbonded: openmm.NonbondedForce, charges: Sequence[float]
    ) -> None:
        """Tell forces the charges around the QM region, exactly as the NonbondedForce holds them."""
        region, number = set(self.qm), HARDNESS_ELEMENT[self.method]
        exceptions = []
        for i in range(nonbonded.getNumExceptions()):
            p1, p2, product, _, _ = nonbonded.getExceptionParameters(i)
            if (p1 in region) != (p2 in region):
                exceptions.append((p1, p2, product) if p1 in region else (p2, p1, product))
        needed = {mm for _, mm, _ in exceptions}
        seen = [(j, q) for j, q in enumerate(charges) if j not in region and (q != 0 or j in needed)]
        virtual = boundary_charges(self.boundary, self.neighbours, charges, region, self.cuts)
        groups: Sequence[Group] = ()
        if self.cutoff is not None:  # as in every periodic system
            near = atoms_within(self.neighbours, [c.qm for c in self.cuts], _NEAR_BONDS) - region
            groups = embeddingGroups(self.topology, charges, self.qm, near)
        for force in forces:
            for j, q in seen:
                force.addEmbeddingCharge(j, q, number)
            for a, i in enumerate(force.getParticles()):
                force.setFixedCharge(a, charges[i])
            for exception in exceptions:
                force.addException(*exception)
            for charge in virtual:
                force.addVirtualCharge(*charge, number)
            for group in groups:
                force.addEmbeddingGroup(*group)
            if self.cutoff is not None:
                force.setCutoffDistance(self.cutoff)
                force.setSwitchingDistance(self.switchingDistance)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, QMMMWarning, stacklevel=3)


def _check_region(topology: app.Topology, system: openmm.System, qm: list[int]) -> None:
    check_same_size(topology, system)
    num = topology.getNumAtoms()
    if len(set(qm)) != len(qm):
        raise ValueError("An atom occurs twice in qmAtoms.")
    if qm and (min(qm) < 0 or max(qm) >= num):
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
    for i in range(num):
        if system.isVirtualSite(i):
            site = system.getVirtualSite(i)
            if any(site.getParticle(k) in region for k in range(site.getNumParticles())):
                raise ValueError(
                    f"Particle {i} ({atoms[i].name} of {atoms[i].residue.name}) is a virtual site that depends on QM atoms, "
                    "which have no such sites. Use a force field without virtual sites for this molecule, such as three-site water."
                )


def _check_method(method: str, embedding: str, engine: str) -> None:
    if embedding not in EMBEDDINGS:
        raise ValueError(f"Expected one of the embeddings {', '.join(EMBEDDINGS)}, found {embedding!r}.")
    if method not in HARDNESS_ELEMENT and (method != "GFN-FF" or embedding == "electrostatic"):
        raise ValueError(
            f"Expected one of the methods {', '.join(HARDNESS_ELEMENT)} for electrostatic embedding (GFN-FF too for the "
            f"others), found {method!r}."
        )
    if engine not in _ENGINES:
        raise ValueError(f"Expected one of the engines {', '.join(_ENGINES)}, found {engine!r}.")
    if engine == "tblite" and (embedding == "electrostatic" or method == "GFN-FF"):
        lacks = "point charges, which electrostatic embedding needs" if embedding == "electrostatic" else "GFN-FF"
        raise ValueError(
            f"The engine tblite has no {lacks}. Choose the engine 'libxtb'; or for tblite the embedding 'mechanical' or "
            "'none' and one of the methods GFN1-xTB and GFN2-xTB."
        )


def _check_electrons(elements: list[int], num_links: int, charge: int, multiplicity: int) -> None:
    electrons = sum(elements) + num_links - charge
    unpaired = multiplicity - 1
    if unpaired < 0 or electrons < unpaired or (electrons - unpaired) % 2:
        links = f" with {num_links} link hydrogens" if num_links else ""
        raise ValueError(
            f"{electrons} electrons (the QM region{links} and charge {charge}) cannot have multiplicity {multiplicity}. "
            "Check the charge, the multiplicity and whether hydrogens are missing."
        )


def _force_field_charges(
    topology: app.Topology, nonbonded: openmm.NonbondedForce, qm: set[int], cuts: list[Cut]
) -> list[float]:
    """The charges (e) of all particles, after what a cut leaves over has been moved."""
    charges = particle_charges(nonbonded)
    for mm, inner, moved in move_leftover_charge(topology, charges, qm, cuts):
        charges[mm] -= moved
        charges[inner] += moved
    return charges


def _kind_of_charges(kind: str, total: float, charge: int, has_charges: bool, needed: bool, positions) -> str:
    if kind not in ("auto", "forcefield", "mulliken"):
        raise ValueError(f"Expected the charges 'auto', 'forcefield', 'mulliken' or a list, found {kind!r}.")
    # An unparametrised molecule has zeros; anything else that does not add up is a mistake somewhere.
    if kind != "mulliken" and (has_charges or kind == "forcefield") and abs(total - charge) > _ROUNDING:
        raise ValueError(
            f"The force-field charges of the QM atoms add up to {round(total, 4) + 0.0:.4f} e, but the charge of the QM "
            f"region is {charge} e; they must be equal. Check the charge, the protonation, and that qmAtoms holds whole "
            "molecules or cuts through C-C bonds."
        )
    if kind == "auto":
        kind = "forcefield" if not needed or (has_charges and charge == 0) else "mulliken"
    if kind == "mulliken" and positions is None:
        raise ValueError(
            "Mulliken charges (the default for a QM region that is charged or has no force-field charges) are computed from "
            "positions, but there are none. Pass positions=, or choose charges='forcefield' or a list of charges."
        )
    return kind


def _set_charges(nonbonded: openmm.NonbondedForce, charges: Sequence[float]) -> None:
    """Change charges, and with them the charge products of 1-4 exceptions."""
    old = particle_charges(nonbonded)
    for i, q in enumerate(charges):
        if q != old[i]:
            _, sigma, epsilon = nonbonded.getParticleParameters(i)
            nonbonded.setParticleParameters(i, q, sigma, epsilon)
    for i in range(nonbonded.getNumExceptions()):
        p1, p2, product, sigma, epsilon = nonbonded.getExceptionParameters(i)
        before = old[p1] * old[p2]
        if (charges[p1] != old[p1] or charges[p2] != old[p2]) and before != 0:
            scaled = product.value_in_unit(unit.elementary_charge**2) * (charges[p1] * charges[p2] / before)
            nonbonded.setExceptionParameters(i, p1, p2, scaled, sigma, epsilon)
