"""The potential for simulations: one frame, TorchScript, its gradient written by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .repulsion import far


class FastModel(nn.Module):
    """Positions (n, 3) in nm and phi (n) in kJ/mol/e to energy, forces at fixed phi, and charges dE/dphi.

    Parameters
    ----------
    model : BatchModel
    descriptors : Descriptors
        with the scale that the model was trained with
    offset : float
        added to the energy (kJ/mol)
    """

    def __init__(self, model, descriptors, offset):
        super().__init__()
        layout = model.layout
        with torch.no_grad():
            w1, matrix, linear = model.effective()
        sign = torch.ones(layout.n_features, dtype=torch.float64)
        sign[: layout.n_pairs] = -1
        # The repulsion of pairs with a descriptor is a power of that; the rest is a matrix.
        root_strengths, strengths = _split_strengths(layout, descriptors.repulsion.strengths)
        buffers = {
            "vectors": descriptors.vectors.double(),
            "back": -descriptors.back.double(),
            "scale": descriptors.scale,
            "signed_scale": descriptors.scale * sign,
            "shift": -descriptors.mean * descriptors.scale,
            "index": model.flat,
            "quadratic": torch.tensor(layout.quadratic, dtype=torch.int64),
            "half_matrix": 0.25 * (matrix + matrix.T).double(),
            "linear": linear.double(),
            "minus_linear": -nn.functional.pad(linear, (layout.first_quadratic, 0)),
            "w1": w1,
            "b1": model.b1,
            "w2": model.w2,
            "b2": model.b2,
            "w3": model.w3,
            "w3_flat": model.w3.flatten(),
            "root_strengths": root_strengths,
            "strengths": strengths,
            "far": far(strengths),
            "offset": torch.tensor(offset, dtype=torch.float64),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone())
        self.has_matrix = bool(strengths.any())
        # A model with this mark is evaluated by PotentialNetwork (C++), which must give what forward() does: whoever
        # changes one changes the other, and the number where buffers change their meaning.
        self.network_version = 1
        self.nets, self.width = model.index.shape
        self.n_pairs, self.n_triples = layout.n_pairs, layout.n_triples
        self.sizes = list(descriptors.sizes)
        self.first_phi, self.first_quadratic = layout.first_phi, layout.first_quadratic

    def forward(self, positions: Tensor, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pair, bca, cab = positions.t().mm(self.vectors).split(self.sizes, 1)
        inverse = (pair * pair).sum(0).rsqrt()
        crosses = torch.linalg.cross(bca, cab, dim=0)
        volume = (cab[:, self.n_triples : 2 * self.n_triples] * crosses[:, : self.n_triples]).sum(0)
        z = torch.addcmul(self.shift, torch.cat([inverse, volume, phi]), self.scale)

        inputs = z.to(self.w1.dtype).index_select(0, self.index).view(self.nets, 1, self.width)
        h1 = torch.tanh(torch.baddbmm(self.b1, inputs, self.w1))
        h2 = torch.tanh(torch.baddbmm(self.b2, h1, self.w2))
        g1 = torch.bmm(torch.ops.aten.tanh_backward(self.w3, h2), self.w2.transpose(1, 2))
        g_in = torch.bmm(torch.ops.aten.tanh_backward(g1, h1), self.w1.transpose(1, 2)).view(-1)

        # E = y.(linear + M y / 2); dE/dy is twice the bracket less linear.
        y = z[self.first_quadratic :]
        bracket = torch.addmv(self.linear, self.half_matrix, y)
        energy = self.offset + torch.dot(bracket, y) + torch.dot(h2.view(-1), self.w3_flat)
        g = self.minus_linear.index_add(0, self.index, g_in).double()
        g.index_add_(0, self.quadratic, bracket, alpha=2.0)
        g.mul_(self.signed_scale)

        square = inverse * inverse
        # pow(6) takes longer than all the rest of this.
        root = square * square * square * self.root_strengths
        energy = energy + torch.dot(root, root)
        g_pair = pair * torch.addcmul(g[: self.n_pairs] * inverse, root, root, value=-12.0).mul_(square)
        g_triple = crosses.view(3, 3, self.n_triples) * g[self.n_pairs : self.first_phi]
        g_d = torch.cat([g_pair, g_triple.view(3, 3 * self.n_triples)], 1)
        forces = g_d.mm(self.back).t().contiguous()
        if self.has_matrix:
            norm = (positions * positions).sum(1)
            square = torch.addmm(self.far + norm, positions, positions.t(), alpha=-2.0)
            square = square.add_(norm[:, None]).reciprocal_()
            cube = square * square * square
            repulsion = cube.mul_(cube).mul_(self.strengths)
            energy = energy + 0.5 * repulsion.sum()
            push = square.mul_(repulsion)
            forces.addcmul_(push.sum(1, keepdim=True), positions, value=12.0).addmm_(push, positions, alpha=-12.0)
        return energy, forces, g[self.first_phi :]


class GasModel(nn.Module):
    """A FastModel without phi: positions to energy and forces."""

    def __init__(self, model, descriptors, offset):
        super().__init__()
        self.inner = FastModel(model, descriptors, offset)
        self.register_buffer("no_phi", torch.zeros(0, dtype=torch.float64))

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        energy, forces, _ = self.inner(positions, self.no_phi)
        return energy, forces


def _split_strengths(layout, strengths):
    """The square roots of those of the pairs with a descriptor, and the matrix of the others."""
    first, second = torch.tensor(layout.pairs).T
    rest = strengths.clone()
    rest[first, second] = rest[second, first] = 0.0
    return strengths[first, second].sqrt(), rest


def join_strengths(layout, roots, rest):
    """The strengths of Repulsion from the buffers root_strengths and strengths of a FastModel."""
    first, second = torch.tensor(layout.pairs).T
    strengths = rest.clone()
    strengths[first, second] = strengths[second, first] = roots * roots
    return strengths


def fast_model(model, descriptors, offset) -> torch.jit.ScriptModule:
    """The scripted single-frame form of a model, with phi if it sees phi."""
    kind = FastModel if model.layout.n_phi else GasModel
    return torch.jit.script(kind(model, descriptors, offset).eval())
