"""A k-step model for a QM region: whether it fits, and which of its atoms is which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from openmm import app

from ..contract import ModelContract, readContract
from ..forces import KStepModelForce, XtbForce
from ..matching import matchModel
from ._geometry import box_array, minimum_image, positions_array
from .cuts import Cut


@dataclass
class MatchedModel:
    """A model file, its particles and cuts in the order of its atoms, and whether it sees charges."""

    path: str | os.PathLike
    particles: list[int]
    cuts: list[Cut]
    sees_charges: bool
    allow_native_code: bool = False


def check_model(model: str | os.PathLike, charge: int, multiplicity: int, hardnessElement: int | None) -> ModelContract:
    """The contract of a model file; ValueError if it is of another kind, charge, multiplicity or embedding."""
    contract = readContract(model)
    if contract.kind != "potential":
        raise ValueError(f"Expected a model of kind 'potential', found {contract.kind!r} in '{model}'.")
    if (contract.charge, contract.multiplicity) != (charge, multiplicity):
        raise ValueError(
            f"Expected a model for charge {charge} and multiplicity {multiplicity}, found one for {contract.charge} and {contract.multiplicity} in '{model}'."
        )
    if hardnessElement is not None and "phi" in contract.inputs and contract.hardnessElement != hardnessElement:
        raise ValueError(
            f"Expected a model that was trained with the hardness element {hardnessElement}, found {contract.hardnessElement} in '{model}'."
        )
    return contract


def match_model(
    model: str | os.PathLike,
    contract: ModelContract,
    topology: app.Topology,
    qm: Sequence[int],
    cuts: Sequence[Cut],
    positions,
    boxVectors,
) -> MatchedModel:
    """Find the model's atoms among the QM atoms and the link hydrogens on their cuts, see matchModel().

    Raises
    ------
    ValueError
        If the model is of another molecule.
    """
    atoms = list(topology.atoms())
    place = {i: a for a, i in enumerate(qm)}
    species = [atoms[i].element.atomic_number for i in qm]
    names = [f"particle {i} ({atoms[i].name} of {atoms[i].residue.name} {atoms[i].residue.id})" for i in qm]
    ends = ((b.atom1.index, b.atom2.index) for b in topology.bonds())
    bonds = [(place[i], place[j]) for i, j in ends if i in place and j in place]
    x = None
    if positions is not None:
        everyone = positions_array(positions, len(atoms))
        box = box_array(boxVectors)
        # A link hydrogen lies on the bond to the MM host: for handedness the host's place does as well.
        x = everyone[[*qm, *(cut.mm for cut in cuts)]]
    bonds += [(place[cut.qm], len(qm) + k) for k, cut in enumerate(cuts)]
    names += [f"the link hydrogen on {names[place[cut.qm]]}" for cut in cuts]
    if x is not None:
        x = make_whole(x, bonds, box)
    try:
        order = matchModel(contract, species + [1] * len(cuts), bonds, x, numLinkAtoms=len(cuts), names=names)
    except ValueError as e:
        raise ValueError(f"The model '{model}' does not fit the QM atoms: {e}") from e
    return MatchedModel(
        model,
        [qm[a] for a in order[: len(qm)]],
        [cuts[a - len(qm)] for a in order[len(qm) :]],
        "phi" in contract.inputs,
    )


def model_force(
    xtb: XtbForce,
    model: str | os.PathLike,
    contract: ModelContract,
    order: Sequence[int],
    allowNativeCode: bool = False,
) -> KStepModelForce:
    """A KStepModelForce for the region of an XtbForce, with the same links and, where the model sees them, charges.

    Atom i of the model is atom order[i] of the XtbForce, link atoms last; its force groups are the defaults.
    """
    particles = xtb.getParticles()
    num = len(particles)
    force = KStepModelForce(model, [particles[a] for a in order[:num]], allowNativeCode)
    force.setUsesPeriodicBoundaryConditions(xtb.usesPeriodicBoundaryConditions())
    for a in order[num:]:
        force.addLinkAtom(*xtb.getLinkAtomParameters(a - num))
    if "phi" not in contract.inputs:
        return force
    for i in range(xtb.getNumEmbeddingCharges()):
        force.addEmbeddingCharge(*xtb.getEmbeddingChargeParameters(i))
    for i in range(xtb.getNumVirtualCharges()):
        force.addVirtualCharge(*xtb.getVirtualChargeParameters(i))
    for i, a in enumerate(order[:num]):
        force.setFixedCharge(i, xtb.getFixedCharge(a))
    for i in range(xtb.getNumExceptions()):
        force.addException(*xtb.getExceptionParameters(i))
    for i in range(xtb.getNumEmbeddingGroups()):
        force.addEmbeddingGroup(*xtb.getEmbeddingGroupParameters(i))
    force.setCutoffDistance(xtb.getCutoffDistance())
    force.setSwitchingDistance(xtb.getSwitchingDistance())
    return force


def make_whole(x: np.ndarray, bonds: Sequence[tuple[int, int]], box: np.ndarray | None) -> np.ndarray:
    """Positions in which no bond crosses the box, shape (n, 3)."""
    if box is None:
        return x
    whole, placed = x.copy(), set()
    for start in range(len(x)):
        reached = [] if start in placed else [start]
        placed.add(start)
        for a in reached:  # grows while it is read
            for b in [j for i, j in bonds if i == a] + [i for i, j in bonds if j == a]:
                if b not in placed:
                    placed.add(b)
                    whole[b] = whole[a] + minimum_image(x[b] - whole[a], box)
                    reached.append(b)
    return whole
