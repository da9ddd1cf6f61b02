"""embeddingGroups: whole molecules, ions, and residues of integer charge."""

import pathlib
import time

import pytest
from biopolymers import DNA, PROTEIN, WATER, charges_of, index, join, polymer, select, side_chain, unbonded
from conftest import water_topology
from openmm import app

from openmmkstep.qmmm.cuts import findCuts
from openmmkstep.qmmm.groups import Group, embeddingGroups

AMBER = (PROTEIN, WATER)


@pytest.fixture(scope="module")
def villin():
    """A protein, ions and water as PDBFile reads them: topology and charges."""
    topology = app.PDBFile(str(pathlib.Path(app.__file__).parent / "data" / "test.pdb")).topology
    return topology, charges_of(topology, *AMBER)


def total(charges, group) -> float:
    return sum(charges[i] for i in group.particles)


def cut_side_chain(topology, charges, residue):
    """QM atoms, charges with the leftover of the QM part moved to the MM host, MM host."""
    qm = side_chain(topology, residue)
    (cut,) = findCuts(topology, qm)
    charges = list(charges)
    leftover = sum(charges[i] for i in qm)
    charges[cut.mm] += leftover - round(leftover)
    return qm, charges, cut.mm


def check_partition(topology, groups, qm):
    """Each MM particle is in exactly one group; groups and their particles are sorted."""
    particles = [i for g in groups for i in g.particles]
    assert sorted(particles) == sorted(set(range(topology.getNumAtoms())) - set(qm))
    assert all(list(g.particles) == sorted(g.particles) for g in groups)
    assert groups == sorted(groups)


def test_protein_in_water(villin):
    """Without cuts each residue is a group: all have integer charges."""
    topology, charges = villin
    groups = embeddingGroups(topology, charges, [], [])
    check_partition(topology, groups, [])
    residues = list(topology.residues())
    assert [g.particles for g in groups] == [tuple(a.index for a in r.atoms()) for r in residues]
    assert all(g.switched for g in groups)
    assert all(abs(total(charges, g) - round(total(charges, g))) < 1e-3 for g in groups)
    assert {round(total(charges, g)) for g in groups} == {-1, 0, 1}
    for group, residue in zip(groups, residues, strict=True):
        # Oxygen of water, the ion itself, no centre of amino acids.
        assert group.center == (group.particles[0] if residue.name in ("HOH", "Cl", "CL") else -1)


@pytest.mark.parametrize("name", ["ASP", "LEU", "LYS", "PHE"])
def test_cut_side_chain(villin, name):
    """The residue's rest is an integer group that is never switched; all others are as before."""
    topology, charges = villin
    residue = [r.name for r in topology.residues()].index(name)
    qm, charges, host = cut_side_chain(topology, charges, residue)
    groups = embeddingGroups(topology, charges, qm, [host])
    check_partition(topology, groups, qm)
    (group,) = [g for g in groups if not g.switched]
    rest = [i for i in select(topology, residue) if i not in qm]
    assert group == Group(tuple(rest), -1, False)
    assert host in rest
    assert total(charges, group) == pytest.approx(1 if residue == 0 else 0, abs=1e-3)
    assert len(groups) == topology.getNumResidues()


def test_all_groups_near_the_boundary_are_unswitched(villin):
    topology, charges = villin
    qm, charges, host = cut_side_chain(topology, charges, 4)
    near = [host, index(topology, 3, "C"), index(topology, 5, "N")]
    groups = embeddingGroups(topology, charges, iter(qm), iter(near))
    unswitched = [g for g in groups if not g.switched]
    assert [list(g.particles) for g in unswitched] == [
        select(topology, 3),
        select(topology, 4, only="N H CA HA C O"),
        select(topology, 5),
    ]


def test_qm_region_between_two_pieces():
    """QM: the middle of a peptide. What is left of the residues at its ends stays with its own side."""
    topology = polymer("ACE", "ALA", "SER", "ALA", "SER", "ALA", "NME")
    charges = charges_of(topology, PROTEIN)
    qm = select(topology, 2, only="C O") + select(topology, 3) + select(topology, 4, without="C O")
    near = [c.mm for c in findCuts(topology, qm)]
    groups = embeddingGroups(topology, charges, qm, near)
    check_partition(topology, groups, qm)
    parts = [select(topology, 2, without="C O"), select(topology, 4, only="C O")]
    assert [list(g.particles) for g in groups if not g.switched] == parts
    # Neither has an integer charge, and no merging with bonded residues would make one.
    assert all(abs(sum(charges[i] for i in p)) > 0.01 for p in parts)
    assert len(groups) == 6


def moved(charges, first, second, charge) -> list[float]:
    charges = list(charges)
    charges[first] -= charge
    charges[second] += charge
    return charges


def test_residues_of_fractional_charge_are_merged():
    topology = polymer("ACE", *["ALA"] * 8, "NME")
    residues = [tuple(a.index for a in r.atoms()) for r in topology.residues()]
    integer = charges_of(topology, PROTEIN)

    def merged(charges, near=()):
        groups = embeddingGroups(topology, charges, [], near)
        check_partition(topology, groups, [])
        return [g for g in groups if g.particles not in residues]

    assert merged(integer) == []
    # 4 owes 5: a pair, although 3-4 and 5-6 are bonded too.
    pair = moved(integer, residues[4][0], residues[5][0], 0.3)
    assert merged(pair) == [Group(residues[4] + residues[5], -1, True)]
    assert merged(pair, [residues[5][3]]) == [Group(residues[4] + residues[5], -1, False)]
    # 2 owes 4: with the integer residue between.
    assert merged(moved(integer, residues[2][0], residues[4][0], 0.3)) == [Group(sum(residues[2:5], ()), -1, True)]
    # Two pairs, found whatever the order.
    pairs = moved(pair, residues[8][0], residues[7][0], 0.4)
    assert merged(pairs) == [Group(residues[4] + residues[5], -1, True), Group(residues[7] + residues[8], -1, True)]
    # 6 would complete 5 as well, which is taken.
    assert merged(moved(pair, residues[0][0], residues[6][0], 0.7)) == [Group(residues[4] + residues[5], -1, True)]
    # Four residues at most: a longer group would have no meaningful centre.
    assert merged(moved(integer, residues[1][0], residues[4][0], 0.3)) == [Group(sum(residues[1:5], ()), -1, True)]
    assert merged(moved(integer, residues[1][0], residues[5][0], 0.3)) == []
    # Less than the tolerance is an integer.
    assert merged(moved(integer, residues[4][0], residues[5][0], 0.0009)) == []
    assert len(merged(moved(integer, residues[4][0], residues[5][0], 0.0011))) == 1


def test_merging_follows_mm_bonds_only():
    """Residues that only the QM region connects, or nothing, stay apart."""
    topology = polymer("ACE", "ALA", "ALA", "ALA", "NME")
    integer = charges_of(topology, PROTEIN)
    qm = select(topology, 2)
    charges = moved(integer, index(topology, 1, "CA"), index(topology, 3, "CA"), 0.3)
    groups = embeddingGroups(topology, charges, qm, [])
    assert [list(g.particles) for g in groups] == [select(topology, r) for r in (0, 1, 3, 4)]

    waters = water_topology(2)
    charges = moved(charges_of(waters, WATER), 0, 3, 0.3)
    assert [g.particles for g in embeddingGroups(waters, charges, [], [])] == [(0, 1, 2), (3, 4, 5)]


def test_ends_of_dna():
    """The ends of a strand have charges of -0.31 and -0.69."""
    short = polymer("DC5", "DA", "DG3", file=DNA)
    (group,) = embeddingGroups(short, charges_of(short, DNA), [], [])
    assert group == Group(tuple(range(short.getNumAtoms())), -1, True)

    strand = polymer("DC5", *["DA"] * 6, "DG3", file=DNA)
    charges = charges_of(strand, DNA)
    groups = embeddingGroups(strand, charges, [], [])
    check_partition(strand, groups, [])
    assert [round(total(charges, g), 4) for g in groups] == [-0.3079, -1, -1, -1, -1, -1, -1, -0.6921]


def test_molecules_of_one_residue():
    """A ligand is a group whatever its charge, also what is left of it on two sides of the QM region."""
    topology = polymer("LYS")
    n = topology.getNumAtoms()
    charges = [0.05] * n
    assert embeddingGroups(topology, charges, [], []) == [Group(tuple(range(n)), -1, True)]
    qm = select(topology, 0, only="CG HG2 HG3 CD HD2 HD3")
    (group,) = embeddingGroups(topology, charges, qm, [index(topology, 0, "CB"), index(topology, 0, "CE")])
    assert set(group.particles) == set(range(n)) - set(qm)
    assert not group.switched


def test_centre():
    """The only heavy atom; the only atom; otherwise the centroid."""
    topology = join(water_topology(1), unbonded("Na"), unbonded("H", "H"), polymer("ACE", "NME"), unbonded("H"))
    topology.addBond(*[a for a in topology.atoms() if a.residue.index == 2])
    charges = [-0.8, 0.4, 0.4, 1, 0.1, -0.1] + charges_of(polymer("ACE", "NME"), PROTEIN) + [1]
    groups = embeddingGroups(topology, charges, [], [])
    assert [g.center for g in groups] == [0, 3, -1, -1, -1, topology.getNumAtoms() - 1]
    # With the amide in the QM region a methyl is left on either side.
    amide = select(topology, 3, only="C O") + select(topology, 4, only="N H")
    methyls = [index(topology, 3, "CH3"), index(topology, 4, "CH3")]
    assert [g.center for g in embeddingGroups(topology, charges, amide, methyls)][3:5] == methyls


def test_virtual_sites_and_ions():
    """Four-site water, and ions that share a residue."""
    topology = join(water_topology(2, virtual_sites=True), unbonded("Na", "Cl"))
    charges = [0, 0.5, 0.5, -1] * 2 + [1, -1]
    expected = [Group((0, 1, 2, 3), 0, True), Group((4, 5, 6, 7), 4, True), Group((8,), 8, True), Group((9,), 9, True)]
    assert embeddingGroups(topology, charges, [], []) == expected
    assert embeddingGroups(topology, charges, range(4), []) == expected[1:]


def test_several_molecules_in_one_residue():
    """Waters and an ion; each virtual site goes with the molecule before it, one in front with the first."""
    topology = app.Topology()
    residue = topology.addResidue("MIX", topology.addChain())
    elements = [None, "O", "H", "H", None, "O", "H", "H", None, "Na"]
    atoms = [topology.addAtom("X", e and app.Element.getBySymbol(e), residue) for e in elements]
    for oxygen in (1, 5):
        for hydrogen in (1, 2):
            topology.addBond(atoms[oxygen], atoms[oxygen + hydrogen])
    charges = [-0.1, -0.8, 0.5, 0.5, -0.1, 0, 0.5, 0.5, -1, 1]
    groups = embeddingGroups(topology, charges, [], [])
    assert groups == [Group((0, 1, 2, 3, 4), 1, True), Group((5, 6, 7, 8), 5, True), Group((9,), 9, True)]


def test_atoms_without_bonds_belong_to_their_residue():
    topology = unbonded("S", "O", "O", "O", "O")
    charges = [1.4, *[-0.85] * 4]
    assert embeddingGroups(topology, charges, [], []) == [Group((0, 1, 2, 3, 4), -1, True)]


def test_number_of_charges_is_checked():
    with pytest.raises(ValueError, match="Expected 6 charges, one for each atom, found 5"):
        embeddingGroups(water_topology(2), [0.0] * 5, [], [])


def test_speed(villin):
    """23,000 atoms take about 0.1 s for each function on an idle core."""
    topology, charges = villin
    topology = join(topology, water_topology(4800))
    charges = charges + charges_of(water_topology(1), WATER) * 4800
    assert topology.getNumAtoms() > 23000
    qm, charges, host = cut_side_chain(topology, charges, 4)
    start = time.process_time()
    groups = embeddingGroups(topology, charges, qm, [host])
    findCuts(topology, qm)
    assert time.process_time() - start < 2
    check_partition(topology, groups, qm)
