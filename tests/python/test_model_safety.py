"""Model files that were damaged or made to do harm: an error with a sentence, nothing run, no crash."""

import json
import os
import pickle
import random
import zipfile
from pathlib import Path

import generate
import openmm
import pytest
import torch
from conftest import make_context, run_python
from test_model_force import make_model

import openmmkstep
from openmmkstep._openmmkstep import KStepModelForce_create

FUZZ = """
import json, sys
sys.path.insert(0, sys.argv[1])
import openmm
from conftest import energy_of, make_context
from test_model_force import X, make_model
import openmmkstep
path = sys.argv[2]
damaged = 0
for positions in json.loads(sys.argv[3]):
    data = bytearray(open(sys.argv[4], "rb").read())
    for position, bit in positions:
        data[position] ^= 1 << bit
    open(path, "wb").write(data)
    print(positions, flush=True)
    try:
        openmmkstep.readContract(path)
    except ValueError:
        pass
    try:
        energy_of(make_context(make_model(path), 3, X))
    except ValueError:
        damaged += 1
    except openmm.OpenMMException as e:
        assert str(e).startswith("KStepModelForce: "), e
print("done", damaged)
"""


@pytest.mark.parametrize("where", ["anywhere", "directory", "headers"])
def test_corrupt_bytes(where, models, tmp_path):
    """Flipped bits give a model that works or a clean error, never a crash.

    A process of its own, since a crash would take pytest with it. Random places, and those that say where and how
    long things are: the archive's central directory at the end and the headers of its entries.
    """
    source = models("phi_charges")
    data = source.read_bytes()
    rng = random.Random(5)
    with zipfile.ZipFile(source) as archive:
        starts = [i.header_offset for i in archive.infolist()]
        directory = archive.start_dir
    if where == "anywhere":
        flips = [[(rng.randrange(len(data)), rng.randrange(8)) for _ in range(rng.choice((1, 3)))] for _ in range(50)]
    elif where == "directory":
        flips = [[(rng.randrange(directory, len(data)), rng.randrange(8))] for _ in range(50)]
    else:
        flips = [[(rng.choice(starts) + rng.randrange(60), rng.randrange(8))] for _ in range(50)]
    result = run_python(
        FUZZ, arguments=[str(Path(__file__).parent), str(tmp_path / "model.pt"), json.dumps(flips), str(source)]
    )
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-2000:])
    damaged = int(result.stdout.split("done")[1])
    assert damaged >= 20  # most damage is found by checksum; what is left is in fields that nobody needs


FUZZ_CONTENT = """
import json, random, sys, zipfile
sys.path.insert(0, sys.argv[1])
import openmm
from conftest import energy_of, make_context
from test_model_force import X, make_model
path, source, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
refused = 0
with zipfile.ZipFile(source) as archive:
    entries = [(item.filename, archive.read(item)) for item in archive.infolist()]
for where in json.loads(sys.argv[5]):
    for seed in range(count):
        rng = random.Random(seed)
        chosen = rng.choice([i for i, (name, data) in enumerate(entries) if name.endswith(where) and data])
        data = bytearray(entries[chosen][1])
        for _ in range(rng.choice((1, 3, 10))):
            place, other = rng.randrange(len(data)), rng.randrange(len(data))
            if rng.random() < 0.7:
                data[place] ^= 1 << rng.randrange(8)
            else:
                data[place : place + 8] = data[other : other + 8]
        with zipfile.ZipFile(path, "w") as archive:
            for i, (name, content) in enumerate(entries):
                archive.writestr(name, bytes(data) if i == chosen else content)
        print(where, seed, flush=True)
        try:
            energy_of(make_context(make_model(path), 3, X))
        except ValueError:
            refused += 1
        except openmm.OpenMMException as e:
            assert str(e).startswith("KStepModelForce: "), e
            refused += 1
print("done", refused)
"""


def test_changed_content_with_right_checksums(models, tmp_path):
    """What somebody changed and packed again: torch crashes on such data, code and debug records.

    Some of these crashed torch 2.13 before there were checks.
    """
    where = ["data.pkl", "constants.pkl", ".py", ".debug_pkl", "kstep_contract.xml"]
    arguments = [
        str(Path(__file__).parent),
        str(tmp_path / "model.pt"),
        str(models("phi_charges")),
        "60",
        json.dumps(where),
    ]
    result = run_python(FUZZ_CONTENT, arguments=arguments)
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-2000:])
    assert int(result.stdout.split("done")[1]) > 100


def repacked(source, target, change=lambda name, data: data, extra=()):
    """A copy of a model file with changed entries, checksums right, and further entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, change(item.filename, old.read(item)))
        for name, data in extra:
            new.writestr(name, data, zipfile.ZIP_DEFLATED)
    return target


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def refuse(path, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(path)


def test_pickles_that_run_code(models, tmp_path):
    """Of torch.save(), bare, and in the place of a model's own data."""
    folder, path = tmp_path / "made", tmp_path / "model.pt"
    torch.save(Evil(folder), path)
    refuse(path, "no code of a model")
    torch.save(Evil(folder), path, _use_new_zipfile_serialization=False)
    refuse(path, "not a TorchScript file")
    path.write_bytes(pickle.dumps(Evil(folder)))
    refuse(path, "not a TorchScript file")
    evil = pickle.dumps(Evil(folder), protocol=2)
    for entry in ("data.pkl", "constants.pkl", ".debug_pkl"):
        repacked(models("energy"), path, lambda name, data, entry=entry: evil if name.endswith(entry) else data)
        refuse(path, r"damaged or foreign data in .*pkl \(it names \w+\.mkdir\)")
    assert not folder.exists()
    pickle.loads(evil)
    assert folder.exists()  # so it would have been


ADDITIONS = [
    ("model/evil.pkl", b"", "holds 'evil.pkl', which is no part of a model"),
    ("model/code/evil.so", b"", "holds 'code/evil.so', which is no part of a model"),
    ("evil/data.pkl", b"", "entries are not in one folder"),
    ("../model/data.pkl", b"", "entries are not in one folder"),
    ("/model/data.pkl", b"", "entries are not in one folder"),
    ("model/extra/../../../evil", b"", "has the path 'model/extra/../../../evil'"),
    ("model/code/..\\evil.py", b"", "has the path"),
    ("model/version", b"3", "occur twice"),
    ("model/extra/bomb", bytes(70_000_000), "compressed entries would take more than 64000000 bytes"),
    ("model/code/deep.py", b"(" * 100_000, "brackets nested 100000 deep"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name, data, message", ADDITIONS, ids=[a[0] for a in ADDITIONS])
def test_additional_entries(name, data, message, models, tmp_path):
    root = zipfile.ZipFile(models("energy")).namelist()[0].split("/")[0]
    path = repacked(models("energy"), tmp_path / "model.pt", extra=[(name.replace("model", root), data)])
    refuse(path, message.replace("model/extra", f"{root}/extra"))


def test_sizes_that_are_not_true(models, tmp_path):
    """An entry that declares 4 GB of content: nothing of that size is read or allotted."""
    data = bytearray(models("energy").read_bytes())
    with zipfile.ZipFile(models("energy")) as archive:
        start = archive.start_dir
    data[start + 24 : start + 28] = b"\xf0\xff\xff\xff"
    (tmp_path / "model.pt").write_bytes(data)
    refuse(tmp_path / "model.pt", "has two sizes")


def test_tensors_that_reach_beyond_their_data(models, tmp_path):
    """torch would read what lies behind them in memory."""

    def change(old, new):
        def replace(name, data):
            if not name.endswith("data.pkl"):
                return data
            assert old in data
            return data.replace(old, new)

        return repacked(models("energy"), tmp_path / "model.pt", replace)

    refuse(change(b"(K\x03K\x02t", b"(K\x30K\x02t"), "a tensor reaches beyond its data")
    refuse(change(b"LongStorage", b"ByteStorage"), "has another size than is said here")


class Saves(generate.Water):
    def forward(self, positions: torch.Tensor):
        torch.save(positions, "evil.pt")
        return self.harmonic(positions)[0]


class MapsFile(generate.Water):
    def forward(self, positions: torch.Tensor):
        return self.harmonic(positions)[0] + torch.from_file("evil.bin", True, 10).sum()


class RunsOnLoading(generate.Water):
    def forward(self, positions: torch.Tensor):
        return self.harmonic(positions)[0]

    @torch.jit.export
    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    @torch.jit.export
    def __setstate__(self, state: dict[str, int]):
        print("loaded")


@pytest.mark.parametrize(
    "module, word",
    [(Saves, ".save"), (MapsFile, ".from_file"), (RunsOnLoading, "__setstate__")],
    ids=lambda v: str(v)[-20:],
)
def test_code_that_could_write_files(module, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    openmmkstep.saveModel(module(), "model.pt", openmmkstep.ModelContract(species=generate.SPECIES))
    refuse("model.pt", f"code of the model .* contains '{word}', .* It is not loaded")
    # And in C++, where a model may come from XML.
    force = openmm.XmlSerializer.deserialize(KStepModelForce_create("model.pt", [0, 1, 2]))
    force.setForceGroup(2)
    with pytest.raises(openmm.OpenMMException, match=f"code of the model contains '{word}', .* It is not loaded"):
        make_context(force, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
