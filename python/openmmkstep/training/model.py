"""The potential: a quadratic form in internal coordinates plus networks.

The energy is an offset, a quadratic form of the bonded descriptors and of phi (see layout.py), and a sum of small
networks: one per heavy atom that sees its surroundings (phi there included), and some that see the long distances.
phi enters as Q/n sum_a phi_a and otherwise by its differences only (the weights of phi sum to zero in every unit), so
that the charges dE/dphi_a add up to the charge Q of the region. This is the form for training, with a gradient written
by hand; fast.py has the form for simulations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .repulsion import Repulsion

PHI_SCALE = 1.0 / 40.0  # e mol/kJ


class Descriptors:
    """Descriptors of frames and their exact derivatives; coordinates are kept as 3 x n, which is the faster layout.

    Parameters
    ----------
    layout : Layout
    dtype : torch.dtype
        of everything that follows from the (float64) positions relative to their centroid

    Attributes
    ----------
    mean, scale : tensor of shape (descriptors,)
        by which they are centred and multiplied
    repulsion : Repulsion
        the part of the energy that is fixed before the training
    """

    def __init__(self, layout, dtype=torch.float32):
        self.layout, self.dtype = layout, dtype

        def incidence(ends):
            rows = torch.zeros(len(ends), layout.n_atoms, dtype=dtype)
            for row, (first, second) in zip(rows, ends, strict=True):
                row[first] += 1
                row[second] -= 1
            return rows

        a, b, c = (incidence([t[k] for t in layout.triples]) for k in range(3))
        pairs = incidence(layout.pairs)
        # Vectors of pairs, then those of the triples twice, turned.
        self.vectors = torch.cat([pairs, b, c, a, c, a, b]).T.contiguous()
        # From weights of the vectors of pairs and of triples to dE/dx.
        self.back = torch.cat([pairs, a, b, c])
        self.sizes = [layout.n_pairs, 3 * layout.n_triples, 3 * layout.n_triples]
        self.mean = torch.zeros(layout.n_features, dtype=torch.float64)
        self.scale = torch.ones(layout.n_features, dtype=torch.float64)
        self.repulsion = Repulsion(layout)

    def centred(self, positions):
        """Positions (frames, n, 3) relative to their centroid as (frames, 3, n), in this object's dtype."""
        x = torch.as_tensor(positions, dtype=torch.float64)
        return (x - x.mean(1, keepdim=True)).transpose(1, 2).to(self.dtype).contiguous()

    def raw(self, x, phi):
        """Unscaled descriptors of centred positions, with what the gradient needs."""
        pair, bca, cab = (x @ self.vectors).split(self.sizes, 2)
        inverse = (pair * pair).sum(1).rsqrt()
        crosses = torch.linalg.cross(bca, cab, dim=1)
        count = self.layout.n_triples
        # b x c was made first, and a is in the middle of c, a, b.
        triple = (cab[:, :, count : 2 * count] * crosses[:, :, :count]).sum(1)
        return torch.cat([inverse, triple, phi[:, : self.layout.n_phi].to(self.dtype)], 1), pair, inverse, crosses

    def fit_scale(self, x, phi):
        """Set mean and scale from frames.

        A descriptor that hardly varies (the bond of a link atom) is not blown up by more than a thousand times its mean.
        """
        raw = self.raw(x, phi)[0].double()
        self.mean = raw.mean(0)
        self.scale = 1.0 / torch.clamp(torch.maximum(raw.std(0), 1e-3 * self.mean.abs()), min=1e-6)
        self.mean[self.layout.first_phi :] = 0.0
        self.scale[self.layout.first_phi :] = PHI_SCALE

    def __call__(self, x, phi):
        """Scaled descriptors and the parts of their Jacobian."""
        raw, pair, inverse, crosses = self.raw(x, phi)
        mean, scale = self.mean.to(self.dtype), self.scale.to(self.dtype)
        n_pairs, first_phi = self.layout.n_pairs, self.layout.first_phi
        pair_part = pair * (-scale[:n_pairs] * inverse**3)[:, None]
        return (raw - mean) * scale, torch.cat([pair_part, crosses * scale[n_pairs:first_phi].repeat(3)], 2)

    def pull_back(self, g, jacobian):
        """dE/dx as (frames, 3, n) and dE/dphi from dE/dz."""
        n_pairs, first_phi = self.layout.n_pairs, self.layout.first_phi
        triple = g[:, n_pairs:first_phi]
        weights = torch.cat([g[:, :n_pairs], triple, triple, triple], 1)
        return (jacobian * weights[:, None]) @ self.back, g[:, first_phi:] * PHI_SCALE


class BatchModel(nn.Module):
    """Energy and its gradient with respect to the descriptors of many frames, for training.

    Parameters
    ----------
    layout : Layout
    hidden : (int, int)
        units of the two layers of every network
    charge : int
        of the region
    seed : int
        of the weights at the start
    """

    def __init__(self, layout, hidden, charge=0, seed=1):
        super().__init__()
        self.layout = layout
        index, mask = layout.padded_inputs()
        is_phi = (index >= layout.first_phi) & (mask > 0)
        nets, width = index.shape
        first, second = hidden
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator)

        count = torch.from_numpy(mask).sum(1)[:, None, None]
        self.w1 = nn.Parameter(normal(nets, width, first) / count.sqrt())
        self.b1 = nn.Parameter(0.3 * normal(nets, 1, first))
        self.w2 = nn.Parameter(normal(nets, first, second) / first**0.5)
        self.b2 = nn.Parameter(0.3 * normal(nets, 1, second))
        self.w3 = nn.Parameter(normal(nets, 1, second) / second**0.5)
        size, n_phi = len(layout.quadratic), layout.n_phi
        self.matrix = nn.Parameter(torch.zeros(size, size))
        self.linear = nn.Parameter(torch.zeros(size))
        # The energy is Q/n for every atom's phi, and differences of phi.
        self.total = charge / (n_phi * PHI_SCALE) if n_phi else 0.0
        phi_rows = torch.zeros(size)
        phi_rows[size - n_phi :] = 1
        buffers = {
            "index": torch.from_numpy(index),
            "flat": torch.from_numpy(index.ravel()),
            "mask": torch.from_numpy(mask)[:, :, None],
            "is_phi": torch.from_numpy(is_phi.astype(np.float32))[:, :, None],
            "phi_rows": phi_rows,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def effective(self):
        """First-layer weights, matrix and vector with phi's differences only, and the region's charge."""
        count = self.is_phi.sum(1, keepdim=True).clamp(min=1)
        mean = (self.w1 * self.is_phi).sum(1, keepdim=True) / count
        w1 = (self.w1 - mean * self.is_phi) * self.mask
        matrix = self._neutral(self._neutral(self.matrix + self.matrix.T).T)
        return w1, matrix, self._neutral(self.linear) + self.total * self.phi_rows

    def _neutral(self, values):
        """Without the mean over the rows of phi."""
        mean = self.phi_rows @ values / max(1, self.layout.n_phi)
        return values - (self.phi_rows * mean if values.dim() == 1 else torch.outer(self.phi_rows, mean))

    def forward(self, z):
        """Energy without the offset, and dE/dz, of scaled descriptors."""
        w1, matrix, linear = self.effective()
        inputs = z.index_select(1, self.flat).view(len(z), *self.index.shape).transpose(0, 1)
        h1 = torch.tanh(torch.baddbmm(self.b1, inputs, w1))
        h2 = torch.tanh(torch.baddbmm(self.b2, h1, self.w2))
        g2 = self.w3 * (1 - h2 * h2)
        g1 = (g2 @ self.w2.transpose(1, 2)) * (1 - h1 * h1)
        g_in = (g1 @ w1.transpose(1, 2)).transpose(0, 1).flatten(1)
        y = z[:, self.layout.first_quadratic :]
        product = y @ matrix
        energy = (h2 * self.w3).sum((0, 2)) + y @ linear + 0.5 * (product * y).sum(1)
        g = nn.functional.pad(product + linear, (self.layout.first_quadratic, 0))
        return energy, g.index_add(1, self.flat, g_in)


def predict(model, descriptors, x, phi, phi_gradient):
    """Energy (without offset), forces at fixed MM charges as (frames, 3, n), and charges of frames.

    Parameters
    ----------
    x, phi_gradient : tensors of shape (frames, 3, n)
        centred positions, and dphi_a/dx_a
    phi : tensor of shape (frames, n)
    """
    with torch.no_grad():
        z, jacobian = descriptors(x, phi)
    energy, g = model(z)
    g_x, charge = descriptors.pull_back(g, jacobian)
    if model.layout.n_phi:
        g_x = g_x + charge[:, None] * phi_gradient
    return energy, -g_x, charge
