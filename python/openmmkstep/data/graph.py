"""The molecular graph of a region: rings, equivalent atoms and the orders that dynamics gives them.

Everything follows from the atomic numbers and the bonds. A model is trained on all orders of atoms that dynamics exchanges:
the hydrogens of a water, an ammonia, an amine; the turns of a methyl. Labels that it does not exchange have a handedness, see
openmmkstep.handedness.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from ..handedness import PYRAMIDAL, neighbourLists

UNCONNECTED = 99
"""Bond distance of atoms of different molecules."""
_HYDROGEN = 1
_EXHAUSTIVE = 4  # identical molecules in a region up to which all their orders are listed, not only exchanges


class Equivalence(NamedTuple):
    """Terminal atoms of one element at the same centre which dynamics exchanges.

    ``exchange`` says how: 'cyclic' (turns of a methyl, CF3, NH3+), 'even' (CH4, NH4+, sulfate: turns of a tetrahedron)
    or 'all' (water, ammonia, amines, carboxylates, nitro groups).
    """

    centre: int
    atoms: tuple[int, ...]
    exchange: str


def bond_distances(n, bonds) -> np.ndarray:
    """Number of bonds on the shortest way between every two of n atoms, UNCONNECTED between molecules: shape (n, n)."""
    steps = np.full((n, n), UNCONNECTED)
    np.fill_diagonal(steps, 0)
    for a, b in bonds:
        steps[a, b] = steps[b, a] = 1
    for k in range(n):
        steps = np.minimum(steps, steps[:, k : k + 1] + steps[k : k + 1])
    return np.minimum(steps, UNCONNECTED)


def molecules(n, bonds) -> list[tuple[int, ...]]:
    """The atoms of each connected part, ascending, ordered by their first atoms."""
    steps = bond_distances(n, bonds)
    return sorted({tuple(np.flatnonzero(row < UNCONNECTED).tolist()) for row in steps})


def rings(n, bonds, largest=8) -> list[tuple[int, ...]]:
    """The shortest ring through every bond that is in one of up to `largest` atoms.

    Returns
    -------
    list of tuples of int
        the atoms of each ring in order around it, from its smallest index on; each ring once
    """
    near = neighbourLists(n, bonds)
    found = {}
    for a, b in bonds:
        paths = [[a]]
        for _ in range(largest - 1):
            paths = [p + [c] for p in paths for c in near[p[-1]] if c not in p and not (p == [a] and c == b)]
            closed = [p for p in paths if p[-1] == b]
            if closed:
                for path in closed:
                    found.setdefault(frozenset(path), _ring_order(path))
                break
    return sorted(found.values(), key=lambda ring: (len(ring), ring))


def _ring_order(path) -> tuple[int, ...]:
    start = path.index(min(path))
    turned = path[start:] + path[:start]
    return tuple(min(turned, [turned[0]] + turned[:0:-1]))


def equivalent_atoms(species, bonds) -> list[Equivalence]:
    """Groups of terminal atoms that dynamics exchanges, ordered by their centres.

    Not among them: the hydrogens of CH2 and NH2 groups whose exchange would break a bond or turn a double bond (amides,
    alkenes). The NH2 of an amine inverts and turns, so that its hydrogens are exchanged.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the n atoms
    bonds : sequence of (int, int)
        pairs of indices into the n atoms
    """
    near = neighbourLists(len(species), bonds)
    groups = []
    for centre, around in enumerate(near):
        terminal = [a for a in around if len(near[a]) == 1]
        for element in sorted({species[a] for a in terminal}):
            atoms = tuple(a for a in terminal if species[a] == element)
            exchange = _exchange(species, near, centre, atoms)
            if exchange:
                groups.append(Equivalence(centre, atoms, exchange))
    return groups


def _exchange(species, near, centre, atoms) -> str | None:
    count, degree = len(atoms), len(near[centre])
    if count == 4 and degree == 4:
        return "even"
    if count == 3 and degree == 4:
        return "cyclic"
    if count == 3 and degree == 3:
        return "cyclic" if species[centre] in PYRAMIDAL else "all"
    if count == 2 and degree == 2:
        # The two atoms of a molecule of two have one neighbour each and are not meant here.
        return "all"
    if count == 2 and degree == 3:
        if species[atoms[0]] != _HYDROGEN:
            return "all" if species[centre] in (6, 7) else None
        (other,) = (a for a in near[centre] if a not in atoms)
        amine = species[centre] == 7 and species[other] == 6 and len(near[other]) == 4
        return "all" if amine else None
    return None


def equivalent_hydrogens(species, bonds) -> list[Equivalence]:
    """The groups of equivalent_atoms() that are hydrogens."""
    return [group for group in equivalent_atoms(species, bonds) if species[group.atoms[0]] == _HYDROGEN]


def permutation_factors(species, bonds) -> list[np.ndarray]:
    """The exchanges that leave the molecule as it is, factor by factor; any product of them is one, too.

    Parameters
    ----------
    species, bonds :
        as for equivalent_atoms()

    Returns
    -------
    list of arrays of int of shape (orders, n)
        for each group of equivalent atoms, each planar ring that can be flipped, and each kind of identical molecules:
        the atom orders, the unchanged one first. An order lists, for each atom of the contract, the atom that takes its
        place
    """
    n = len(species)
    factors = []
    for _, atoms, exchange in equivalent_atoms(species, bonds):
        orders = list(itertools.permutations(atoms))
        if exchange != "all":
            orders = [order for order in orders if _is_even(order)]
        factors.append(_orders(n, [dict(zip(atoms, order, strict=True)) for order in orders]))
    factors += [_orders(n, [{}, flip]) for flip in _ring_flips(species, bonds)]
    return factors + [_orders(n, swaps) for swaps in _molecule_swaps(species, bonds)]


def _is_even(order) -> bool:
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2 == 0


def _orders(n, mappings) -> np.ndarray:
    orders = np.tile(np.arange(n), (len(mappings), 1))
    for order, mapping in zip(orders, mappings, strict=True):
        for place, atom in mapping.items():
            order[place] = atom
    return orders


def _ring_flips(species, bonds) -> list[dict[int, int]]:
    """Half turns of rings of five or six planar atoms about the only bond that holds them, plus an end on the far side."""
    n = len(species)
    near = neighbourLists(n, bonds)
    flips = []
    for ring in rings(n, bonds, 6):
        if len(ring) < 5 or any(len(near[a]) > 3 for a in ring):
            continue
        outside = {a: [b for b in near[a] if b not in ring] for a in ring}
        for place, axis in enumerate(ring):
            turned = ring[place:] + ring[:place]
            if not outside[axis] or len(near[outside[axis][0]]) == 1:
                continue
            flip = {}
            for a, b in zip(turned[1:], turned[:0:-1], strict=True):
                if a == b:
                    continue
                ends = outside[a], outside[b]
                same = species[a] == species[b] and [species[e] for e in ends[0]] == [species[e] for e in ends[1]]
                if not same or any(len(near[e]) > 1 for e in ends[0] + ends[1]):
                    break
                flip[a] = b
                flip.update(zip(*ends, strict=True))
            else:
                if not any(flip == other for other in flips):
                    flips.append(flip)
    return flips


def _molecule_swaps(species, bonds) -> list[list[dict[int, int]]]:
    """Exchanges of whole molecules that list the same elements and bonds in the same order."""
    kinds = {}
    for atoms in molecules(len(species), bonds):
        place = {a: i for i, a in enumerate(atoms)}
        inner = tuple(sorted((place[a], place[b]) for a, b in bonds if a in place))
        kinds.setdefault((tuple(species[a] for a in atoms), inner), []).append(atoms)
    result = []
    for same in kinds.values():
        if len(same) < 2:
            continue
        count = range(len(same))
        if len(same) <= _EXHAUSTIVE:
            orders = list(itertools.permutations(count))
        else:
            orders = [tuple(count)]
            for i, j in itertools.combinations(count, 2):
                order = list(count)
                order[i], order[j] = j, i
                orders.append(tuple(order))
        result.append(
            [
                {a: b for i, j in zip(count, order, strict=True) for a, b in zip(same[i], same[j], strict=True)}
                for order in orders
            ]
        )
    return result


def permutations(species, bonds, limit=1000) -> np.ndarray:
    """Atom orders that dynamics exchanges: all of them, or, of more than `limit`, those of each factor alone.

    Taken one after the other, in order, the latter reach every pair of atoms that all orders reach, which is what
    findDistanceRanges() needs.

    Returns
    -------
    array of int of shape (orders, n)
        the unchanged order first
    """
    factors = permutation_factors(species, bonds)
    n = len(species)
    if np.prod([len(f) for f in factors], dtype=float) > limit:
        return np.concatenate([np.arange(n)[None]] + [f[1:] for f in factors])
    result = np.arange(n)[None]
    for factor in factors:
        result = result[:, factor].reshape(-1, n)
    return result


def random_permutations(species, bonds, count, generator) -> np.ndarray:
    """`count` atom orders drawn at random from all products of the factors: shape (count, n).

    Parameters
    ----------
    generator : numpy.random.Generator
    """
    result = np.tile(np.arange(len(species)), (count, 1))
    for factor in permutation_factors(species, bonds):
        chosen = factor[generator.integers(len(factor), size=count)]
        result = np.take_along_axis(result, chosen, axis=1)
    return result
