"""Region and Frames: what a model is of, and what it is trained on."""

import dataclasses

import numpy as np
import openmm
import pytest
from conftest import make_context, make_xtb, water_topology
from openmm import app
from small_systems import alanine_dipeptide

from openmmkstep import XtbForce, createQMMMSystem
from openmmkstep.data import Frames, Region, findBonds


def make_frames(count: int = 3, atoms: int = 2) -> Frames:
    rng = np.random.default_rng(1)
    return Frames(**{name: rng.integers(1, 9, shape) for name, shape in Frames.shapes(count, atoms).items()})


def test_region_of_a_cut_peptide():
    topology, mm, positions = alanine_dipeptide(5)
    qm = [8, 9, 10, 11, 12, 13]  # CA and the side chain, cut on both sides
    system = createQMMMSystem(topology, mm, qm, positions=positions)
    region = Region.fromSystem(system, topology)
    assert region.species == (6, 1, 6, 1, 1, 1, 1, 1)
    assert region.particles == tuple(qm)
    # CA-HA, CA-CB, CB-3 HB and a link hydrogen for each cut, both on CA.
    assert region.bonds == ((0, 1), (0, 2), (0, 6), (0, 7), (2, 3), (2, 4), (2, 5))
    assert (region.method, region.charge, region.hardnessElement) == ("GFN2-xTB", 0, 10)
    assert Region.fromSystem(system, positions=positions) == region
    assert Region.fromDict(region.toDict()) == region
    with pytest.raises(ValueError, match="give a topology"):
        Region.fromSystem(system)


def test_digest_does_not_depend_on_the_system_around():
    region = Region((8, 1, 1), (0, 1, 2), ((0, 1), (2, 0)))
    assert region.bonds == ((0, 1), (0, 2))
    assert dataclasses.replace(region, particles=(30, 31, 32)).digest() == region.digest()
    assert dataclasses.replace(region, charge=1).digest() != region.digest()
    with pytest.raises(ValueError, match="fields"):
        Region.fromDict({"species": [1]})
    with pytest.raises(ValueError, match="pairs of its 1 atoms"):
        Region((1,), (0,), ((0, 1),))


def test_bonds_by_distance_and_without_xtb():
    force, x = make_xtb("ethylene", "GFN2-xTB")
    context = make_context([force], len(x))
    system = context.getSystem()
    region = Region.fromSystem(system, app.Topology(), x)
    assert region.bonds == ((0, 1), (0, 2), (0, 3), (1, 4), (1, 5))
    assert region.hardnessElement is None
    assert findBonds(region.species, x) == region.bonds
    with pytest.raises(ValueError, match="one XtbForce, found 0"):
        Region.fromSystem(openmm.System(), water_topology(1))
    system.addForce(XtbForce("GFN2-xTB", [0], [6]))
    with pytest.raises(ValueError, match="one XtbForce, found 2"):
        Region.fromSystem(system, water_topology(1))


def test_frames():
    frames = make_frames()
    assert len(frames) == 3 and frames.embedded.all()
    assert len(frames[1]) == 1 and frames[1].energies[0] == frames.energies[1]
    assert (frames[[2, 0]].forces == frames.forces[[2, 0]]).all()
    both = Frames.concatenate([frames, Frames.empty(2), frames[:1]])
    assert len(both) == 4 and both.trajectories.dtype == np.int64
    with pytest.raises(ValueError, match=r"charges of the shape \(3, 2\)"):
        dataclasses.replace(frames, charges=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="forces hold NaN"):
        dataclasses.replace(frames, forces=np.full((3, 2, 3), np.nan))
    with pytest.raises(ValueError, match="frames, atoms, 3"):
        dataclasses.replace(frames, positions=np.zeros((3, 2)))
