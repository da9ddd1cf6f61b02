"""Region selections on villin in water (OpenMM's test.pdb), the alanine droplet and peptides made by hand."""

import itertools
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import BLOCK_TORCH, run_python, water_positions, water_topology
from openmm import app, unit

from openmmkstep.qmmm import selectAtoms, selectLigand, selectResidues, selectSideChains, selectWithin

DATA = Path(app.__file__).parent / "data"
DROPLET = Path(__file__).parents[2] / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb"
TRICLINIC = np.array([[3.0, 0, 0], [1.2, 2.8, 0], [-1.4, 1.1, 2.6]])

VILLIN = app.PDBFile(str(DATA / "test.pdb"))
ALANINE = app.PDBFile(str(DROPLET))


def names_of(topology, selection) -> list[str]:
    atoms = list(topology.atoms())
    assert selection == sorted(set(selection))
    return [f"{atoms[i].residue.name}{atoms[i].residue.id}:{atoms[i].name}" for i in selection]


def residues_of(topology, selection) -> set[str]:
    atoms = list(topology.atoms())
    residues = {atoms[i].residue for i in selection}
    return {f"{r.name}{r.id}" for r in residues}


def peptide(sequence, bonds: bool = True) -> app.Topology:
    """Heavy atoms and some hydrogens of residues, with standard bonds."""
    side = {
        "GLY": "",
        "ALA": "CB HB1 HB2 HB3",
        "CYS": "CB HB2 HB3 SG",
        "PRO": "CB CG CD",
        "SER": "CB HB2 HB3 OG HG",
    }
    topology = app.Topology()
    chain = topology.addChain("A")
    for number, name in enumerate(sequence, 1):
        residue = topology.addResidue(name, chain, str(number))
        for atom in ("N CA HA C O " + side[name]).split():
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
    if bonds:
        topology.createStandardBonds()
    return topology


def bridge(topology, first, second):
    sulfur = {a.residue.id: a for a in topology.atoms() if a.name == "SG"}
    topology.addBond(sulfur[first], sulfur[second])


def test_residues_by_id_name_and_object():
    t = ALANINE.topology
    assert selectResidues(t, "A:2") == selectResidues(t, ("A", 2)) == list(range(6, 16))
    assert selectResidues(t, "ALA") == selectResidues(t, ["A:2", "ALA", ("A", "2")]) == list(range(6, 16))
    assert selectResidues(t, ["NME", "A:1"]) == [*range(6), *range(16, 22)]
    assert selectResidues(t, list(t.residues())[3]) == selectResidues(t, "2:11") == [22, 23, 24]
    assert len(selectResidues(t, "HOH")) == 3 * 165
    # The chain of test.pdb has no id.
    assert selectResidues(VILLIN.topology, ":11") == selectResidues(VILLIN.topology, ("", 11))
    assert residues_of(VILLIN.topology, selectResidues(VILLIN.topology, ":11")) == {"GLY11"}


def test_residues_with_insertion_code():
    topology = app.Topology()
    chain = topology.addChain("H")
    for code in ("", "A"):
        topology.addAtom("CA", app.element.carbon, topology.addResidue("SER", chain, "52", code))
    assert selectResidues(topology, "H:52") == [0]
    assert selectResidues(topology, ["H:52A"]) == selectResidues(topology, ("H", "52A")) == [1]


@pytest.mark.parametrize(
    "residues, message",
    [
        ("LIG", "no residue named 'LIG'. The residues' names are ACE, ALA, NME, HOH"),
        ("B:2", "no chain 'B'.*The chains are 'A', '2'"),
        ("A:9", "no residue '9' in chain 'A'. Its residues are 1, 2, 3"),
        (["ALA", 2], "found 2. Several residues go into a list"),
        (("ALA", "ACE", "NME"), "found 'X'|found .*'ALA', 'ACE', 'NME'"),
        ([], "empty sequence"),
        (next(VILLIN.topology.residues()), "LEU :1 is one of another Topology"),
    ],
)
def test_residues_that_do_not_exist(residues, message):
    with pytest.raises(ValueError, match=message):
        selectResidues(ALANINE.topology, residues)


def test_residues_with_one_id_twice():
    topology = app.Topology()
    for name in ("SER", "HOH"):
        topology.addAtom("O", app.element.oxygen, topology.addResidue(name, topology.addChain("A"), "27"))
    with pytest.raises(ValueError, match="Several residues are 'A:27': SER, HOH. Give the Residue object"):
        selectResidues(topology, "A:27")
    assert selectResidues(topology, list(topology.residues())[1]) == [1]


def test_ligand():
    t = ALANINE.topology
    assert selectLigand(t, "ALA") == selectLigand(t, "ALA", index=0) == list(range(6, 16))
    assert selectLigand(t, "HOH", index=1) == [25, 26, 27]
    with pytest.raises(ValueError, match="one residue named 'HOH', found 165: HOH 2:11, .*index=0 to 164"):
        selectLigand(t, "HOH")
    for index in (-1, 1):
        with pytest.raises(ValueError, match=f"index from 0 to 0 of the residues named 'ALA', found {index}"):
            selectLigand(t, "ALA", index=index)
    with pytest.raises(ValueError, match="no residue named 'LIG'"):
        selectLigand(t, "LIG")


def test_mdtraj_selection():
    t = VILLIN.topology
    assert selectAtoms(t, "resname GLY and resSeq 11") == selectResidues(t, ":11")
    assert selectAtoms(t, "water") == selectResidues(t, "HOH")
    # Sites without an element.
    assert selectAtoms(water_topology(2, virtual_sites=True), "resid 1") == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="'resname LIG' selects no atom. The residues' names are LEU, SER"):
        selectAtoms(t, "resname LIG")
    for wrong in ("name == ", "foo", "within 5 of resname ALA", "nonsense 3"):
        with pytest.raises(ValueError, match=f"cannot evaluate the selection '{wrong}'"):
            selectAtoms(t, wrong)


def test_without_mdtraj():
    code = """
from openmm import app
from openmmkstep.qmmm import selectAtoms
selectAtoms(app.Topology(), "all")
"""
    result = run_python(BLOCK_TORCH.replace("torch", "mdtraj") + code)
    assert result.returncode == 1
    assert "ImportError: selectAtoms() needs MDTraj" in result.stderr
    assert "pip install 'openmmkstep[select]'" in result.stderr


def brute_force(topology, x, atoms, radius, box, images: int = 3) -> set[str]:
    """Residues with an atom within the radius, over all images up to so many boxes away."""
    images = range(-images, images + 1) if box is not None else (0,)
    shifts = np.array(list(itertools.product(images, repeat=3))) @ (np.zeros((3, 3)) if box is None else box)
    near = set()
    for atom in topology.atoms():
        d = x[atom.index] - x[atoms]
        if np.linalg.norm(d[:, None] + shifts, axis=2).min() <= radius:
            near.add(f"{atom.residue.name}{atom.residue.id}")
    return near


@pytest.mark.parametrize(
    "box", [None, np.diag([2.0, 2.2, 2.1]), TRICLINIC], ids=["droplet", "rectangular", "triclinic"]
)
@pytest.mark.parametrize("radius", [0.35, 1.25])  # above half of the smaller boxes too
def test_within(box, radius):
    rng = np.random.default_rng(3)
    t = water_topology(80)
    for number, residue in enumerate(t.residues()):
        residue.id = str(number)
    x = water_positions(80, 5)
    if box is not None:
        x += rng.integers(0, 2, size=(len(x), 3)) @ box  # each atom in another image
    atoms = [0, 1, 2, 121]
    found = selectWithin(t, x, atoms, radius, box)
    assert residues_of(t, found) == brute_force(t, x, atoms, radius, box)
    assert len(found) % 3 == 0 and set(atoms) <= set(found) and 12 < len(found)
    assert selectWithin(t, x * 10 * unit.angstrom, atoms, 10 * radius * unit.angstrom, box) == found


def test_within_takes_the_box_of_the_topology():
    t, x = VILLIN.topology, VILLIN.positions
    box = t.getPeriodicBoxVectors()
    chloride = selectLigand(t, "Cl", index=0)
    found = selectWithin(t, x, chloride, 0.5)
    assert found == selectWithin(t, x, chloride, 5 * unit.angstrom, box)
    moved = np.array(x.value_in_unit(unit.nanometer))
    moved[chloride] += [4.9163, -4.5981, 0]
    assert selectWithin(t, moved, chloride, 0.5) == found and len(found) > 10


def test_within_takes_the_given_atoms_only():
    t, x = ALANINE.topology, ALANINE.positions
    # Far less than a bond: nothing but the residue of the atom itself.
    assert selectWithin(t, x, [8], 0.001) == list(range(6, 16))
    assert selectWithin(t, x, [8], 0.001, sideChains=True) == [8]


def test_within_side_chains():
    t, x = VILLIN.topology, VILLIN.positions
    ring = selectAtoms(t, "resSeq 17 and resname PHE and sidechain")
    whole = selectWithin(t, x, ring, 0.45)
    sides = selectWithin(t, x, ring, 0.45, sideChains=True)
    assert set(sides) < set(whole)
    backbone = {"N", "H", "CA", "HA", "HA2", "HA3", "C", "O"}
    atoms = list(t.atoms())
    assert not [atoms[i] for i in sides if atoms[i].residue.name != "HOH" and atoms[i].name in backbone]
    # Every atom whose residue's side chain comes near is there, those of side chains alone.
    positions = np.array(x.value_in_unit(unit.nanometer))
    box = np.array(t.getPeriodicBoxVectors().value_in_unit(unit.nanometer))
    for residue in t.residues():
        chain = [a.index for a in residue.atoms() if residue.name in ("HOH", "Cl") or a.name not in backbone]
        chain = [] if residue.name in ("PRO", "GLY") else [i for i in chain if atoms[i].name not in ("H2", "H3", "OXT")]
        chain = chain if residue.name not in ("HOH", "Cl") else [a.index for a in residue.atoms()]
        d = (positions[chain][:, None] - positions[ring]).reshape(-1, 3)
        d -= np.round(d / np.diag(box)) * np.diag(box)
        near = len(chain) > 0 and np.linalg.norm(d, axis=1).min() <= 0.45
        assert set(chain) & set(sides) == (set(chain) if near else set()), residue


@pytest.mark.parametrize(
    "change, message",
    [
        ({"atoms": []}, "atoms is empty"),
        ({"atoms": [0, 517]}, "indices from 0 to 516, found 0 to 517"),
        ({"atoms": [-1]}, "indices from 0 to 516, found -1 to -1"),
        ({"radius": 0}, "radius above 0 nm, found 0.0"),
        ({"radius": float("nan")}, "radius above 0 nm, found nan"),
        ({"positions": np.zeros((3, 3))}, r"positions of the 517 atoms .* found \(3, 3\)"),
        ({"positions": np.full((517, 3), np.inf)}, "position of atom 0 is not finite"),
        ({"boxVectors": np.eye(2)}, "three box vectors"),
        ({"boxVectors": [[2, 0, 0], [1.5, 2, 0], [0, 0, 2]]}, "reduced form"),
        ({"boxVectors": [[2, 0.1, 0], [0, 2, 0], [0, 0, 2]]}, "reduced form"),
        ({"boxVectors": [[0, 0, 0], [0, 2, 0], [0, 0, 2]]}, "reduced form"),
    ],
)
def test_within_bad_input(change, message):
    arguments = {"positions": ALANINE.positions, "atoms": [0], "radius": 0.3} | change
    with pytest.raises(ValueError, match=message):
        selectWithin(ALANINE.topology, **arguments)
    with pytest.raises(TypeError):
        selectWithin(ALANINE.topology, ALANINE.positions, [0], 3 * unit.kelvin)


def test_side_chains_of_villin():
    t = VILLIN.topology
    assert set(names_of(t, selectSideChains(t, [":7", ":8"]))) == {
        *(f"LYS7:{n}" for n in "CB HB2 HB3 CG HG2 HG3 CD HD2 HD3 CE HE2 HE3 NZ HZ1 HZ2 HZ3".split()),
        *(f"ALA8:{n}" for n in "CB HB1 HB2 HB3".split()),
    }
    # All kinds that villin has; its termini too. Of the backbone nothing, of the side chain everything.
    backbone = {"N", "H", "H2", "H3", "CA", "HA", "C", "O", "OXT"}
    protein = [r for r in t.residues() if r.name not in ("HOH", "Cl", "GLY", "PRO")]
    found = set(selectSideChains(t, protein))
    expected = {a.index for r in protein for a in r.atoms() if a.name not in backbone}
    assert found == expected and len({r.name for r in protein}) == 15


@pytest.mark.parametrize(
    "residues, message",
    [
        (":11", "GLY :11 has no side chain. Leave it out"),
        (":21", "PRO :21 has a side chain that is part of a ring"),
        ([":7", ":36"], "Cl :36 has no atoms CA and CB"),
    ],
)
def test_no_side_chain(residues, message):
    with pytest.raises(ValueError, match=message):
        selectSideChains(VILLIN.topology, residues)


def test_disulfide():
    t = peptide(["CYS", "ALA", "CYS", "CYS"])
    bridge(t, "1", "3")
    x = np.arange(3 * t.getNumAtoms()).reshape(-1, 3)
    with pytest.raises(ValueError, match="CYS A:1 has a disulfide bond to CYS A:3, which would be cut"):
        selectSideChains(t, "A:1")
    assert names_of(t, selectSideChains(t, ["A:1", "A:3"])) == [
        f"CYS{i}:{name}" for i in (1, 3) for name in ("CB", "HB2", "HB3", "SG")
    ]
    assert residues_of(t, selectSideChains(t, "A:4")) == {"CYS4"}
    beta = selectSideChains(t, ["A:1", "A:3"])[0]
    assert selectWithin(t, x, [beta], 0.1) == selectResidues(t, ["A:1", "A:3"])
    assert selectWithin(t, x, [beta], 0.1, sideChains=True) == selectSideChains(t, ["A:1", "A:3"])


def test_caps_and_rings_are_left_out():
    t, x = ALANINE.topology, ALANINE.positions
    beta = [10]
    near = selectWithin(t, x, beta, 0.4, sideChains=True)
    assert [i for i in near if i < 22] == selectSideChains(t, "ALA")
    t = peptide(["GLY", "PRO", "SER"])
    x = np.zeros((t.getNumAtoms(), 3))
    assert selectWithin(t, x, selectSideChains(t, "SER"), 1.0, sideChains=True) == selectSideChains(t, "SER")


def test_missing_bonds():
    t = peptide(["ALA", "ALA"], bonds=False)
    with pytest.raises(ValueError, match="no bond between CA and CB of ALA A:1. Add the bonds"):
        selectSideChains(t, "A:1")
    with pytest.raises(ValueError, match="no bond between CA and CB of ALA A:1. Add the bonds"):
        selectWithin(t, np.zeros((t.getNumAtoms(), 3)), [0], 0.3, sideChains=True)


def test_four_site_water_is_whole():
    t = water_topology(3, virtual_sites=True)
    x = water_positions(3, 1, virtual_sites=True)
    assert selectWithin(t, x, [5], 0.01) == [4, 5, 6, 7]


def test_solvated_by_modeller():
    modeller = app.Modeller(ALANINE.topology, ALANINE.positions)
    modeller.deleteWater()
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller.addSolvent(field, boxSize=openmm.Vec3(2.2, 2.2, 2.2), ionicStrength=0.3 * unit.molar)
    t, x = modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer))
    # Every molecule in any other image.
    box = np.diag([2.2] * 3)
    solute = selectResidues(t, ["ACE", "ALA", "NME"])
    found = selectWithin(t, x, solute, 0.35)
    assert residues_of(t, found) == brute_force(t, x, solute, 0.35, box, images=1)
    rng = np.random.default_rng(1)
    for residue in list(t.residues())[3:]:
        x[[a.index for a in residue.atoms()]] += rng.integers(-3, 4, 3) @ box
    assert selectWithin(t, x, solute, 0.35) == found
    assert 22 + 3 * 8 < len(found) < 22 + 3 * 40
