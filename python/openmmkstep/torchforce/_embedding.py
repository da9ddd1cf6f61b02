"""The embedding of KStepModelForce in TorchScript: positions of all particles (and the box) to the model's energy.

The same formulas as Embedding.cpp and EmbeddingGroups.cpp, differentiated by autograd; counts of lattice vectors come from
floor() and have no gradient. openmm-torch freezes modules, and that drops detach() and merges equal expressions inside and
outside of torch.no_grad(). So nothing here relies on the first, and only models run inside the second.
"""

from __future__ import annotations

from typing import List, Optional, Tuple  # noqa: UP035 (TorchScript reads these)

import torch
from torch import Tensor, nn

from .._units import COULOMB_CONSTANT


class EnergyOnly(nn.Module):
    """A model that returns its energy, which autograd differentiates."""

    def __init__(self, model: torch.jit.ScriptModule):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        return checked_energy(self.model(x))


class EnergyOnlyOfPhi(EnergyOnly):
    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        return checked_energy(self.model(x, phi))


class EnergyForces(EnergyOnly):
    """A model that returns its own derivatives: the energy with them as its gradient."""

    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        with torch.no_grad():
            energy, forces = self.model(x)
        return with_gradient(checked_energy(energy), [x], [-checked(forces, x, "forces")])


class EnergyForcesCharges(EnergyOnly):
    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        with torch.no_grad():
            energy, forces, charges = self.model(x, phi)
        gradients = [-checked(forces, x, "forces"), checked(charges, phi, "charges")]
        return with_gradient(checked_energy(energy), [x, phi], gradients)


def checked_energy(energy: Tensor) -> Tensor:
    assert energy.numel() == 1, "Expected the model to return the energy as a tensor of one element."
    return energy.reshape([]).to(torch.float64)


def checked(value: Tensor, variable: Tensor, name: str) -> Tensor:
    assert value.shape == variable.shape, "Expected the model to return " + name + " of the shape of its input."
    return value.to(torch.float64)


def with_gradient(energy: Tensor, variables: List[Tensor], gradients: List[Tensor]) -> Tensor:  # noqa: UP006
    for x, g in zip(variables, gradients):  # noqa: B905 (TorchScript has no strict)
        linear = (g * x).sum()
        energy = energy + (linear - float(linear.item()))
    return energy


def lattice_counts(d: Tensor, box: Tensor) -> Tensor:
    """The lattice vectors, as counts (na, nb, nc), whose removal leaves the image of PeriodicBox::getImage()."""
    nc = torch.floor(d[:, 2] / box[2, 2] + 0.5)
    d = d - nc[:, None] * box[2]
    nb = torch.floor(d[:, 1] / box[1, 1] + 0.5)
    d = d - nb[:, None] * box[1]
    na = torch.floor(d[:, 0] / box[0, 0] + 0.5)
    return torch.stack([na, nb, nc], 1)


def smallest_width(box: Tensor) -> float:
    return float(box.diagonal().min().item())


def whole_counts(x: Tensor, box: Tensor) -> Tensor:
    """The counts whose removal brings a region into one piece around its first atom, as PeriodicBox::makeWhole()."""
    counts = lattice_counts(x - x[0], box)
    delta = x - counts.mm(box) - x[0]
    if float((delta * delta).sum(1).max().item()) <= 0.0625 * smallest_width(box) ** 2:
        return counts
    # A large region: each atom is moved next to the nearest one that is in place. Nothing is changed in place: TorchScript's
    # optimised graphs keep what they might need for a gradient.
    n = x.shape[0]
    x = x - counts.mm(box)
    placed = torch.zeros(n, dtype=torch.bool, device=x.device)
    nearest = torch.zeros(n, dtype=torch.int64, device=x.device)
    distance2 = torch.full([n], float("inf"), dtype=x.dtype, device=x.device)
    i = 0
    for step in range(n):
        if step > 0:
            i = int(torch.where(placed, float("inf"), distance2).argmin().item())
            move = lattice_counts((x[i] - x[nearest[i]])[None], box)
            counts = counts.index_add(0, torch.tensor([i], device=x.device), move)
            x = x.index_add(0, torch.tensor([i], device=x.device), -move.mm(box))
        placed = placed.index_fill(0, torch.tensor([i], device=x.device), True)
        d = x - x[i]
        d = d - lattice_counts(d, box).mm(box)
        r2 = (d * d).sum(1)
        closer = (r2 < distance2) & ~placed
        distance2 = torch.where(closer, r2, distance2)
        nearest = torch.where(closer, i, nearest)
    return counts


class EmbeddedModel(nn.Module):
    """What a TorchForce calls.

    Parameters
    ----------
    model : EnergyOnly
    region : Region
    """

    def __init__(self, model: EnergyOnly, region):
        super().__init__()
        self.model = model
        for name, value in region.tensors().items():
            self.register_buffer(name, value)
        self.coulomb = COULOMB_CONSTANT
        self.num_groups = int(region.group_sizes.shape[0])
        self.has_charges = region.has_charges
        self.num_links = int(region.link_particles.shape[0])
        self.num_virtual = int(region.virtual_charges.shape[0])
        self.cutoff = float(region.cutoff)
        self.switching_distance = float(region.switching_distance)

    def forward(self, positions: Tensor, box: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        x = positions.to(torch.float64)
        translations, seen = self.locate(x, box)
        qm = x[self.particles] - translations[self.particles]
        atoms = self.add_link_atoms(x, qm, box)
        phi = torch.zeros(atoms.shape[0], dtype=atoms.dtype, device=atoms.device)
        if not self.has_charges:
            return self.model(atoms, phi)
        x = x - translations
        factors = self.switch(x, qm, seen)
        index = torch.nonzero(seen[self.charge_groups]).squeeze(1)
        group_factors = factors[self.charge_groups]
        charges = (self.charges * group_factors)[index]
        sites = x[self.charge_particles[index]]
        distance2 = self.squared_distances(atoms, sites)
        damping2 = (self.damping_lengths * self.damping_lengths)[:, None]
        phi = self.coulomb * torch.rsqrt(distance2 + damping2).mv(charges)
        if self.num_virtual > 0:
            places = torch.zeros(self.num_virtual, 3, dtype=x.dtype, device=x.device)
            places = places.index_add(0, self.virtual_index, self.virtual_weights[:, None] * x[self.virtual_particles])
            others = torch.rsqrt(self.squared_distances(atoms, places) + damping2).mv(self.virtual_charges)
            phi = phi + self.coulomb * others
        # The interaction of fixed charges that NonbondedForce holds.
        held = torch.rsqrt(distance2[: qm.shape[0]]).mv(charges).dot(self.fixed_charges)
        d = x[self.charge_particles[self.exception_charges]] - qm[self.exception_qm]
        held = held + (self.exception_changes * group_factors[self.exception_charges]).dot(torch.rsqrt((d * d).sum(1)))
        energy = self.model(atoms, phi) - self.coulomb * held
        if box is not None and self.num_groups > 0:
            # Where the box is too small for the cutoff, infinity rejects a barostat's trial and ends dynamics.
            centroid = qm.mean(0)
            radius = float(torch.sqrt(((qm - centroid) ** 2).sum(1).max()).item())
            if 0.5 * smallest_width(box.to(torch.float64)) < self.cutoff + radius:
                energy = energy + float("inf")
        return energy

    def squared_distances(self, atoms: Tensor, sites: Tensor) -> Tensor:
        d = atoms[:, None, :] - sites[None, :, :]
        return (d * d).sum(2)

    def add_link_atoms(self, x: Tensor, qm: Tensor, box: Optional[Tensor]) -> Tensor:  # noqa: UP045
        if self.num_links == 0:
            return qm
        bond = x[self.link_particles] - qm[self.link_qm]
        if box is not None:
            cell = box.to(torch.float64)
            bond = bond - lattice_counts(bond, cell).mm(cell)
        scale = self.link_distances / torch.sqrt((bond * bond).sum(1))
        return torch.cat([qm, qm[self.link_qm] + bond * scale[:, None]])

    def locate(self, x: Tensor, box: Optional[Tensor]) -> Tuple[Tensor, Tensor]:  # noqa: UP006, UP045
        """What is to be taken off each particle's position, (N, 3), and which groups may be seen, the last: of no group."""
        translations = torch.zeros_like(x)
        qm = x[self.particles]
        cell = torch.zeros(3, 3, dtype=x.dtype, device=x.device)
        if box is not None:
            cell = box.to(torch.float64)
            translations[self.particles] = whole_counts(qm, cell).mm(cell)
            qm = qm - translations[self.particles]
        seen = self.always_seen.clone()
        if self.num_groups == 0:
            return translations, seen
        centroid = qm.mean(0)
        radius = float(torch.sqrt(((qm - centroid) ** 2).sum(1).max()).item())
        if box is not None:
            # Each member next to the one before it, then the whole group next to the centroid.
            members = x[self.members]
            counts = torch.zeros_like(members)
            counts[1:] = lattice_counts(members[1:] - members[:-1], cell)
            counts[self.group_starts] = 0
            counts = counts.cumsum(0)
            counts = counts - counts[self.group_starts][self.member_groups]
            translations[self.members] = counts.mm(cell)
            centers = self.group_centers(x - translations)
            moves = lattice_counts(centers - centroid, cell)
            translations[self.members] += moves[self.member_groups].mm(cell)
        if self.cutoff > 0:
            d = self.group_centers(x - translations) - centroid
            seen[:-1] = seen[:-1] | ((d * d).sum(1) < (self.cutoff + radius) ** 2)
        return translations, seen

    def group_centers(self, x: Tensor) -> Tensor:
        weighted = self.center_weights[:, None] * x[self.members]
        centers = torch.zeros(self.num_groups, 3, dtype=x.dtype, device=x.device)
        return centers.index_add(0, self.member_groups, weighted)

    def switch(self, x: Tensor, qm: Tensor, seen: Tensor) -> Tensor:
        """S_g = 1 - prod_a (1 - S(R_ga)) of each group, 1 for those that are not switched and for charges of no group."""
        factors = self.always_seen.to(x.dtype)
        index = torch.nonzero(seen & ~self.always_seen).squeeze(1)
        if index.shape[0] == 0:
            return factors
        distances = torch.sqrt(self.squared_distances(qm, self.group_centers(x)[index]))
        t = ((distances - self.switching_distance) / (self.cutoff - self.switching_distance)).clamp(0.0, 1.0)
        complements = t * t * t * (10 - 15 * t + 6 * t * t)
        return factors.index_copy(0, index, 1 - complements.prod(0))
