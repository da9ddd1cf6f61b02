"""exportModel: the same numbers out of machine code, run only where that is allowed."""

import dataclasses
import zipfile

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import energy_forces, energy_of, make_context, run_python
from test_model_force import CHARGES, FIXED, X_ALL, X, make_model
from test_qmmm_system import X as WATERS
from test_qmmm_system import make as make_qmmm
from test_qmmm_system import new_context

import openmmkstep
from openmmkstep import KStepModelForce
from openmmkstep.data import Frames
from openmmkstep.training import exportModel
from openmmkstep.validation import ModelEvaluator, checkModel, prepareCheck


@pytest.fixture(scope="module")
def package(models, tmp_path_factory):
    """The model 'phi_energy', whose gradient is torch's, compiled together with it."""
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    exportModel(models("phi_energy"), path, "aotinductor", positions=X)
    return path


def embedded(path, allow=True):
    force = make_model(path, CHARGES, FIXED)
    if allow:
        force.allowNativeCode()
    return force


def test_same_results(package, models):
    """Energy, forces on QM atoms and on charges (dE/dphi), at geometries that the compiler did not see."""
    compiled = make_context(embedded(package), 6)
    script = make_context(embedded(models("phi_energy")), 6)
    rng = np.random.default_rng(1)
    for _ in range(5):
        x = X_ALL + rng.normal(scale=0.01, size=X_ALL.shape)
        for context in (compiled, script):
            context.setPositions(x)
        (e1, f1), (e2, f2) = energy_forces(compiled), energy_forces(script)
        assert abs(e2) > 1
        assert e1 == pytest.approx(e2, rel=1e-6)
        np.testing.assert_allclose(f1, f2, rtol=0, atol=1e-6 * np.abs(f2).max())


def test_same_contract(package, models):
    expected, found = (openmmkstep.readContract(p) for p in (models("phi_energy"), package))
    assert found.outputs == ("energy", "forces", "charges") and found.versions["processor"] == "x86-64-v3"
    assert dataclasses.replace(found, outputs=expected.outputs, versions=expected.versions) == expected


def copy_with_note(package, path, note: str):
    """The same model in a file of another content, which no other test has allowed."""
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
        new.writestr("model/extra/note", note)
    return path


def test_machine_code_needs_permission(package, tmp_path):
    other = copy_with_note(package, tmp_path / "other.pt2", "another one")
    with pytest.raises(openmm.OpenMMException, match="machine code runs with all rights .* allowNativeCode=True"):
        make_context(embedded(other, allow=False), 6)
    make_context(KStepModelForce(other, range(3), allowNativeCode=True), 3, X)
    make_context(embedded(other, allow=False), 6)  # the same content: allowed by now


def test_in_a_qmmm_system(package, models):
    """createQMMMSystem() matches and passes on the permission; D is the same with either form."""
    energies = []
    for path in (package, models("phi_energy")):
        system = make_qmmm(model=path, allowNativeCode=True)
        energies.append(energy_of(new_context(system), {0, 2}))
    assert energies[0] == pytest.approx(energies[1], rel=1e-6)


def test_a_check_of_a_package(package, models, tmp_path, monkeypatch):
    """The same errors and the same charges as of the TorchScript model; no run without permission."""
    rng = np.random.default_rng(5)
    x = WATERS[:3] + rng.normal(scale=0.003, size=(6, 3, 3))
    phi = rng.normal(scale=20.0, size=(6, 3))
    data = Frames(x, np.zeros(6), np.zeros_like(x), phi, phi, np.zeros_like(x), np.full(6, 300), np.zeros(6))
    arguments = {"data": data, "parts": ["data", "runs"], "quick": True, "starts": 1, "progress": False}
    found, expected = (
        checkModel(make_qmmm(), WATERS, path, allowNativeCode=True, **arguments)
        for path in (package, models("phi_energy"))
    )
    assert not found.notes[:-1] and not expected.notes[:-1]  # the last one says that it was quick
    assert found.data[0].force.value == pytest.approx(expected.data[0].force.value, rel=1e-6)
    assert found.data[0].charges.value == pytest.approx(expected.data[0].charges.value, rel=1e-6)
    assert found.sampling.sd.value == pytest.approx(expected.sampling.sd.value, rel=1e-2)
    other = copy_with_note(package, tmp_path / "other.pt2", "of a check")
    with pytest.raises(ValueError, match="is machine code.* allowNativeCode=True"):
        checkModel(make_qmmm(), WATERS, other, **arguments)
    with monkeypatch.context() as patch:
        patch.setenv("OPENMMKSTEP_ALLOW_NATIVE_CODE", "1")
        assert prepareCheck(make_qmmm(), WATERS, other).allowNativeCode
    held = prepareCheck(make_qmmm(model=other), WATERS)
    with pytest.raises(ValueError, match="is machine code.* allowNativeCode=True"):
        ModelEvaluator(held)


READ = """
import sys, openmm, openmmkstep
force = openmmkstep.cast(openmm.XmlSerializer.deserialize(open(sys.argv[1]).read()))
if len(sys.argv) > 2:
    force.allowNativeCode()
system = openmm.System()
for _ in range(6):
    system.addParticle(1)
system.addForce(force)
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions(eval(open(sys.argv[1] + ".x").read()))
print(repr(context.getState(getEnergy=True).getPotentialEnergy()._value))
"""


def test_serialization(package, tmp_path):
    """The bytes travel in XML, the permission does not."""
    force = embedded(package)
    path = tmp_path / "force.xml"
    path.write_text(openmm.XmlSerializer.serialize(force))
    (tmp_path / "force.xml.x").write_text(repr(X_ALL.tolist()))
    expected = energy_of(make_context(force, 6, X_ALL))
    refused = run_python(READ, arguments=[str(path)])
    assert refused.returncode != 0 and "OPENMMKSTEP_ALLOW_NATIVE_CODE=1" in refused.stderr
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for env, arguments in (({"OPENMMKSTEP_ALLOW_NATIVE_CODE": "1"}, []), ({}, ["allow"])):
        result = run_python(READ, env | {"TMPDIR": str(temporary)}, [str(path), *arguments])
        assert result.returncode == 0, result.stderr
        assert float(result.stdout) == pytest.approx(expected, rel=1e-12)
    assert list(temporary.iterdir()) == []
    result = run_python(READ, {"TMPDIR": str(tmp_path / "none")}, [str(path), "allow"])
    assert "no temporary folder" in result.stderr and "Set TMPDIR" in result.stderr


def changed(package, target, change):
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            name, data = change(item.filename, old.read(item))
            if name:
                new.writestr(name, data)
    return target


@pytest.mark.parametrize(
    "old, new, message",
    [
        (torch.__version__, "2.9.1", "compiled for torch 2.9.1, but this is torch 2.13.  Export the model"),
        ("x86-64-v3", "x86-64-v9", "compiled for the processor 'x86-64-v9'"),
    ],
)
def test_package_for_another_torch_or_processor(old, new, message, package, tmp_path):
    path = changed(
        package, tmp_path / "m.pt2", lambda n, d: (n, d.replace(old.encode(), new.encode()) if "xml" in n else d)
    )
    with pytest.raises(openmm.OpenMMException, match=message):
        make_context(embedded(path), 6)


def test_damaged_packages(package, tmp_path):
    broken = changed(package, tmp_path / "a.pt2", lambda n, d: (n, b"no library" if n.endswith(".so") else d))
    with pytest.raises(openmm.OpenMMException, match="the package's library cannot be loaded"):
        make_context(embedded(broken), 6)
    empty = changed(package, tmp_path / "b.pt2", lambda n, d: (None if n.endswith(".so") else n, d))
    with pytest.raises(openmm.OpenMMException, match="holds no library"):
        make_context(embedded(empty), 6)
    data = package.read_bytes()
    (tmp_path / "c.pt2").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="truncated"):
        make_model(tmp_path / "c.pt2")
    script = changed(package, tmp_path / "d.pt2", lambda n, d: (n.replace(".so", ".sh"), d))
    with pytest.raises(ValueError, match="which is no part of a model"):
        make_model(script)


def test_what_cannot_be_exported(package, models, tmp_path):
    target = tmp_path / "model.pt2"
    target.write_text("before")
    with pytest.raises(ValueError, match="one of the formats torchscript, aotinductor, found 'onnx'"):
        exportModel(models("energy"), target, "onnx")
    with pytest.raises(ValueError, match="compiled already"):
        exportModel(package, target)
    with pytest.raises(ValueError, match=r"shape \(3, 3\) or \(frames, 3, 3\)"):
        exportModel(models("energy"), target, "aotinductor", positions=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="cannot be compiled .The following operation failed"):
        exportModel(models("throws"), target, "aotinductor", positions=X + [[0, 0, 0], [0.1, 0, 0], [0, 0, 0]])
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]


def test_torchscript_is_copied(models, tmp_path):
    exportModel(models("phi_charges"), tmp_path / "copy.pt", "torchscript")
    assert (tmp_path / "copy.pt").read_bytes() == models("phi_charges").read_bytes()
    (tmp_path / "bad.pt").write_bytes(models("phi_charges").read_bytes()[:-30])
    with pytest.raises(ValueError, match="truncated"):
        exportModel(tmp_path / "bad.pt", tmp_path / "copy.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forces", "energy", "float32", "ignores_phi", "phi_charges"])
def test_all_kinds_of_potentials(name, models, tmp_path):
    """With and without phi, with and without explicit forces, in single and double precision."""
    exportModel(models(name), tmp_path / "model.pt2", "aotinductor")
    charges = CHARGES if "phi" in name else ()
    results = []
    for path in (tmp_path / "model.pt2", models(name)):
        force = make_model(path, charges)
        force.allowNativeCode()
        results.append(energy_forces(make_context(force, 6, X_ALL)))
    (e1, f1), (e2, f2) = results
    assert e1 == pytest.approx(e2, rel=1e-6)
    np.testing.assert_allclose(f1, f2, rtol=0, atol=1e-6 * np.abs(f2).max())


@pytest.mark.slow
def test_branch_that_the_compiler_does_not_see(tmp_path):
    """A model that depends on the geometry by a branch is traced on one side of it; the comparison notices."""

    class Branch(generate.Water):
        def forward(self, positions: torch.Tensor):
            energy, forces = self.harmonic(positions)
            if positions[0, 0].item() > 0.1:
                energy = energy + 5.0
            return energy, forces

    path = tmp_path / "branch.pt"
    contract = openmmkstep.ModelContract(species=generate.SPECIES, outputs=("energy", "forces"))
    openmmkstep.saveModel(Branch(), path, contract)
    with pytest.raises(ValueError, match="gives other energy|cannot be compiled"):
        exportModel(path, tmp_path / "branch.pt2", "aotinductor", positions=np.stack([X, X + [0.2, 0, 0]]))
    assert not (tmp_path / "branch.pt2").exists()
