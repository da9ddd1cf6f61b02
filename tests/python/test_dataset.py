"""Datasets on disk: round trips, damage, killed writers."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
from conftest import make_context, make_xtb

from openmmkstep.data import Dataset, Frames, Region, findProvenance

REGION = Region((8, 1, 1), (0, 1, 2), ((0, 1), (0, 2)), hardnessElement=10)


def make_frames(count: int = 3, seed: int = 1, trajectory: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape) for name, shape in Frames.shapes(count, 3).items()}
    return Frames(**arrays | {"trajectories": np.full(count, trajectory)})


def assert_equal(found: Frames, expected: Frames) -> None:
    for name in Frames.names():
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Two walkers with two blocks and one."""
    dataset = Dataset.create(tmp_path / "water.kstep", REGION, {"seed": 5})
    dataset.append(make_frames(3, 1, 0), 0)
    dataset.append(make_frames(2, 2, 1), 1, columns={"cv": [0.5, 0.6]})
    dataset.append(make_frames(4, 3, 0), 0)
    return dataset


def test_round_trip(dataset):
    opened = Dataset(dataset.folder)
    assert opened.region == REGION
    assert opened.provenance["seed"] == 5 and opened.provenance["versions"]["openmm"]
    # By walker, then by number.
    assert_equal(opened.read(), Frames.concatenate([make_frames(3, 1, 0), make_frames(4, 3, 0), make_frames(2, 2, 1)]))
    assert_equal(opened.read(walkers=[1]), make_frames(2, 2, 1))
    np.testing.assert_array_equal(opened.readColumn("cv"), [np.nan] * 7 + [0.5, 0.6])
    assert len(opened) == 9 and opened.check() == []
    with h5py.File(opened.blocks()[0]) as file:
        assert file["forces"].attrs["unit"] == "kJ/mol/nm"
        assert {name for name in file} == set(Frames.names())


def test_empty_and_repeated(tmp_path):
    dataset = Dataset.create(tmp_path / "a.kstep", REGION)
    assert len(dataset) == 0 and dataset.read().positions.shape == (0, 3, 3)
    assert dataset.readColumn("cv").shape == (0,)
    with pytest.raises(FileExistsError, match="already"):
        Dataset.create(dataset.folder, REGION)
    with pytest.raises(FileNotFoundError, match="no dataset.json"):
        Dataset(tmp_path)
    with pytest.raises(ValueError, match="frames of 3 atoms, at least one"):
        dataset.append(Frames.empty(3))
    with pytest.raises(ValueError, match="frames of 3 atoms.*of 2"):
        dataset.append(Frames(**{name: np.zeros(shape) for name, shape in Frames.shapes(1, 2).items()}))
    with pytest.raises(ValueError, match="column 'cv'.*2 frames"):
        dataset.append(make_frames(2), columns={"cv": [1.0]})


def damage(path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no HDF5":
        path.write_bytes(b"hello" * 100)
    elif kind == "one number":
        with h5py.File(path, "r+") as file:
            file["forces"][0, 0, 0] += 1e-9
    elif kind == "other version":
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 99
    elif kind == "no checksum":
        with h5py.File(path, "r+") as file:
            del file.attrs["checksum"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "no HDF5", "one number", "other version", "no checksum"])
def test_damaged_block_is_refused(dataset, kind):
    path = dataset.blocks()[1]
    damage(path, kind)
    with pytest.raises(ValueError, match=f"{path.name}.*Delete this file"):
        dataset.read()
    faults = dataset.check()
    assert len(faults) == 1 and path.name in faults[0]
    assert len(dataset.read(walkers=[1])) == 2
    path.unlink()
    assert dataset.check() == [] and len(dataset.read()) == 5


def test_every_fault_is_named(dataset):
    first, second, third = dataset.blocks()
    damage(first, "truncated")
    damage(third, "one number")
    faults = dataset.check()
    assert [first.name in faults[0], third.name in faults[1], len(faults)] == [True, True, 2]
    assert second.name not in "".join(faults)


def test_blocks_of_other_regions_are_refused(dataset, tmp_path):
    other = Dataset.create(tmp_path / "ion.kstep", dataclasses.replace(REGION, charge=1))
    shutil.copy(other.append(make_frames()), dataset.folder / "block-0007-00000.h5")
    with pytest.raises(ValueError, match="block-0007-00000.h5.*another region"):
        dataset.read()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "openmmkstep dataset", "version": 2}'])
def test_damaged_description_is_refused(dataset, text):
    (dataset.folder / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match="cannot be used.*blocks beside it are not affected"):
        Dataset(dataset.folder)


def test_leftovers_of_a_killed_writer(dataset):
    leftovers = [dataset.folder / f"block-000{w}-00009.h5.tmp" for w in (0, 1)]
    for path in leftovers:
        path.write_bytes(b"half a block")
    assert len(dataset.read()) == 9
    assert dataset.append(make_frames(1), 1).name == "block-0001-00001.h5"
    # Walker 0 may still be at work; its own next block removes what it left.
    assert [path.exists() for path in leftovers] == [True, False]


def test_failed_block_leaves_nothing(dataset, monkeypatch):
    monkeypatch.setattr("openmmkstep.data.dataset.checksum", lambda arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dataset.append(make_frames())
    assert len(dataset.blocks()) == 3 and not list(dataset.folder.glob("*.tmp"))


def test_replaced_block(dataset):
    dataset.append(make_frames(1, 9), 0, number=0)
    assert len(dataset.read()) == 7
    assert_equal(dataset.read()[:1], make_frames(1, 9))


def test_provenance():
    context = make_context([make_xtb("water", "GFN2-xTB")[0]], 3)  # owns the System
    system = context.getSystem()
    first = findProvenance(system)
    assert json.loads(json.dumps(first)) == first and len(first["system"]) == 64
    system.setParticleMass(0, 18.0)
    assert findProvenance(system)["system"] != first["system"]
