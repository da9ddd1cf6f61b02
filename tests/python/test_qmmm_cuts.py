"""findCuts finds the bonds between the regions, refuses those that cannot be cut, and warns of bad ones."""

import pathlib

import pytest
from biopolymers import add_bond, index, join, polymer, select, side_chain, unbonded
from conftest import water_topology
from openmm import app

from openmmkstep.qmmm.cuts import Cut, cutWarnings, findCuts

ROOT = pathlib.Path(__file__).parent.parent.parent
BACKBONE = "N H CA HA C O"


def capped(*residues: str) -> app.Topology:
    return polymer("ACE", *residues, "NME")


def found(topology, qm):
    """The cuts, and all their warnings as one text."""
    cuts = findCuts(topology, qm)
    return cuts, "\n".join(cutWarnings(topology, qm, cuts))


def refused(topology, qm) -> str:
    with pytest.raises(ValueError) as error:
        findCuts(topology, qm)
    return str(error.value)


def molecule(elements: str, bonds: list[tuple]) -> app.Topology:
    """A residue of atoms given by their symbols, with bonds (first atom, second atom, type, order)."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(f"{s}{i}", app.Element.getBySymbol(s), residue) for i, s in enumerate(elements.split())]
    for a, b, *order in bonds:
        topology.addBond(atoms[a], atoms[b], *order)
    return topology


def butene(*order) -> app.Topology:
    """CH3-CH=CH-CH3: atoms 0 to 3 are its carbons, the double bond has this type and order."""
    hydrogens = [(0, 4), (0, 5), (0, 6), (1, 7), (2, 8), (3, 9), (3, 10), (3, 11)]
    return molecule("C C C C" + " H" * 8, [(0, 1), (1, 2, *order), (2, 3), *hydrogens])


BUTENE_HALF = [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "name", "ALA ARG ASH ASN ASP CYS GLN GLU HID HIP ILE LEU LYS MET PHE SER THR TRP TYR VAL".split()
)
def test_side_chain(name):
    topology = capped("ALA", name, "ALA")
    cuts, warnings = found(topology, side_chain(topology, 2))
    assert cuts == [Cut(index(topology, 2, "CB"), index(topology, 2, "CA"), 0.109)]
    assert not warnings


def test_side_chains_of_a_protein():
    """A protein as PDBFile reads it. Two cuts, sorted whatever the order of the QM atoms."""
    topology = app.PDBFile(str(pathlib.Path(app.__file__).parent / "data" / "test.pdb")).topology
    names = [r.name for r in topology.residues()]
    asp, lys = names.index("ASP"), names.index("LYS")
    cuts, warnings = found(topology, reversed(side_chain(topology, asp) + side_chain(topology, lys)))
    assert cuts == [Cut(index(topology, i, "CB"), index(topology, i, "CA"), 0.109) for i in (asp, lys)]
    assert not warnings


def test_cuts_beside_carbonyls():
    """QM: what is between two C-alpha. Either end of a CA-C bond can be the QM host."""
    topology = capped("ALA", "SER", "ALA")
    qm = select(topology, 1, only="C O") + select(topology, 2, without="C O")
    cuts, warnings = found(topology, qm)
    expected = [((1, "C"), (1, "CA")), ((2, "CA"), (2, "C"))]
    assert cuts == [Cut(index(topology, *q), index(topology, *m), 0.109) for q, m in expected]
    assert not warnings


@pytest.mark.parametrize("residues, host, other, distance", [((0,), "C", "N", 0.109), ((1, 2), "N", "C", 0.101)])
def test_peptide_bond_is_warned_of(residues, host, other, distance):
    topology = capped("ALA")
    cuts, warnings = found(topology, [i for r in residues for i in select(topology, r)])
    ends = index(topology, residues[0], host), index(topology, 1 - residues[0], other)
    assert cuts == [Cut(*ends, distance)]
    assert "C-N bond of a peptide" in warnings
    assert "CA-C" in warnings


def test_bond_to_proline_is_a_peptide_bond():
    topology = capped("PRO")
    assert "C-N bond of a peptide" in found(topology, select(topology, 0))[1]


@pytest.mark.parametrize(
    "residue, qm, symbols, distance",
    [
        ("SER", "OG HG", "O-C", 0.096),
        ("MET", "SD CE HE1 HE2 HE3", "S-C", 0.134),
        ("LYS", "NZ HZ1 HZ2 HZ3", "N-C", 0.101),
        ("MET", "CE HE1 HE2 HE3", "C-S", 0.109),
    ],
)
def test_polar_cut_is_warned_of(residue, qm, symbols, distance):
    topology = capped(residue)
    cuts, warnings = found(topology, select(topology, 1, only=qm))
    assert [c.distance for c in cuts] == [distance]
    assert f"goes through a {symbols} bond" in warnings


def test_disulfide():
    """The ring that a disulfide closes through the backbone is no obstacle, unless the cysteines are neighbours."""
    topology = capped("CYX", "GLY", "GLY", "CYX")
    add_bond(topology, (1, "SG"), (4, "SG"))
    cuts, warnings = found(topology, side_chain(topology, 1) + side_chain(topology, 4))
    assert [(c.qm, c.mm) for c in cuts] == [(index(topology, r, "CB"), index(topology, r, "CA")) for r in (1, 4)]
    assert not warnings
    cuts, warnings = found(topology, side_chain(topology, 1))
    assert cuts[1] == Cut(index(topology, 1, "SG"), index(topology, 4, "SG"), 0.134)
    assert "S-S bond" in warnings

    topology = capped("CYX", "CYX")
    add_bond(topology, (1, "SG"), (2, "SG"))
    assert "ring of 8 atoms" in refused(topology, side_chain(topology, 1) + side_chain(topology, 2))


@pytest.mark.parametrize(
    "residue, qm, size",
    [
        ("PRO", "CB HB2 HB3 CG HG2 HG3", 5),
        ("PHE", "CB HB2 HB3 CG CD1 HD1 CE1 HE1", 6),
        ("TRP", "CB HB2 HB3 CG CD1 HD1 NE1 HE1", 5),
        ("HID", "CE1 HE1 NE2", 5),
    ],
)
def test_ring_is_not_cut(residue, qm, size):
    topology = capped(residue)
    message = refused(topology, select(topology, 1, only=qm))
    assert f"ring of {size} atoms" in message
    assert "Put the whole ring into the same region." in message
    assert len(message.splitlines()) == 2  # a ring is left by two bonds, of which each is named


@pytest.mark.parametrize("residue, carbon, oxygen", [(0, "C", "O"), (1, "CG", "OD1")])
def test_carbonyl_is_not_cut(residue, carbon, oxygen):
    topology = capped("ASP")
    ends = f"{carbon} of", f"{oxygen} of"
    everything = set(range(topology.getNumAtoms()))
    lone = {index(topology, residue, oxygen)}
    for qm in (lone, everything - lone):
        message = refused(topology, qm)
        assert all(end in message for end in ends)
        assert f"{oxygen} has no other bond" in message


def test_double_bond_is_not_cut():
    """Told by the numbers of neighbours, or by the topology's bond types and orders, which count more."""
    assert "may be a multiple bond" in refused(butene(), BUTENE_HALF)
    for order in ((app.Double,), (app.Aromatic,), (app.Triple, 3), (None, 2)):
        assert "it is a double, triple or aromatic bond" in refused(butene(*order), BUTENE_HALF)
    for order in ((app.Single,), (None, 1)):
        cuts, warnings = found(butene(*order), BUTENE_HALF)
        assert cuts == [Cut(1, 2, 0.109)]
        assert "single bond between unsaturated atoms" in warnings
    assert found(butene(), [0, 4, 5, 6]) == ([Cut(0, 1, 0.109)], "")


def test_order_counts_more_than_neighbours():
    """A double bond between atoms that have all their neighbours."""
    hydrogens = [(i, 2 + 3 * i + k) for i in range(2) for k in range(3)]
    ethane = molecule("C C" + " H" * 6, [(0, 1, None, 2), *hydrogens])
    assert "double, triple or aromatic" in refused(ethane, [0, 2, 3, 4])


def test_guanidinium_is_not_cut():
    topology = capped("ARG")
    head = select(topology, 1, only="CZ NH1 HH11 HH12 NH2 HH21 HH22")
    assert "may be a multiple bond" in refused(topology, head)
    assert "N-C bond" in found(topology, [*head, *select(topology, 1, only="NE HE")])[1]


@pytest.mark.parametrize("order", [(), (app.Amide,)])
@pytest.mark.parametrize("ion", ["", "Ca"])
def test_amide_without_hydrogen(order, ion):
    """A deprotonated amide is one too, and if its oxygen coordinates an ion."""
    bonds = [(0, 1), (1, 2), (1, 3, *order), (3, 4), *((0, 5 + k) for k in range(3)), *((4, 8 + k) for k in range(3))]
    amide = molecule("C C O N C" + " H" * 6 + " " + ion, bonds + [(2, 11)] * bool(ion))
    cuts, warnings = found(amide, [0, 1, 2, 5, 6, 7] + [11] * bool(ion))
    assert cuts == [Cut(1, 3, 0.109)]
    assert "peptide or amide" in warnings


def test_isocyanate_is_not_cut():
    isocyanate = molecule("O C N C H H H", [(0, 1), (1, 2), (2, 3), *((3, 4 + k) for k in range(3))])
    assert "may be a multiple bond" in refused(isocyanate, [0, 1])


def test_enamine_is_no_amide():
    """CH2=C(OH)-NH-CH3: the carbon has its double bond elsewhere, and its oxygen none."""
    hydrogens = [(0, 5), (0, 6), (2, 7), (3, 8), (4, 9), (4, 10), (4, 11)]
    enamine = molecule("C C O N C" + " H" * 7, [(0, 1), (1, 2), (1, 3), (3, 4), *hydrogens])
    assert "goes through a C-N bond:" in found(enamine, [0, 1, 2, 5, 6, 7])[1]


def test_hydrogen_is_not_cut_off():
    topology = capped("ALA")
    hydrogen = {index(topology, 1, "HB1")}
    for qm in (hydrogen, set(range(topology.getNumAtoms())) - hydrogen):
        assert "HB1 is a hydrogen. Put both atoms into the same region." in refused(topology, qm)


def test_many_problems_are_not_all_listed():
    topology = capped("LEU")
    hydrogens = [a.index for a in topology.atoms() if a.element is app.element.hydrogen]
    lines = refused(topology, hydrogens).splitlines()
    assert len(lines) == 6
    assert lines[-1] == f"The same goes for {len(hydrogens) - 5} further bonds: is qmAtoms what you meant?"
    assert len(refused(topology, hydrogens[:5]).splitlines()) == 5


def test_one_mm_host_for_two_qm_atoms():
    topology = capped("ALA")
    mm = select(topology, 1, without="N H C O")
    message = refused(topology, set(range(topology.getNumAtoms())) - set(mm))
    assert "one MM atom cannot be the host of two link hydrogens" in message
    assert "Put the MM atom into the QM region as well" in message


@pytest.mark.parametrize("residue, name, symbol", [("CYM", "SG", "Zn"), ("HID", "NE2", "Fe")])
def test_bond_to_a_metal_is_not_cut(residue, name, symbol):
    topology = join(capped(residue), unbonded(symbol), water_topology(1))
    add_bond(topology, (1, name), (3, symbol))
    qm = [i for r in range(3) for i in select(topology, r)]
    assert f"{symbol} has no other bond" in refused(topology, qm)
    add_bond(topology, (4, "O"), (3, symbol))
    assert f"cannot stand for a bond of {symbol}" in refused(topology, qm)


def test_extra_particle_is_not_cut_off():
    topology = water_topology(1, virtual_sites=True)
    add_bond(topology, (0, "O"), (0, "M"))
    assert "M has no element" in refused(topology, [0, 1, 2])


def test_lone_pair_is_no_neighbour():
    topology = butene()
    atoms = list(topology.atoms())
    residue = atoms[0].residue
    for i in (1, 2):
        topology.addBond(atoms[i], topology.addAtom(f"LP{i}", None, residue))
    assert "may be a multiple bond" in refused(topology, [*BUTENE_HALF, 12])

    methoxide = molecule("C H H H O", [(0, i) for i in range(1, 5)])
    oxygen = list(methoxide.atoms())[4]
    methoxide.addBond(oxygen, methoxide.addAtom("LP", None, oxygen.residue))
    assert "O4 has no other bond" in refused(methoxide, range(4))


def test_missing_bonds():
    """Also of an MM residue, which might be bonded to a QM atom."""
    topology = capped("ALA", "ALA")
    for residue in (1, 2):
        lacking = join(topology, bonded=lambda b, r=residue: {b[0].residue.index, b[1].residue.index} != {r})
        message = refused(lacking, side_chain(topology, 1))
        assert f"Expected bonds between the 10 atoms of ALA {residue + 1}, found none" in message
        assert all(how in message for how in ("createStandardBonds()", "CONECT", "addBond()"))


def test_qm_atom_without_bond():
    topology = capped("ALA")
    residue = list(topology.residues())[2]
    extra = topology.addAtom("CX", app.element.carbon, residue).index
    assert findCuts(topology, select(topology, 0) + select(topology, 1) + select(topology, 2, without="CX")) == []
    assert f"Expected bonds of the QM atom CX of NME 3 (atom {extra})" in refused(topology, [extra])


def test_whole_molecules_need_no_cut():
    topology = app.PDBFile(str(ROOT / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb")).topology
    first = [i for r in range(3) for i in select(topology, r)]
    assert found(topology, first) == ([], "")
    assert found(topology, select(topology, 5) + select(topology, 8)) == ([], "")
    assert found(topology, []) == ([], "")
    assert found(topology, range(topology.getNumAtoms())) == ([], "")


def test_ions_in_one_residue_need_no_bonds():
    assert findCuts(unbonded("Na", "Cl", "Na", "Cl"), [0]) == []


def test_several_link_hydrogens_at_one_atom_are_warned_of():
    topology = capped("ALA")
    qm = select(topology, 1, without="N H C O")
    cuts, warnings = found(topology, qm)
    assert [c.mm for c in cuts] == [index(topology, 1, "N"), index(topology, 1, "C")]
    assert "bears 2 link hydrogens" in warnings
    assert "through a C-N bond" in warnings
    assert "MM hosts" not in warnings  # what they have in common is a QM atom


def test_neighbouring_hosts_are_warned_of():
    """MM: a CH2-CH2 in a side chain, or CH2-CH2-CH2."""
    topology = capped("LYS")
    everything = set(range(topology.getNumAtoms()))
    bonded = everything - set(select(topology, 1, only="CG HG2 HG3 CD HD2 HD3"))
    assert (
        "CG of LYS 2 (atom {}) and CD of LYS 2 (atom {}) are bonded to each other".format(
            index(topology, 1, "CG"), index(topology, 1, "CD")
        )
        in found(topology, bonded)[1]
    )
    common = bonded - set(select(topology, 1, only="CE HE2 HE3"))
    assert "have a neighbour in common" in found(topology, common)[1]
    apart = common - set(select(topology, 1, only="CB HB2 HB3"))
    cuts, warnings = found(topology, apart)
    assert len(cuts) == 2
    assert "MM hosts" not in warnings
