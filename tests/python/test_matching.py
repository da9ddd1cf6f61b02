"""matchModel: a model's atoms found in systems of another order, and other molecules refused."""

import itertools
import random

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import energy_forces, rotation_matrix
from openmm import app
from small_systems import BOXES, alanine_dipeptide, create_system, new_context

import openmmkstep
from openmmkstep import ModelContract, cast, createQMMMSystem, findHandedness, findSides, matchModel
from openmmkstep.data import findBonds
from openmmkstep.qmmm import QMMMWarning

NUM = 22
METHYLS = ((0, 2, 3), (11, 12, 13), (19, 20, 21))
MODEL = {2}
# Fluoroethene: nm; the label of its CH2 hydrogens says which of them is cis to the fluorine.
FLUOROETHENE = (
    [6, 6, 9, 1, 1, 1],
    np.array(
        [[0, 0, 0], [0.132, 0, 0], [-0.07, 0.115, 0], [-0.055, -0.094, 0], [0.188, 0.093, 0.001], [0.187, -0.094, 0]]
    ),
)
PENTANES = {
    "pentane": ((0, 1), (1, 2), (2, 3), (3, 4)),
    "2-methylbutane": ((0, 1), (1, 2), (2, 3), (1, 4)),
    "neopentane": ((0, 1), (0, 2), (0, 3), (0, 4)),
}


@pytest.fixture(scope="module")
def dipeptide():
    """Species, bonds and positions (nm) of alanine dipeptide."""
    topology, _, x = alanine_dipeptide(0, None)
    species = [atom.element.atomic_number for atom in topology.atoms()]
    bonds = [(bond.atom1.index, bond.atom2.index) for bond in topology.bonds()]
    return species, bonds, x


def contract_of(species, bonds, x, **fields) -> ModelContract:
    marks = {"handedness": findHandedness(species, bonds, x), "sides": findSides(species, bonds, x)}
    return ModelContract(species=species, bonds=bonds, **(marks | fields))


def shuffled(species, bonds, x, order):
    """The same molecule with atom order[i] in the i-th place."""
    place = np.argsort(order)
    return [species[a] for a in order], [(place[a], place[b]) for a, b in bonds], x[list(order)]


def saturated(carbons, n=5):
    """An alkane's elements and bonds from its carbon skeleton."""
    bonds, species = list(carbons), [6] * n
    for i in range(n):
        for _ in range(4 - sum(i in bond for bond in carbons)):
            bonds.append((i, len(species)))
            species.append(1)
    return species, bonds


def test_marks_of_alanine_dipeptide(dipeptide):
    species, bonds, x = dipeptide
    assert [mark[0] for mark in findHandedness(species, bonds, x)] == [1, 8, 10, 18]
    assert {tuple(sorted(mark[1:3])) for mark in findSides(species, bonds, x)} == {(4, 6), (14, 16)}
    # L-alanine: seen from H, the groups CO, R, N run clockwise ("CORN").
    n, ha, cb, c = (x[i] - x[8] for i in (6, 9, 10, 14))
    assert np.dot(ha, np.cross(c, cb)) < 0
    sign = {mark[0]: mark[4] for mark in findHandedness(species, bonds, x)}[8]
    assert sign == np.sign(np.dot(n, np.cross(ha, cb)))


def test_marks_are_of_what_stays(dipeptide):
    """What changes from frame to frame is no mark, and amines invert."""
    species, bonds, x = dipeptide
    swapped = x.copy()
    swapped[[11, 12]] = x[[12, 11]]
    centres = [mark[0] for mark in findHandedness(species, bonds, np.stack([x, swapped]))]
    assert centres == [1, 8, 18]
    ammonia = np.array([[0, 0, 0], [0.09, 0, 0.04], [-0.05, 0.08, 0.04], [-0.05, -0.08, 0.04]])
    three = [(0, 1), (0, 2), (0, 3)]
    assert findHandedness([7, 1, 1, 1], three, ammonia) == []
    assert len(findHandedness([15, 1, 1, 1], three, ammonia)) == 1
    with pytest.raises(ValueError, match=r"shape \(22, 3\)"):
        findHandedness(species, bonds, x[:5])


def test_right_order_is_kept(dipeptide):
    assert matchModel(contract_of(*dipeptide), *dipeptide) == list(range(NUM))


@pytest.mark.parametrize("seed", range(8))
def test_shuffled_atoms(seed, dipeptide):
    """Every bond, and with positions every distance, is the model's: methyls may turn, so among those of one order."""
    species, bonds, x = dipeptide
    order = random.Random(seed).sample(range(NUM), NUM)
    other, other_bonds, y = shuffled(species, bonds, x @ rotation_matrix(seed), order)
    found = matchModel(contract_of(*dipeptide), other, other_bonds, y)
    assert sorted(found) == list(range(NUM)) and [other[i] for i in found] == species
    images = [order[i] for i in found]  # in terms of the model's own labels
    turns = itertools.product(*([m, m[1:] + m[:1], m[2:] + m[:2]] for m in METHYLS))
    assert any(
        images == [dict(zip(sum(METHYLS, ()), sum(t, ()), strict=True)).get(i, i) for i in range(NUM)] for t in turns
    )


@pytest.mark.parametrize("methyl", METHYLS)
def test_swapped_methyl_labels(methyl, dipeptide):
    species, bonds, x = dipeptide
    y = x.copy()
    y[[methyl[0], methyl[1]]] = x[[methyl[1], methyl[0]]]
    contract = contract_of(*dipeptide)
    found = matchModel(contract, species, bonds, y)
    assert found != list(range(NUM)) and set(np.flatnonzero(np.array(found) != np.arange(NUM))) <= set(methyl)
    assert contract_of(species, bonds, y[found]).handedness == contract.handedness
    # Without positions nothing is known of handedness.
    assert matchModel(contract, species, bonds) == list(range(NUM))


def test_wrong_enantiomer(dipeptide):
    """A mirror exchanges methyl labels, which can be mended, and the alpha carbon's handedness, which cannot."""
    species, bonds, x = dipeptide
    names = [f"number {i}" for i in range(NUM)]
    with pytest.raises(ValueError, match="another stereoisomer: at number 8 the system has the opposite handedness"):
        matchModel(contract_of(*dipeptide), species, bonds, -x, names=names)


def test_mirrored_molecule_that_is_not_chiral(dipeptide):
    """Glycine's CH2 in place of the alanine's CH-CH3: a mirror only exchanges labels."""
    species, bonds, x = dipeptide
    kept = [i for i in range(NUM) if i not in (11, 12, 13)]
    species = [1 if i == 10 else species[i] for i in kept]
    bonds = [(kept.index(a), kept.index(b)) for a, b in bonds if a in kept and b in kept]
    x = x[kept]
    contract = contract_of(species, bonds, x)
    found = matchModel(contract, species, bonds, -x)
    assert contract_of(species, bonds, -x[found]).handedness == contract.handedness
    assert [found[8], found[9], found[10]] == [8, 10, 9]


def test_sides_of_a_double_bond():
    species, x = FLUOROETHENE
    bonds = findBonds(species, x)
    contract = contract_of(species, bonds, x)
    swapped = x[[0, 1, 2, 3, 5, 4]]
    assert matchModel(contract, species, bonds, x) == [0, 1, 2, 3, 4, 5]
    assert matchModel(contract, species, bonds, swapped) == [0, 1, 2, 3, 5, 4]


def test_other_side_of_an_amide(dipeptide):
    """cis instead of trans: the methyl of the amide and its hydrogen have changed places."""
    species, bonds, x = dipeptide
    y = x.copy()
    axis = (x[16] - x[14]) / np.linalg.norm(x[16] - x[14])
    for i in range(17, NUM):
        d = x[i] - x[16]
        y[i] = x[16] + 2 * axis * np.dot(axis, d) - d
    with pytest.raises(
        ValueError, match=r"another isomer: atom \d+ .* on other sides of the bond atom 14 \(C\) - atom 16"
    ):
        matchModel(contract_of(*dipeptide), species, bonds, y)


def test_symmetric_molecules_are_matched_soon():
    """Neopentane has 4! 3!^4 orders, two t-butyl groups on a chain more; handedness picks some."""
    rng = np.random.default_rng(3)
    for name, carbons in PENTANES.items():
        species, bonds = saturated(carbons)
        x = rng.normal(size=(len(species), 3))  # any geometry has volumes
        contract = contract_of(species, bonds, x)
        order = random.Random(name).sample(range(len(species)), len(species))
        other, other_bonds, y = shuffled(species, bonds, x, order)
        found = y[matchModel(contract, other, other_bonds, y)]
        assert len(contract.handedness) > 1
        for centre, a, b, c, sign in contract.handedness:
            ends = (found[i] - found[centre] for i in (a, b, c))
            assert np.linalg.det(np.array(list(ends))) * sign > 0


def test_identical_molecules():
    """Two waters: which is which cannot be told, but their bonds can."""
    contract = ModelContract(species=[8, 1, 1, 8, 1, 1], bonds=[(0, 1), (0, 2), (3, 4), (3, 5)])
    found = matchModel(contract, [1, 1, 8, 8, 1, 1], [(2, 0), (3, 1), (2, 4), (3, 5)])
    assert found in ([2, 0, 4, 3, 1, 5], [2, 4, 0, 3, 1, 5], [2, 0, 4, 3, 5, 1], [2, 4, 0, 3, 5, 1]) or found[0] == 3
    assert {tuple(sorted((found[a], found[b]))) for a, b in contract.bonds} == {(0, 2), (1, 3), (2, 4), (3, 5)}


def without(species, bonds, x, atom):
    kept = [i for i in range(len(species)) if i != atom]
    return (
        [species[i] for i in kept],
        [(kept.index(a), kept.index(b)) for a, b in bonds if atom not in (a, b)],
        x[kept],
    )


def test_other_protonation(dipeptide):
    contract = contract_of(*dipeptide)
    with pytest.raises(
        ValueError,
        match=r"another protonation state: the model is of C6H12N2O2, the system's QM region is C6H11N2O2; the number of "
        r"hydrogens on atom 6 \(N\) has 0, not 1",
    ):
        matchModel(contract, *without(*dipeptide, 7))
    species, bonds, x = dipeptide
    more = species + [1], bonds + [(5, NUM)], np.concatenate([x, x[5:6] + [0, 0, 0.1]])
    with pytest.raises(ValueError, match=r"another protonation state: .* atom 5 \(O\) has 1, not 0"):
        matchModel(contract, *more)


def test_tautomer(dipeptide):
    species, bonds, x = dipeptide
    moved = [(5, 7) if set(bond) == {6, 7} else bond for bond in bonds]
    with pytest.raises(ValueError, match=r"another tautomer: .*atom 5 \(O\) has 1, not 0.*atom 6 \(N\) has 0, not 1"):
        matchModel(contract_of(*dipeptide), species, moved, x)


def test_other_formula(dipeptide):
    species, bonds, x = dipeptide
    other = [7 if i == 10 else z for i, z in enumerate(species)]
    with pytest.raises(ValueError, match="another molecule: the model is of C6H12N2O2, .* QM region is C5H12N3O2"):
        matchModel(contract_of(*dipeptide), other, bonds, x)


@pytest.mark.parametrize("model, system", list(itertools.permutations(PENTANES, 2)))
def test_other_connectivity(model, system):
    """Isomers of one formula: other numbers of hydrogens on carbons bonded alike, or other skeletons."""
    contract = ModelContract(**dict(zip(("species", "bonds"), saturated(PENTANES[model]), strict=True)))
    with pytest.raises(
        ValueError, match="has other bonds: the model is of C5H12, the system's QM region is C5H12, .* bonded to"
    ):
        matchModel(contract, *saturated(PENTANES[system]))


def test_same_surroundings_other_rings():
    """Atoms that look alike everywhere: two triangles against a hexagon."""
    contract = ModelContract(species=[6] * 6, bonds=[(i, (i + 1) % 6) for i in range(6)])
    with pytest.raises(ValueError, match="has other bonds"):
        matchModel(contract, [6] * 6, [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)])


def test_contract_without_bonds(dipeptide):
    species, bonds, x = dipeptide
    contract = ModelContract(species=species)
    assert matchModel(contract, species, bonds, x) == list(range(NUM))
    with pytest.raises(ValueError, match="in this order, found one for .* names no bonds"):
        matchModel(contract, species[::-1], bonds, x)


def test_link_atoms_stay_last():
    """A methyl group with a link hydrogen among its hydrogens: only the real ones are exchanged."""
    species, bonds = [6, 1, 1, 1, 1], [(0, 1), (0, 2), (0, 3), (0, 4)]
    x = np.array([[0, 0, 0], [0.1, 0, 0.04], [-0.05, 0.08, 0.04], [-0.05, -0.08, 0.04], [0, 0, -0.11]])
    contract = contract_of(species, bonds, x)
    assert matchModel(contract, species, bonds, x[[0, 2, 1, 3, 4]], numLinkAtoms=1)[4] == 4
    # All three exchanged with the link atom: no order of the real ones alone is a mirror image of itself.
    y = x[[0, 4, 2, 3, 1]]
    found = matchModel(contract, species, bonds, y, numLinkAtoms=1)
    assert found[4] == 4 and contract_of(species, bonds, y[found]).handedness == contract.handedness


# In createQMMMSystem.


def reordered(topology, order):
    """A topology with the atoms of one molecule in another order within their residues, and that order of all atoms."""
    new, places, atoms = app.Topology(), {}, list(topology.atoms())
    new.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    chain = new.addChain()
    full = []
    for residue in topology.residues():
        inside = new.addResidue(residue.name, chain, residue.id)
        members = [atom.index for atom in residue.atoms()]
        for i in sorted(members, key=lambda i: order.index(i) if i in order else i):
            places[i] = new.addAtom(atoms[i].name, atoms[i].element, inside)
            full.append(i)
    for bond in topology.bonds():
        new.addBond(places[bond.atom1.index], places[bond.atom2.index])
    return new, full


class Handed(torch.nn.Module):
    """Springs and charges that are alike for the hydrogens of a methyl group, and volumes that are not."""

    def __init__(self, r0, q0, centres):
        super().__init__()
        self.register_buffer("r0", torch.tensor(r0))
        self.register_buffer("q0", torch.tensor(q0))
        self.register_buffer("centres", torch.tensor(centres))

    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        c = self.centres
        x = positions[c[:, 0]]
        volumes = ((positions[c[:, 1]] - x) * torch.linalg.cross(positions[c[:, 2]] - x, positions[c[:, 3]] - x)).sum()
        stretch = torch.pdist(positions) - self.r0
        return 1e4 * (stretch * stretch).sum() + 1e6 * volumes + (self.q0 * phi).sum() - 2e-4 * (phi * phi).sum()


def write_model(path, species, bonds, x, groups) -> None:
    n = len(species)
    marks = findHandedness(species, bonds, x)
    kind = list(range(n))
    for group in groups:
        for i in group:
            kind[i] = group[0]
    distances, sums = np.linalg.norm(x[:, None] - x[None], axis=2), {}
    for i, j in itertools.combinations(range(n), 2):
        sums.setdefault(frozenset((kind[i], kind[j])), []).append(distances[i, j])
    r0 = [np.mean(sums[frozenset((kind[i], kind[j]))]) for i, j in itertools.combinations(range(n), 2)]
    contract = ModelContract(
        species=species,
        inputs=("positions", "phi"),
        dampingLengths=(generate.MOLECULE_DAMPING,) * n,
        hardnessElement=10,
        bonds=bonds,
        handedness=marks,
    )
    # A methyl's turns leave the volume of its three hydrogens as it is.
    centres = [mark[:4] for mark in marks if not any(set(group) & set(mark[1:4]) for group in groups)]
    centres += [(next(a + b - group[0] for a, b in bonds if group[0] in (a, b)), *group) for group in groups]
    module = Handed(r0, [0.1 * np.sin(k) for k in kind], centres)
    openmmkstep.saveModel(module, path, contract)


def region_of(x, qm, cuts):
    """Positions of QM atoms and link hydrogens."""
    links = [x[q] + d * (x[m] - x[q]) / np.linalg.norm(x[m] - x[q]) for q, m, d in cuts]
    return np.concatenate([x[qm], np.reshape(links, (-1, 3))])


@pytest.mark.filterwarnings("ignore::UserWarning")  # of polar cuts
@pytest.mark.parametrize("box", [None, "triclinic"])
@pytest.mark.parametrize("qm", [list(range(NUM)), [8, 9, 10, 11, 12, 13]], ids=["molecule", "two cuts"])
def test_shuffled_topology_gives_the_same_energies_and_forces(qm, box, tmp_path):
    """The model is of the first topology; the second one has another order, and a methyl of the other handedness."""
    topology, mm, x = alanine_dipeptide(8, box)
    cuts = openmmkstep.qmmm.findCuts(topology, qm)
    assert len(cuts) == (2 if len(qm) < NUM else 0)
    atoms = list(topology.atoms())
    species = [atoms[i].element.atomic_number for i in qm] + [1] * len(cuts)
    ends = [(b.atom1.index, b.atom2.index) for b in topology.bonds()]
    bonds = [(qm.index(a), qm.index(b)) for a, b in ends if a in qm and b in qm]
    bonds += [(qm.index(cut.qm), len(qm) + k) for k, cut in enumerate(cuts)]
    path = tmp_path / "model.pt"
    groups = [[qm.index(i) for i in methyl] for methyl in METHYLS if set(methyl) <= set(qm)]
    write_model(path, species, bonds, region_of(x, qm, cuts), groups)
    options = {"model": path, "charges": "forcefield"}
    if box:
        options |= {"cutoff": 0.45, "switchingDistance": 0.3}
    rng = np.random.default_rng(2)
    x = x + rng.normal(scale=0.002, size=x.shape)
    system = createQMMMSystem(topology, mm, qm, positions=x, **options)
    assert cast(system.getForce(system.getNumForces() - 1)).getParticles() == qm
    energy, forces = energy_forces(new_context(system, x), MODEL)
    assert abs(energy) > 1

    order = random.Random(5).sample(range(NUM), NUM)
    other, full = reordered(topology, order)
    swapped = [{11: 12, 12: 11}.get(i, i) for i in full]
    other_mm = create_system(app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml"), other, box)
    region = [full.index(i) for i in random.Random(6).sample(qm, len(qm))]
    z = x[swapped]
    wrapped = z if box is None else z + rng.integers(-1, 2, z.shape) @ BOXES[box]  # atom by atom
    found_system = createQMMMSystem(other, other_mm, region, positions=wrapped, **options)
    found, found_forces = energy_forces(new_context(found_system, z), MODEL)
    assert found == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(found_forces, forces[swapped], atol=1e-5, rtol=0)
    # And it fits its corrector: D is defined.
    integrator = openmmkstep.KStepIntegrator(0.0005, 4)
    openmm.Context(found_system, integrator, openmm.Platform.getPlatformByName("Reference"))


def test_what_does_not_fit_is_refused(dipeptide, tmp_path):
    topology, mm, x = alanine_dipeptide(0)
    species, bonds, _ = dipeptide
    path = tmp_path / "model.pt"
    write_model(path, species, bonds, x, METHYLS)
    with pytest.raises(
        ValueError, match=r"model.pt' does not fit the QM atoms: .* stereoisomer: at particle 8 \(CA of ALA 2\)"
    ):
        createQMMMSystem(topology, mm, range(NUM), model=path, positions=-x)
    with pytest.warns(QMMMWarning, match="labels of equal atoms, and the stereoisomer, .* was not checked"):
        createQMMMSystem(topology, mm, range(NUM), model=path)
    with pytest.raises(ValueError, match="QM atoms: The model is of another molecule"):
        createQMMMSystem(topology, mm, [10, 11, 12, 13], model=path, positions=x, charges="forcefield")
