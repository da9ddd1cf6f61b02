"""Models of reactions: whose bonds may be those of either side, and what is left out where a bond has no fixed length."""

import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from openmmkstep import (
    KStepModelForce,
    ModelContract,
    createQMMMSystem,
    findMollification,
    matchModel,
    saveModel,
)
from openmmkstep.covalent import findBondingPatterns, findReactivePairs
from openmmkstep.data import CollectiveVariable, UmbrellaWindows, findBonds, sampleFrames
from openmmkstep.data.sampling import SamplingWarning
from openmmkstep.validation import checkModel, prepareCheck, runInWindows
from openmmkstep.validity import findDistanceRanges

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from proton_transfer import malonaldehyde

X = np.array(malonaldehyde.positions._value)
SPECIES = [a.element.atomic_number for a in malonaldehyde.topology.atoms()]
O1, O2, H = 3, 4, 8
FRAME = ((0, 1), (0, 3), (0, 5), (1, 2), (1, 6), (2, 4), (2, 7))
EDUCT, PRODUCT, BOTH = (*FRAME, (O1, H)), (*FRAME, (O2, H)), (*FRAME, (O1, H), (O2, H))


def moved(distance: float) -> np.ndarray:
    """The proton on the line between the oxygens, which are 0.26 nm apart, at a distance (nm) from O1."""
    x = X.copy()
    x[H] = x[O1] + distance * (x[O2] - x[O1]) / np.linalg.norm(x[O2] - x[O1])
    return x


MIDDLE, BEYOND = moved(0.13), moved(0.162)


def noisy(structures, seed=1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([x + rng.normal(scale=0.002, size=x.shape) for x in structures for _ in range(5)])


def contract_of(structures, bonds=EDUCT, **fields) -> ModelContract:
    return ModelContract(species=SPECIES, bonds=bonds, distanceRanges=findDistanceRanges(noisy(structures)), **fields)


WITH_REACTION, WITHOUT = contract_of([X, MIDDLE, BEYOND]), contract_of([X, X])


class Springs(torch.nn.Module):
    """Energy of a spring between every two atoms."""

    def __init__(self, positions: np.ndarray, strength: float):
        super().__init__()
        x = torch.tensor(positions)
        self.register_buffer("rest", torch.cdist(x, x))
        self.strength = strength

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        delta = (positions[:, None] - positions[None]).pow(2).sum(-1) + 1e-12
        return 0.25 * self.strength * (delta.sqrt() - self.rest).pow(2).sum()


def model_file(folder, contract, strength=5e4):
    path = folder / "model.pt"
    saveModel(Springs(X, strength), path, contract)
    return path


def topology_of(bonds) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("MAL", topology.addChain())
    atoms = [topology.addAtom(str(i), app.Element.getByAtomicNumber(z), residue) for i, z in enumerate(SPECIES)]
    for a, b in bonds:
        topology.addBond(atoms[a], atoms[b])
    return topology


def test_the_bonds_by_distance_change():
    assert findBonds(SPECIES, X) == tuple(sorted(EDUCT))
    assert findBonds(SPECIES, BEYOND) == tuple(sorted(PRODUCT))
    # Half way the proton is bonded to neither or both: no set of bonds is the right one.
    assert set(findBonds(SPECIES, MIDDLE)) in (set(FRAME), set(BOTH))


def test_reactive_pairs():
    assert findReactivePairs(SPECIES, EDUCT, WITH_REACTION.distanceRanges) == [(O1, H), (O2, H)]
    assert findReactivePairs(SPECIES, EDUCT, WITHOUT.distanceRanges) == []
    # A hydrogen bond is no reaction, however far the other atom goes; nor is the widening of the ranges.
    assert findReactivePairs((8, 1, 8), [(0, 1)], findDistanceRanges([hydrogen_bond(0.15), hydrogen_bond(1.0)])) == []
    assert findReactivePairs(SPECIES, (), WITH_REACTION.distanceRanges) == []
    patterns = findBondingPatterns(SPECIES, EDUCT, WITH_REACTION.distanceRanges)
    assert [set(p) ^ set(FRAME) for p in patterns] == [{(O1, H)}, set(), {(O1, H), (O2, H)}, {(O2, H)}]


def hydrogen_bond(distance: float) -> np.ndarray:
    return np.array([[0, 0, 0], [0.097, 0, 0], [0.097 + distance, 0.01, 0]])


@pytest.mark.parametrize("x", [X, MIDDLE, BEYOND], ids=["educt", "middle", "product"])
def test_every_side_matches(x):
    bonds = findBonds(SPECIES, x)
    assert matchModel(WITH_REACTION, SPECIES, bonds, x) == list(range(9))
    order = [8, 4, 2, 0, 7, 1, 3, 5, 6]
    place = np.argsort(order)
    other = [(place[a], place[b]) for a, b in bonds]
    found = matchModel(WITH_REACTION, [SPECIES[i] for i in order], other, x[order])
    images = [order[i] for i in found]
    # The mirror image of the frame is as good.
    assert images in (list(range(9)), [2, 1, 0, 4, 3, 7, 6, 5, 8])


def test_tautomers_without_a_reaction_are_refused():
    """Of a molecule without symmetry, the keto form of acetaldehyde; the model is of the enol."""
    species = [6, 6, 8, 1, 1, 1, 1]
    enol = [(0, 1), (1, 2), (0, 3), (0, 4), (1, 5), (2, 6)]
    keto = [*enol[:-1], (0, 6)]
    with pytest.raises(ValueError, match="another tautomer"):
        matchModel(ModelContract(species=species, bonds=enol), species, keto)
    # Ranges that say that the proton has been at both.
    ranges = [(2, 6, 0.09, 0.25), (0, 6, 0.1, 0.3)]
    assert matchModel(ModelContract(species=species, bonds=enol, distanceRanges=ranges), species, keto) == list(
        range(7)
    )
    # Hydrogen 5, which stayed at its carbon, must still be there.
    wrong = [(0, 1), (1, 2), (0, 3), (0, 4), (2, 5), (2, 6)]
    with pytest.raises(ValueError, match="another tautomer"):
        matchModel(ModelContract(species=species, bonds=enol, distanceRanges=ranges), species, wrong)


def test_a_system_from_the_product_side(tmp_path):
    mm = openmm.System()
    nonbonded = openmm.NonbondedForce()
    for z in SPECIES:
        mm.addParticle(app.Element.getByAtomicNumber(z).mass)
        nonbonded.addParticle(0, 0.3, 0)
    mm.addForce(nonbonded)
    path = model_file(tmp_path, WITH_REACTION)
    for bonds in (EDUCT, PRODUCT):
        system = createQMMMSystem(topology_of(bonds), mm, range(9), embedding="none", model=path, positions=BEYOND)
        force = next(f for f in system.getForces() if f.getForceGroup() == 2)
        assert list(KStepModelForce.getParticles(force)) == list(range(9))


def test_what_mollification_leaves_out(tmp_path):
    """The proton has no bond of fixed length, whichever bonds the topology has; the others do."""
    hydrogens = [(0, 5), (1, 6), (2, 7)]

    def found(bonds, contract, deep=False):
        system = malonaldehyde.create(None if contract is None else model_file(tmp_path, contract))
        return findMollification(topology_of(bonds), system, X, picoseconds=0.01, deep=deep)

    assert [b[:2] for b in found(EDUCT, WITH_REACTION)] == hydrogens
    assert [b[:2] for b in found(PRODUCT, WITH_REACTION)] == hydrogens
    assert [b[:2] for b in found(BOTH, None)] == hydrogens
    assert [b[:2] for b in found(EDUCT, WITHOUT)] == [*hydrogens, (O1, H)]
    deep = found(EDUCT, WITH_REACTION, deep=True)
    assert len(deep.bonds) == 7 and not any(H in (*b[:2],) for b in deep.bonds)
    assert not any(H in a[:3] for a in deep.angles)


def test_windows_of_a_check(tmp_path):
    """Each window begins where its neighbour ended; D is told along the variable."""
    path = model_file(tmp_path, contract_of([X, X], BOTH), strength=2e4)
    cv = CollectiveVariable("distanceDifference", (O1, H, O2, H))
    bias = UmbrellaWindows(cv, (0.0, -0.1, -0.05), 4e5)
    system = malonaldehyde.create(None)
    subject = prepareCheck(system, X, path, malonaldehyde.topology)
    runs = runInWindows(subject, bias, picoseconds=0.6, equilibration=0.02)
    means = [np.mean([cv.evaluate(x) for x in r.positions]) for r in runs]
    # From -0.075 nm outwards. The spread of the free variable is 0.0025 nm; the springs of the model pull at it.
    assert np.allclose(means, [-0.1, -0.05, 0.0], atol=0.012) or np.allclose(means, [-0.05, -0.1, 0.0], atol=0.012)
    # Nothing holds the molecule in space: where it begins tells which run it goes on from.
    begins, neighbour = runs[2].positions[0].mean(0), runs[[abs(m + 0.05) < 0.02 for m in means].index(True)]
    assert np.linalg.norm(begins - neighbour.last.mean(0)) < 0.02 < np.linalg.norm(begins - X.mean(0))
    report = checkModel(
        system, X, path, topology=malonaldehyde.topology, bias=bias, parts=("runs",), quick=True, starts=1,
        picoseconds=1.6, progress=False,
    )  # fmt: skip
    assert report.coordinate.frames.sum() == 3 * round(1.6 / 4 / 0.016)
    assert report.coordinate.edges[0] < -0.08 and report.coordinate.edges[-1] > -0.02
    outside = UmbrellaWindows(CollectiveVariable("distance", (0, 20)), (0.3,), 1e4)
    with pytest.raises(ValueError, match=r"particles \[20\] are none"):
        checkModel(system, X, path, topology=malonaldehyde.topology, bias=outside, progress=False)


def test_walkers_stay_in_their_windows(tmp_path):
    """After a fault of the model a walker goes on in its window, not where it was pulled from."""
    cv = CollectiveVariable("distanceDifference", (O1, H, O2, H))
    # A C-H bond leaves this range every few vibrations.
    length = float(np.linalg.norm(X[0] - X[5]))
    contract = ModelContract(
        species=SPECIES, bonds=BOTH, distanceRanges=[(0, 5, length - 0.007, length + 0.007), (O2, H, 0.05, 0.3)]
    )
    bias = UmbrellaWindows(cv, (0.0, -0.03), 4e5)
    with pytest.warns(SamplingWarning, match="failed"):
        data = sampleFrames(
            malonaldehyde.create(None), X, tmp_path / "a.kstep", topology=malonaldehyde.topology, temperatures=(300,),
            picoseconds=1.0, interval=0.02, equilibration=0.1, model=model_file(tmp_path, contract, 2e4), bias=bias,
            cluster="serial", platform="Reference", progress=False,
        )  # fmt: skip
    found, window = data.readColumn("cv"), data.readColumn("window")
    for k, centre in enumerate(bias.centres):
        # 0.0025 nm is the free variable's standard deviation; the model's springs shift its mean.
        assert np.abs(found[window == k] - centre).max() < 0.025
