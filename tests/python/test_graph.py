"""The molecular graph: rings, equivalent atoms, permutations and handedness."""

import numpy as np
import pytest

from openmmkstep.data import graph

ETHANOL = ([6, 6, 8, 1, 1, 1, 1, 1, 1], [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)])
WATERS = ([8, 1, 1, 8, 1, 1], [(0, 1), (0, 2), (3, 4), (3, 5)])
# Toluene: the ring is 0-5, its hydrogens 6-10 at 1-5, the methyl 11 (hydrogens 12-14) at 0.
TOLUENE = (
    [6] * 6 + [1] * 5 + [6, 1, 1, 1],
    [(i, (i + 1) % 6) for i in range(6)] + [(i, i + 5) for i in range(1, 6)] + [(0, 11), (11, 12), (11, 13), (11, 14)],
)


def groups(species, bonds):
    return [(g.atoms, g.exchange) for g in graph.equivalent_atoms(species, bonds)]


def test_distances_and_molecules():
    steps = graph.bond_distances(9, ETHANOL[1])
    assert steps[3, 8] == 4 and steps[0, 0] == 0 and (steps == steps.T).all()
    assert graph.bond_distances(6, WATERS[1])[0, 3] == graph.UNCONNECTED
    assert graph.molecules(6, WATERS[1]) == [(0, 1, 2), (3, 4, 5)]


def test_rings():
    assert graph.rings(15, TOLUENE[1]) == [(0, 1, 2, 3, 4, 5)]
    # Naphthalene's carbons: two rings that share the bond (0, 5).
    naphthalene = [(i, (i + 1) % 6) for i in range(6)] + [(5, 6), (6, 7), (7, 8), (8, 9), (9, 0)]
    assert [len(ring) for ring in graph.rings(10, naphthalene)] == [6, 6]


@pytest.mark.parametrize(
    "species, bonds, expected",
    [
        (*ETHANOL, [((3, 4, 5), "cyclic")]),  # but not the CH2
        (*WATERS, [((1, 2), "all"), ((4, 5), "all")]),
        ([7, 1, 1, 1], [(0, 1), (0, 2), (0, 3)], [((1, 2, 3), "all")]),
        ([7, 1, 1, 1, 1], [(0, i) for i in range(1, 5)], [((1, 2, 3, 4), "even")]),
        # Formamide keeps its two H(N), methylamine does not; formate exchanges its oxygens, fluoroform its fluorines.
        ([6, 8, 7, 1, 1, 1], [(0, 1), (0, 2), (0, 3), (2, 4), (2, 5)], []),
        (
            [6, 7, 1, 1, 1, 1, 1],
            [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6)],
            [((2, 3, 4), "cyclic"), ((5, 6), "all")],
        ),
        ([6, 8, 8, 1], [(0, 1), (0, 2), (0, 3)], [((1, 2), "all")]),
        ([6, 9, 9, 9, 1], [(0, i) for i in range(1, 5)], [((1, 2, 3), "cyclic")]),
    ],
)
def test_equivalent_atoms(species, bonds, expected):
    assert groups(species, bonds) == expected


@pytest.mark.parametrize("molecule, count", [(ETHANOL, 3), (WATERS, 8), (TOLUENE, 6)])
def test_permutations_are_automorphisms(molecule, count):
    species, bonds = molecule
    orders = graph.permutations(species, bonds)
    assert len(orders) == len({tuple(o) for o in orders}) == count
    assert (orders[0] == np.arange(len(species))).all()
    edges = {frozenset(b) for b in bonds}
    for order in np.concatenate([orders, graph.random_permutations(species, bonds, 20, np.random.default_rng(1))]):
        assert [species[a] for a in order] == species
        assert {frozenset((order[a], order[b])) for a, b in bonds} == edges


def test_orders_of_factors_reach_the_same_pairs():
    few = graph.permutations(*TOLUENE, limit=1)
    assert len(few) == 1 + 2 + 1
    rng = np.random.default_rng(2)
    low = rng.random((15, 15))
    low = one = np.minimum(low, low.T)
    for order in graph.permutations(*TOLUENE):
        low = np.minimum(low, one[np.ix_(order, order)])
    for order in few:
        one = np.minimum(one, one[np.ix_(order, order)])
    np.testing.assert_array_equal(one, low)


def test_random_permutations_reach_all_orders():
    drawn = graph.random_permutations(*WATERS, 300, np.random.default_rng(1))
    assert len({tuple(o) for o in drawn}) == 8
