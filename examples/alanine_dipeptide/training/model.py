"""The potential: a quadratic form in internal coordinates plus networks.

Descriptors: 1/r of every pair, triple products of bond vectors (torsion sines
and out-of-plane volumes) and the MM potential phi at every atom.  The energy
is an offset, a quadratic form of the bonded descriptors and of phi, and a sum
of small networks: one per heavy atom that sees its surroundings within two
bonds (phi there included), and two that see the long distances.

Only differences of phi enter (the weights of phi sum to zero in every unit),
so that the charges dE/dphi add up to zero.  Two implementations of the same
energy share the parameters: ``BatchModel`` for training and ``FastModel``, a
single-frame TorchScript module with a hand-written gradient.
"""

import numpy as np
import torch
from torch import Tensor, nn

N_ATOMS = 22
BONDS = (
    (0, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (4, 5),
    (4, 6),
    (6, 7),
    (6, 8),
    (8, 9),
    (8, 10),
    (8, 14),
    (10, 11),
    (10, 12),
    (10, 13),
    (14, 15),
    (14, 16),
    (16, 17),
    (16, 18),
    (18, 19),
    (18, 20),
    (18, 21),
)
HEAVY = (1, 4, 5, 6, 8, 10, 14, 15, 16, 18)
POLAR = (5, 7, 15, 17)
METHYLS = ((0, 2, 3), (11, 12, 13), (19, 20, 21))
WIDTH = 104  # inputs of a network, with padding
PHI_SCALE = 1.0 / 40.0  # e mol/kJ


def bond_distances():
    """Number of bonds between every two atoms."""
    steps = np.full((N_ATOMS, N_ATOMS), 99)
    np.fill_diagonal(steps, 0)
    for i, j in BONDS:
        steps[i, j] = steps[j, i] = 1
    for k in range(N_ATOMS):
        steps = np.minimum(steps, steps[:, k : k + 1] + steps[k : k + 1])
    return steps


class Layout:
    """Which descriptors exist, and which network sees which of them."""

    def __init__(self):
        self.steps = bond_distances()
        self.pairs = [(i, j) for i in range(N_ATOMS) for j in range(i + 1, N_ATOMS)]
        self.pairs.sort(key=lambda pair: -self.steps[pair])
        self.pair_steps = [self.steps[pair] for pair in self.pairs]
        self.triples, triple_atoms = self._triples()
        self.atoms = [set(pair) for pair in self.pairs] + triple_atoms + [{a} for a in range(N_ATOMS)]
        self.n_pairs, self.n_triples = len(self.pairs), len(self.triples)
        self.first_phi = self.n_pairs + self.n_triples
        self.n_features = self.first_phi + N_ATOMS
        # Pairs come in the order of falling bond distance: the quadratic
        # part has all descriptors from the first 1-4 pair on.
        self.first_quadratic = self.pair_steps.index(3)
        self.quadratic = range(self.first_quadratic, self.n_features)
        self.inputs = self._inputs()

    def _neighbours(self, atom):
        return [b for b in range(N_ATOMS) if self.steps[atom, b] == 1]

    def _bond_index(self, i, j):
        return self.pairs.index((min(i, j), max(i, j)))

    def _triples(self):
        """Bond triples: torsions (a main end with every other) and planes."""
        triples, atoms = [], []
        methyl_hydrogens = {h for group in METHYLS for h in group}

        def add(bonds):
            indices = tuple(self._bond_index(*bond) for bond in bonds)
            if indices not in triples:
                triples.append(indices)
                atoms.append({atom for bond in bonds for atom in bond})

        for b, c in BONDS:
            left = [a for a in self._neighbours(b) if a != c]
            right = [d for d in self._neighbours(c) if d != b]
            heavy_left = [a for a in left if a in HEAVY]
            heavy_right = [d for d in right if d in HEAVY]
            if not left or not right:
                continue
            for a in left:
                for d in right:
                    main = (heavy_left and a == heavy_left[0]) or (heavy_right and d == heavy_right[0])
                    if main:
                        add(((a, b), (b, c), (c, d)))
        for centre in range(N_ATOMS):
            ends = self._neighbours(centre)
            if len(ends) == 3 and not methyl_hydrogens & set(ends):
                add(tuple((centre, end) for end in ends))
        return triples, atoms

    def _inputs(self):
        """Descriptor indices of every network."""
        inputs = []
        for centre in HEAVY:
            reach = {f: max(self.steps[centre, a] for a in self.atoms[f]) for f in range(self.n_features)}
            near = [
                f for f in range(self.n_features) if reach[f] <= 2 or (f < self.n_pairs and centre in self.atoms[f])
            ]
            # The networks are padded to equal width: use it for more.
            further = [f for f in range(self.first_quadratic, self.n_features) if reach[f] == 3 and f not in near]
            further.sort(key=lambda f: f < self.first_phi)
            inputs.append(near + further[: max(0, WIDTH - len(near))])
        distant = [p for p in range(self.n_pairs) if self.pair_steps[p] >= 3]
        distant.sort(key=lambda p: not self.atoms[p] & set(POLAR))
        half = (len(distant) + 1) // 2
        return inputs + [distant[:half], distant[half:]]

    def padded_inputs(self):
        """Inputs padded to equal length, and the mask of the real ones."""
        index = np.zeros((len(self.inputs), WIDTH), dtype=np.int64)
        mask = np.zeros((len(self.inputs), WIDTH), dtype=np.float32)
        for row, chosen in enumerate(self.inputs):
            index[row, : len(chosen)] = chosen
            mask[row, : len(chosen)] = 1
        return index, mask

    def quadratic_mask(self):
        """Pairs of descriptors whose products the first fit may use."""
        kinds = [self.pair_steps[f] if f < self.n_pairs else 4 if f < self.first_phi else 5 for f in self.quadratic]
        size = len(self.quadratic)
        mask = np.zeros((size, size), dtype=bool)
        for m, f in enumerate(self.quadratic):
            for n in range(m + 1):
                g = self.quadratic[n]
                shared = len(self.atoms[f] & self.atoms[g])
                if kinds[m] == 5 and kinds[n] == 5:
                    allowed = True
                elif kinds[m] == 5:
                    atom = f - self.first_phi
                    reach = min(self.steps[atom, a] for a in self.atoms[g])
                    allowed = reach == 0 or (reach == 1 and kinds[n] <= 2)
                else:
                    allowed = shared >= 2 or (shared >= 1 and kinds[m] <= 2 and kinds[n] <= 2)
                mask[m, n] = allowed
        return mask


def methyl_permutations():
    """The 27 atom orders with methyl hydrogens turned cyclically."""
    orders = []
    for turns in np.ndindex(3, 3, 3):
        order = np.arange(N_ATOMS)
        for methyl, turn in zip(METHYLS, turns, strict=True):
            order[list(methyl)] = np.roll(methyl, turn)
        orders.append(order)
    return np.array(orders)


class Descriptors:
    """Batched descriptors of frames and their exact derivatives."""

    def __init__(self, layout, dtype=torch.float32):
        self.layout, self.dtype = layout, dtype
        pairs = torch.tensor(layout.pairs)
        self.first, self.second = pairs[:, 0], pairs[:, 1]
        triples = torch.tensor(layout.triples)
        self.triples = [triples[:, k] for k in range(3)]
        self.incidence = torch.zeros(layout.n_pairs, N_ATOMS, dtype=dtype)
        self.incidence[torch.arange(layout.n_pairs), self.first] = 1
        self.incidence[torch.arange(layout.n_pairs), self.second] = -1
        self.mean = torch.zeros(layout.n_features, dtype=torch.float64)
        self.scale = torch.ones(layout.n_features, dtype=torch.float64)

    def raw(self, x, phi):
        """Unscaled descriptors (float64) with what the gradient needs."""
        d = x[:, self.first] - x[:, self.second]
        inverse = (d * d).sum(2).rsqrt()
        a, b, c = (d[:, index] for index in self.triples)
        crosses = (torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b))
        triple = (a * crosses[0]).sum(2)
        return torch.cat([inverse, triple, phi], 1), d, inverse, crosses

    def fit_scale(self, x, phi):
        """Set mean and scale from frames."""
        raw = self.raw(x, phi)[0]
        first_phi = self.layout.first_phi
        self.mean, self.scale = raw.mean(0), 1.0 / raw.std(0)
        self.mean[first_phi:] = 0.0
        self.scale[first_phi:] = PHI_SCALE

    def __call__(self, x, phi):
        """Scaled descriptors and the parts of their Jacobian."""
        raw, d, inverse, crosses = self.raw(x, phi)
        z = ((raw - self.mean) * self.scale).to(self.dtype)
        pair_part = -self.scale[: self.layout.n_pairs] * inverse**3
        jacobian = (pair_part[:, :, None] * d).to(self.dtype)
        scale = self.scale[self.layout.n_pairs : self.layout.first_phi]
        triple_part = [(scale[:, None] * cross).to(self.dtype) for cross in crosses]
        return z, (jacobian, triple_part)

    def pull_back(self, g, parts):
        """dE/dx and dE/dphi from dE/dz."""
        jacobian, triple_part = parts
        n_pairs, first_phi = self.layout.n_pairs, self.layout.first_phi
        g_d = g[:, :n_pairs, None] * jacobian
        g_t = g[:, n_pairs:first_phi, None]
        for index, cross in zip(self.triples, triple_part, strict=True):
            g_d = g_d.index_add(1, index, g_t * cross)
        g_x = torch.einsum("pa,bpk->bak", self.incidence, g_d)
        return g_x, g[:, first_phi:] * PHI_SCALE


class BatchModel(nn.Module):
    """Energy, forces and charges of many frames, for training."""

    def __init__(self, layout, hidden, seed):
        super().__init__()
        self.layout = layout
        index, mask = layout.padded_inputs()
        self.register_buffer("index", torch.from_numpy(index))
        self.register_buffer("mask", torch.from_numpy(mask))
        is_phi = (index >= layout.first_phi) & (mask > 0)
        self.register_buffer("is_phi", torch.from_numpy(is_phi.astype(np.float32)))
        generator = torch.Generator().manual_seed(seed)
        nets, width = index.shape
        sizes = (width,) + tuple(hidden)

        def normal(*shape):
            return torch.randn(*shape, generator=generator)

        self.w1 = nn.Parameter(normal(nets, width, sizes[1]) / np.sqrt(mask.sum(1))[:, None, None].astype(np.float32))
        self.b1 = nn.Parameter(0.3 * normal(nets, 1, sizes[1]))
        self.w2 = nn.Parameter(normal(nets, sizes[1], sizes[2]) / np.sqrt(sizes[1]))
        self.b2 = nn.Parameter(0.3 * normal(nets, 1, sizes[2]))
        self.w3 = nn.Parameter(normal(nets, 1, sizes[2]) / np.sqrt(sizes[2]))
        size = len(layout.quadratic)
        self.matrix = nn.Parameter(torch.zeros(size, size))
        self.linear = nn.Parameter(torch.zeros(size))
        centre = torch.eye(size)
        centre[-N_ATOMS:, -N_ATOMS:] -= 1.0 / N_ATOMS
        self.register_buffer("centre", centre)

    def effective(self):
        """First-layer weights, matrix and vector with phi neutral."""
        is_phi = self.is_phi[:, :, None]
        count = is_phi.sum(1, keepdim=True).clamp(min=1)
        mean = (self.w1 * is_phi).sum(1, keepdim=True) / count
        w1 = (self.w1 - mean * is_phi) * self.mask[:, :, None]
        matrix = self.centre @ (self.matrix + self.matrix.T) @ self.centre
        charge = self.linear[-N_ATOMS:]
        linear = torch.cat([self.linear[:-N_ATOMS], charge - charge.mean()])
        return w1, matrix, linear

    def energy_gradient(self, z):
        """Energy without the offset and dE/dz of scaled descriptors."""
        w1, matrix, linear = self.effective()
        inputs = z[:, self.index].transpose(0, 1)
        h1 = torch.tanh(torch.baddbmm(self.b1, inputs, w1))
        h2 = torch.tanh(torch.baddbmm(self.b2, h1, self.w2))
        g2 = self.w3 * (1 - h2 * h2)
        g1 = (g2 @ self.w2.transpose(1, 2)) * (1 - h1 * h1)
        g_in = (g1 @ w1.transpose(1, 2)).transpose(0, 1).flatten(1)
        y = z[:, self.layout.first_quadratic :]
        product = y @ matrix
        energy = (h2 * self.w3).sum((0, 2)) + y @ linear + 0.5 * (product * y).sum(1)
        g = nn.functional.pad(product + linear, (self.layout.first_quadratic, 0))
        return energy, g.index_add(1, self.index.flatten(), g_in)


class FastModel(nn.Module):
    """One frame: positions and phi to energy, forces and charges.

    Coordinates are kept as 3 x N, which is the faster layout here.
    """

    def __init__(self, model, descriptors, offset):
        super().__init__()
        layout = model.layout
        with torch.no_grad():
            w1, matrix, linear = model.effective()
        incidence = descriptors.incidence.double()
        a, b, c = descriptors.triples
        # Vectors of pairs, then those of the triples twice, turned.
        rows = torch.cat([incidence, incidence[torch.cat([b, c, a])], incidence[torch.cat([c, a, b])]])
        # From weights of pair vectors and of triples' vectors to forces.
        back = torch.cat([incidence, incidence[torch.cat([a, b, c])]])
        sign = torch.ones(layout.n_features, dtype=torch.float64)
        sign[: layout.n_pairs] = -1
        buffers = {
            "vectors": rows.T.contiguous(),
            "back": -back,
            "scale": descriptors.scale,
            "signed_scale": descriptors.scale * sign,
            "shift": -descriptors.mean * descriptors.scale,
            "index": model.index.flatten(),
            "quadratic": torch.tensor(layout.quadratic),
            "half_matrix": 0.25 * (matrix + matrix.T).double(),
            "linear": linear.double(),
            "minus_linear": -nn.functional.pad(linear, (layout.first_quadratic, 0)),
            "w1": w1,
            "b1": model.b1,
            "w2": model.w2,
            "b2": model.b2,
            "w3": model.w3,
            "w3_flat": model.w3.flatten(),
            "offset": torch.tensor(offset, dtype=torch.float64),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone())
        self.nets, self.width = model.index.shape
        self.n_pairs, self.n_triples = layout.n_pairs, layout.n_triples
        self.sizes = [self.n_pairs, 3 * self.n_triples, 3 * self.n_triples]
        self.first_phi = layout.first_phi
        self.first_quadratic = layout.first_quadratic

    def forward(self, positions: Tensor, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pair, bca, cab = positions.t().mm(self.vectors).split(self.sizes, 1)
        inverse = (pair * pair).sum(0).rsqrt()
        crosses = torch.linalg.cross(bca, cab, dim=0)
        volume = (cab[:, self.n_triples : 2 * self.n_triples] * crosses[:, : self.n_triples]).sum(0)
        raw = torch.cat([inverse, volume, phi])
        z = torch.addcmul(self.shift, raw, self.scale)

        inputs = z.to(self.w1.dtype).index_select(0, self.index)
        inputs = inputs.view(self.nets, 1, self.width)
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

        g_pair = pair * (g[: self.n_pairs] * inverse.pow(3))
        g_triple = crosses.view(3, 3, self.n_triples) * g[self.n_pairs : self.first_phi]
        g_d = torch.cat([g_pair, g_triple.view(3, 3 * self.n_triples)], 1)
        return energy, g_d.mm(self.back).t().contiguous(), g[self.first_phi :]
