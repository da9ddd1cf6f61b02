"""Which descriptors a potential of a molecule has, and which of its networks sees which of them.

Descriptors are, in this order: 1/r of pairs of atoms, triple products of bond vectors (the sine of a torsion, the volume
of an out-of-plane bend), and the MM potential phi at each atom if the model sees it. Pairs come in the order of falling
bond distance, so that the quadratic part, which has the bonded ones, is one slice to the end. Large molecules have no
descriptor for the distant pairs of a hydrogen on carbon: only the fixed repulsion (repulsion.py) is between them.
"""

from __future__ import annotations

import itertools

import numpy as np

from ..data import graph
from ..handedness import neighbourLists

WIDTH = 104
"""Most inputs of a network."""
_ALL_PAIRS = 24  # atoms up to which every pair of atoms has a descriptor
_LONG_QUADRATIC = 30  # atoms up to which 1-4 distances are part of the quadratic form
_ELECTRONEGATIVE = (7, 8, 9, 15, 16, 17, 34, 35, 53)
_FIT_SIZE = 2500  # unknowns of the first fit, at most


class Layout:
    """The descriptors of a molecule and the inputs of every network.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the n atoms
    bonds : sequence of (int, int)
        pairs of indices into the n atoms
    embedded : bool
        whether the model sees phi

    Raises
    ------
    ValueError
        If there are fewer than two atoms: a single one has no internal coordinate.
    """

    def __init__(self, species, bonds, embedded=True):
        self.species, self.bonds = tuple(species), tuple(tuple(b) for b in bonds)
        self.n_atoms = len(self.species)
        if self.n_atoms < 2:
            raise ValueError("A model needs at least two atoms: a single one has no internal coordinate to learn.")
        self.steps = graph.bond_distances(self.n_atoms, self.bonds)
        self.near = neighbourLists(self.n_atoms, self.bonds)
        polar = {a for a, z in enumerate(self.species) if z == 1 and self._on_electronegative(a)}
        self.heavy = [a for a, z in enumerate(self.species) if z > 1]
        self.carriers = polar | set(self.heavy)
        self.polar = polar | {a for a in self.heavy if self.species[a] in _ELECTRONEGATIVE}
        self.pairs = [(i, j) for i in range(self.n_atoms) for j in range(i + 1, self.n_atoms) if self._described(i, j)]
        described = set(self.pairs)
        self.undescribed = [p for p in itertools.combinations(range(self.n_atoms), 2) if p not in described]
        self.pairs.sort(key=lambda pair: -self.steps[pair])
        self.pair_steps = [int(self.steps[pair]) for pair in self.pairs]
        self.triples, triple_atoms = self._triples()
        self.n_pairs, self.n_triples = len(self.pairs), len(self.triples)
        self.n_phi = self.n_atoms if embedded else 0
        self.first_phi = self.n_pairs + self.n_triples
        self.n_features = self.first_phi + self.n_phi
        self.atoms = [set(p) for p in self.pairs] + triple_atoms + [{a} for a in range(self.n_phi)]
        reach = 3 if self.n_atoms <= _LONG_QUADRATIC else 2
        self.first_quadratic = next((k for k, s in enumerate(self.pair_steps) if s <= reach), self.n_pairs)
        self.quadratic = range(self.first_quadratic, self.n_features)
        self.inputs = self._inputs()

    def _on_electronegative(self, atom):
        return not self.near[atom] or any(self.species[b] in _ELECTRONEGATIVE for b in self.near[atom])

    def _described(self, i, j):
        return self.n_atoms <= _ALL_PAIRS or self.steps[i, j] <= 3 or {i, j} <= self.carriers

    def _triples(self):
        """Bond triples as (first, second) atoms of three vectors: torsions (a main end with every other), and planes."""
        triples, atoms = [], []

        def add(bonds):
            key = frozenset(frozenset(b) for b in bonds)
            if key not in seen:
                seen.add(key)
                triples.append(tuple(bonds))
                atoms.append({atom for bond in bonds for atom in bond})

        seen = set()
        for b, c in self.bonds:
            left = [a for a in self.near[b] if a != c]
            right = [d for d in self.near[c] if d != b]
            main_left = next((a for a in left if self.species[a] > 1), left[0] if left else None)
            main_right = next((d for d in right if self.species[d] > 1), right[0] if right else None)
            for a in left:
                for d in right:
                    # In a ring of three both ends are the same atom.
                    if a != d and (a == main_left or d == main_right):
                        add(((a, b), (b, c), (c, d)))
        for centre, ends in enumerate(self.near):
            if len(ends) == 3:
                add(tuple((centre, end) for end in ends))
        return triples, atoms

    def _inputs(self):
        """Descriptor indices of every network: one for each centre, then those of the long distances."""
        centres = [a for a in self.heavy if len(self.near[a]) > 1]
        terminal = [a for a in self.heavy if len(self.near[a]) <= 1]
        if self.n_atoms <= _ALL_PAIRS or not centres:
            # In small molecules terminal atoms are centres of their own.
            centres = sorted(centres + terminal) or [0]
        inputs = []
        for centre in centres:
            reach = [max(self.steps[centre, a] for a in atoms) for atoms in self.atoms]
            touches = [f < self.n_pairs and centre in self.atoms[f] for f in range(self.n_features)]
            near = [f for f in range(self.n_features) if reach[f] <= 2]
            own = [f for f in range(self.n_features) if touches[f] and reach[f] > 2]
            own.sort(key=lambda f: reach[f])
            # Networks have equal widths: what is left of one is used for what comes next.
            further = [f for f in range(self.n_features) if reach[f] > 2 and not touches[f]]
            further.sort(key=lambda f: (reach[f], f < self.n_pairs))
            inputs.append((near + own + further)[:WIDTH])
        distant = [p for p in range(self.n_pairs) if self.pair_steps[p] >= 3]
        distant.sort(key=lambda p: not self.atoms[p] & self.polar)
        parts = -(-len(distant) // WIDTH)
        return inputs + [chosen.tolist() for chosen in np.array_split(distant, parts)] if parts else inputs

    def padded_inputs(self):
        """Inputs padded to equal length, and the mask of the real ones."""
        width = max(len(chosen) for chosen in self.inputs)
        width = min(WIDTH, -(-width // 8) * 8)
        index = np.zeros((len(self.inputs), width), dtype=np.int64)
        mask = np.zeros((len(self.inputs), width), dtype=np.float32)
        for row, chosen in enumerate(self.inputs):
            index[row, : len(chosen)] = chosen
            mask[row, : len(chosen)] = 1
        return index, mask

    def fit_products(self):
        """Pairs of descriptors whose products the first fit uses: the more local ones first, up to its largest size.

        Returns
        -------
        two arrays of int
            places of the pairs' two descriptors within the quadratic part, the first one not smaller
        """
        size = len(self.quadratic)
        levels = {}
        for m, f in enumerate(self.quadratic):
            for n in range(m + 1):
                level = self._level(f, self.quadratic[n])
                if level is not None:
                    levels.setdefault(level, []).append((m, n))
        chosen = []
        for level in sorted(levels):
            if chosen and len(chosen) + len(levels[level]) + size > _FIT_SIZE:
                break
            chosen += levels[level]
        return tuple(np.array(sorted(chosen), dtype=np.int64).reshape(-1, 2).T)

    def _level(self, f, g):
        """How early a product comes into the fit (0 first), None if never."""
        if f == g:
            return 0
        kinds = [self._kind(f), self._kind(g)]
        shared = len(self.atoms[f] & self.atoms[g])
        if kinds == ["phi", "phi"]:
            return 2
        if "phi" in kinds:
            (atom,) = self.atoms[f if kinds[0] == "phi" else g]
            other, kind = (g, kinds[1]) if kinds[0] == "phi" else (f, kinds[0])
            reach = min(self.steps[atom, a] for a in self.atoms[other])
            return 3 if reach == 0 else 5 if reach == 1 and kind == "bonded" else None
        bonded = kinds == ["bonded", "bonded"]
        if shared >= 2:
            return 1 if bonded else 4
        return 6 if shared and bonded else None

    def _kind(self, f):
        if f >= self.first_phi:
            return "phi"
        return "bonded" if f < self.n_pairs and self.pair_steps[f] <= 2 else "other"
