"""What the TorchScript embedding needs to know of an XtbForce or a KStepModelForce, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .._units import CHARGE, CHARGE_PRODUCT, NANOMETER, strip
from ..contract import ModelContract
from ..region_force import QMRegionForce

_REAL = torch.float64


@dataclass
class Region:
    """A QM region, its atoms in the model's order, and the charges around it.

    Of p QM particles and l link atoms, m charges, v virtual charges, e exceptions and g groups with M members.

    Attributes
    ----------
    particles : (p,), link_particles, link_qm : (l,)
        System's indices of the QM particles and of the MM ends of cut bonds; the QM ends as indices into ``particles``
    link_distances : (l,)
    damping_lengths : (p + l,)
    fixed_charges : (p,)
    charge_particles, charges, charge_groups : (m,)
        the group is g for charges of no group
    virtual_charges : (v,)
    virtual_index, virtual_particles, virtual_weights : one entry for each particle that a virtual charge depends on
    exception_qm, exception_charges, exception_changes : (e,)
        indices into ``particles`` and ``charges``; the product of charges less that of the fixed charges
    members, member_groups, center_weights : (M,)
        the weight of each member's position in the centre of its group
    group_sizes, group_starts : (g,)
    always_seen : (g + 1,)
        groups that are not switched, and the charges of no group
    """

    particles: Tensor
    link_particles: Tensor
    link_qm: Tensor
    link_distances: Tensor
    damping_lengths: Tensor
    fixed_charges: Tensor
    charge_particles: Tensor
    charges: Tensor
    charge_groups: Tensor
    virtual_charges: Tensor
    virtual_index: Tensor
    virtual_particles: Tensor
    virtual_weights: Tensor
    exception_qm: Tensor
    exception_charges: Tensor
    exception_changes: Tensor
    members: Tensor
    member_groups: Tensor
    center_weights: Tensor
    group_sizes: Tensor
    group_starts: Tensor
    always_seen: Tensor
    cutoff: float
    switching_distance: float
    has_charges: bool

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}


def read_region(force: QMRegionForce, contract: ModelContract, order: Sequence[int]) -> Region:
    """The region of a force; atom i of the model is atom order[i] of it, link atoms last."""
    num = force.getNumParticles()
    own = force.getParticles()
    places = order[:num]
    particles = [own[a] for a in places]
    index = {particle: a for a, particle in enumerate(particles)}
    links = [force.getLinkAtomParameters(a - num) for a in order[num:]]
    sees = "phi" in contract.inputs
    charges = [force.getEmbeddingChargeParameters(i)[:2] for i in range(force.getNumEmbeddingCharges() * sees)]
    virtual = [force.getVirtualChargeParameters(i)[:3] for i in range(force.getNumVirtualCharges() * sees)]
    groups = [force.getEmbeddingGroupParameters(i) for i in range(force.getNumEmbeddingGroups() * sees)]
    fixed = [strip(force.getFixedCharge(a), CHARGE) for a in places]
    numbers = [strip(q, CHARGE) for _, q in charges]
    group_of = {i: g for g, (members, _, _) in enumerate(groups) for i in members}
    place_of = {i: j for j, (i, _) in enumerate(charges)}
    exceptions = []
    for i in range(force.getNumExceptions() * sees):
        qm, mm, product = force.getExceptionParameters(i)
        a, j = index[qm], place_of[mm]
        exceptions.append((a, j, strip(product, CHARGE_PRODUCT) - fixed[a] * numbers[j]))
    sites = [
        (v, i, w) for v, (members, weights, _) in enumerate(virtual) for i, w in zip(members, weights, strict=True)
    ]
    members = [
        (i, g, 1.0 / len(own) if center == -1 else float(i == center))
        for g, (own, center, _) in enumerate(groups)
        for i in own
    ]
    sizes = [len(g[0]) for g in groups]
    return Region(
        particles=_integers(particles),
        link_particles=_integers([mm for _, mm, _ in links]),
        link_qm=_integers([index[qm] for qm, _, _ in links]),
        link_distances=_reals([strip(d, NANOMETER) for _, _, d in links]),
        damping_lengths=_reals(contract.dampingLengths or [0.0] * len(order)),
        fixed_charges=_reals(fixed),
        charge_particles=_integers([i for i, _ in charges]),
        charges=_reals(numbers),
        charge_groups=_integers([group_of.get(i, len(groups)) for i, _ in charges]),
        virtual_charges=_reals([strip(q, CHARGE) for _, _, q in virtual]),
        virtual_index=_integers([s[0] for s in sites]),
        virtual_particles=_integers([s[1] for s in sites]),
        virtual_weights=_reals([s[2] for s in sites]),
        exception_qm=_integers([e[0] for e in exceptions]),
        exception_charges=_integers([e[1] for e in exceptions]),
        exception_changes=_reals([e[2] for e in exceptions]),
        members=_integers([m[0] for m in members]),
        member_groups=_integers([m[1] for m in members]),
        center_weights=_reals([m[2] for m in members]),
        group_sizes=_integers(sizes),
        group_starts=_integers([sum(sizes[:g]) for g in range(len(sizes))]),
        always_seen=torch.tensor([not switched for _, _, switched in groups] + [True]),
        cutoff=strip(force.getCutoffDistance(), NANOMETER),
        switching_distance=strip(force.getSwitchingDistance(), NANOMETER),
        has_charges=bool(charges or virtual),
    )


def _integers(values) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _reals(values) -> Tensor:
    return torch.tensor(values, dtype=_REAL)
