"""Model files: the contract, and files and models that are not what they should be."""

import dataclasses
import json
import random
import zipfile
from pathlib import Path

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import energy_of, make_context, make_xtb, run_python
from test_contract import JUMP, save_with
from test_model_force import CHARGES, X_ALL, X, make_model

import openmmkstep

XML_CHANGES = [
    ('version="1"', 'version="2"', "version 1"),
    ("KStepModelContract", "Other", "."),
    ('length="nm"', 'length="A"', "nm"),
    ('energy="kJ/mol"', 'energy="eV"', "kJ/mol"),
    ('number="8"', 'number="O"', "."),
    ('dampingLength="0.06"', "", "."),
    ("<LevelOfTheory", "<Level", "."),
    ('kind="potential"', 'kind="magic"', "'potential' or 'jump'"),
]


def replace_contract(source, target, change) -> None:
    """A copy of a model file with a changed contract."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            new.writestr(item, change(data) if item.filename.endswith("kstep_contract.xml") else data)


@pytest.mark.parametrize("old, new, message", XML_CHANGES)
def test_contract_that_cannot_be_used(old, new, message, models, tmp_path):
    path = tmp_path / "model.pt"
    replace_contract(models("phi_charges"), path, lambda data: data.replace(old.encode(), new.encode()))
    with pytest.raises(ValueError, match=f"(?s)contract in the model file cannot be used: .*{message}"):
        openmmkstep.readContract(path)
    with pytest.raises(openmm.OpenMMException, match=f"(?s)contract in the model file cannot be used: .*{message}"):
        make_context(make_model(path), 3)


def test_huge_contract(models, tmp_path):
    path = tmp_path / "model.pt"
    replace_contract(models("energy"), path, lambda data: data + b" " * 2_000_000)
    with pytest.raises(ValueError, match="larger than"):
        openmmkstep.readContract(path)


def test_no_contract(tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(generate.Energy()), path)
    with pytest.raises(ValueError, match="carries no contract; write models with openmmkstep.saveModel"):
        openmmkstep.readContract(path)
    with pytest.raises(openmm.OpenMMException, match=r"carries no contract\.  Write models with openmmkstep.saveModel"):
        make_context(make_model(path), 3)


def test_pickled_module_is_not_torchscript(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(generate.Energy().state_dict(), path)
    with pytest.raises(openmm.OpenMMException, match="not a TorchScript file") as info:
        make_context(make_model(path), 3)
    assert "frame #" not in str(info.value)  # torch's messages carry a stack trace


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\0" * 1000, b"# a comment\n" * 100])
def test_files_that_are_no_models(content, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a TorchScript file, or it is truncated or corrupt"):
        openmmkstep.readContract(path)
    with pytest.raises(
        (ValueError, openmm.OpenMMException), match="not a TorchScript file, or it is truncated or corrupt|is empty"
    ):
        make_model(path)


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):  # a folder is no file either
        with pytest.raises(openmm.OpenMMException, match="cannot be read"):
            make_model(path)
        with pytest.raises(OSError):
            openmmkstep.readContract(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(share, models, tmp_path):
    data = models("phi_charges").read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="truncated"):
        openmmkstep.readContract(path)
    with pytest.raises(ValueError, match="truncated"):
        make_model(path)


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


# Contracts that do not fit the System.


@pytest.mark.parametrize(
    "name, message",
    [
        ("wrong_species", "expected a model for the elements 8 1 1 .* found one for 1 8 1"),
        ("other_count", "model is for 2 atoms, but the QM region has 3"),
        ("charged", "expected a model for charge 0 and multiplicity 1 .* found one for 1 and 2"),
        ("triplet", "expected a model for charge 0 and multiplicity 1 .* found one for 0 and 3"),
    ],
)
def test_model_for_another_molecule(name, message, models):
    xtb, _ = make_xtb("bent water", "GFN2-xTB")
    xtb.setForceGroup(1)
    with pytest.raises(openmm.OpenMMException, match=message):
        make_context([xtb, make_model(models(name))], 3)


def test_model_for_other_particles(models):
    """The same particles in another order are right where the elements are."""

    def context_of(particles, num=3):
        xtb, _ = make_xtb("bent water", "GFN2-xTB")
        xtb.setForceGroup(1)
        return make_context([xtb, make_model(models("energy"), particles=particles)], num)

    context_of([0, 2, 1])
    with pytest.raises(openmm.OpenMMException, match="expected a model for the elements 1 8 1 .* found one for 8 1 1"):
        context_of([1, 0, 2])
    with pytest.raises(openmm.OpenMMException, match="act on different particles"):
        context_of([0, 1, 3], 4)


def test_jump_model_is_no_potential(tmp_path):
    path = tmp_path / "model.pt"
    save_with(dataclasses.replace(JUMP, species=(8, 1, 1)), path)
    with pytest.raises(openmm.OpenMMException, match="expected a model of kind 'potential', found 'jump'"):
        make_context(make_model(path), 3)


def test_model_with_another_hardness_element(models):
    with pytest.raises(openmm.OpenMMException, match="hardness element 2 .* charge 0 has 10"):
        make_context(make_model(models("helium_phi"), CHARGES), 6)


def test_charges_for_a_model_without_phi(models):
    with pytest.raises(
        openmm.OpenMMException, match="takes no potential .phi. input, so it cannot see the 3 embedding charges"
    ):
        make_context(make_model(models("energy"), CHARGES), 6)


# Models that do not return what their contract says.


@pytest.mark.parametrize(
    "name, message",
    [
        ("flat_forces", r"expected the model to return forces of the shape \(3, 3\)"),
        ("too_few_forces", "expected the model to return forces"),
        ("one_force_more", "expected the model to return forces"),
        ("energy_where_forces_promised", r"expected the model to return \(energy, forces\), as its contract says"),
        ("tuple_of_one", r"expected the model to return \(energy, forces\), as its contract says"),
        ("tuple_where_energy_promised", "expected the model to return the energy"),
        ("per_atom_energy", "expected the model to return the energy"),
        ("number", "expected the model to return the energy"),
        ("text", "expected the model to return the energy"),
        ("short_charges", "expected the model to return charges"),
    ],
)
def test_wrong_output(name, message, models):
    embedded = name == "short_charges"
    context = make_context(make_model(models(name), CHARGES if embedded else ()), 6, X_ALL)
    for _ in range(2):
        with pytest.raises(openmm.OpenMMException, match=f"KStepModelForce: .*{message}") as info:
            energy_of(context)
        assert "frame #" not in str(info.value)


def test_model_that_throws(models):
    """Its message reaches the user; the Context works on at other positions."""
    context = make_context(make_model(models("throws")), 3, X)
    expected = energy_of(context)
    bad = X.copy()
    bad[1] += [0.1, 0, 0]
    for _ in range(2):
        context.setPositions(bad)
        with pytest.raises(
            openmm.OpenMMException, match="(?s)KStepModelForce: the model failed: .*this model does not like long bonds"
        ):
            energy_of(context)
        context.setPositions(X)
        assert energy_of(context) == expected


def test_model_that_returns_nan(models):
    """Without recovery KStepIntegrator refuses a step that ends in NaN and keeps the state before it."""
    xtb, _ = make_xtb("bent water", "GFN2-xTB")
    xtb.setForceGroup(1)
    integrator = openmmkstep.KStepIntegrator(0.0005, 4)
    integrator.setErrorRecovery(False)
    context = make_context([xtb, make_model(models("not_a_number"))], 3, X, integrator)
    context.setVelocities([(0, 0, 0), (10, 0, 0), (0, 0, 0)])  # 0.02 nm in a macro-step
    before = context.getState(getPositions=True, getVelocities=True)
    with pytest.raises(openmm.OpenMMException, match="NaN"):
        integrator.step(20)
    after = context.getState(getPositions=True, getVelocities=True)
    assert np.isfinite(after.getPositions(asNumpy=True)._value).all()
    assert after.getStepCount() < 20
    if after.getStepCount() == 0:
        np.testing.assert_array_equal(after.getVelocities(asNumpy=True), before.getVelocities(asNumpy=True))
    context.setVelocities(np.zeros((3, 3)))
    context.setPositions(X)
    integrator.step(1)
