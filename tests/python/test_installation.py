"""What a user is told where something is missing or does not fit. Each case runs in a Python process of its own."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openmm
import pytest
from conftest import BLOCK_TORCH, run_python

import openmmkstep
from openmmkstep import _engines, _load

XTB = """
import openmm, openmmkstep
system = openmm.System()
system.addParticle(4)
system.addForce(openmmkstep.XtbForce("GFN2-xTB", [0], [2]))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions([(0, 0, 0)])
print("energy", context.getState(getEnergy=True).getPotentialEnergy()._value)
"""


def test_check_installation():
    lines = openmmkstep.check_installation().splitlines()
    assert lines[0] == f"openmmkstep {openmmkstep.__version__}"
    assert re.search(r"OpenMM 8\.6.* runs on: .*Reference.*CPU", lines[1])
    assert lines[2].startswith("torch 2.")
    engines = [line.split(", from ")[0] for line in lines[3:-1] if not line.startswith("  not used: ")]
    assert [line.split()[0] for line in engines] == ["libxtb", "tblite"]
    assert all(Path(line.split(": ")[1]).exists() for line in engines)
    assert lines[-1].startswith("openmm-torch: ")


def test_run_as_a_module():
    result = subprocess.run([sys.executable, "-m", "openmmkstep"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == openmmkstep.check_installation().splitlines()


def test_version_is_that_of_the_package():
    assert openmmkstep.__version__ == importlib.metadata.version("openmmkstep")


@pytest.mark.parametrize("path", ["/nonexistent/libxtb.so", "no-such-libxtb.so"])
def test_libxtb_missing(path):
    """Everything but creating a Context works, and that says what to do."""
    result = run_python("import openmmkstep\nprint('imported')\n" + XTB, {"OPENMMKSTEP_LIBXTB": path})
    assert result.returncode == 1
    assert result.stdout == "imported\n"
    message = result.stderr[result.stderr.index("OpenMMException") :]
    for part in ("libxtb could not be loaded", "pip install xtb", "OPENMMKSTEP_LIBXTB", path):
        assert part in message


def test_libxtb_is_another_library(tmp_path):
    """A library that is not libxtb is refused by name of the function that it lacks."""
    plugin = next(p for p in Path(openmm.version.openmm_library_path).iterdir() if p.name.startswith("libOpenMM.so"))
    result = run_python(XTB, {"OPENMMKSTEP_LIBXTB": str(plugin)})
    assert result.returncode == 1
    assert "has no function xtb_newEnvironment; expected libxtb 6.5 or later" in result.stderr


def test_libxtb_by_environment_variable():
    result = run_python(XTB, {"OPENMMKSTEP_LIBXTB": str(_engines.find_engine("libxtb"))})
    assert result.returncode == 0, result.stderr
    # GFN2-xTB's helium: -1.743 Hartree.
    assert float(result.stdout.split()[1]) == pytest.approx(-1.743 * 2625.5, abs=3)


def test_libxtb_where_xtb_is_not_imported():
    """The wheel's libxtb needs its neighbours loaded first; the package xtb itself is not imported for that."""
    result = run_python(XTB + "import sys\nprint('xtb' in sys.modules)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[2] == "False"


def test_torch_missing(models):
    """Without torch everything but KStepModelForce works, and that says what to install."""
    code = (
        BLOCK_TORCH
        + XTB
        + f"""
print(openmmkstep.check_installation())
print(openmmkstep.readContract({str(models("energy"))!r}).species)
openmmkstep.KStepIntegrator(0.0005, 4)
try:
    openmmkstep.KStepModelForce({str(models("energy"))!r}, [0, 1, 2])
except ImportError as e:
    print("message:", e)
"""
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert "torch: not usable" in result.stdout
    assert "(8, 1, 1)" in result.stdout
    assert re.search(r"message: k-step models need torch, .*torch is hidden.*pip install torch==2", result.stdout)


@pytest.mark.parametrize("missing, module", [("torch", "training"), ("pydantic", "qmmm"), ("h5py", "data")])
def test_packages_for_training_missing(missing, module, tmp_path):
    """The command says what to install; the package itself imports without them."""
    (tmp_path / "setup.toml").write_text("[system]")
    commands = {
        "training": f"['train', '{tmp_path}']",
        "qmmm": f"['sample', '{tmp_path}/setup.toml']",
        "data": f"['train', '{tmp_path}']",
    }
    block = BLOCK_TORCH.replace("torch", missing)
    code = (
        f"import openmmkstep.data, openmmkstep.qmmm\nfrom openmmkstep.cli import main\nprint(main({commands[module]}))"
    )
    result = run_python(block + code)
    assert result.stdout.strip() == "1"
    assert re.search(rf"kstep \w+: .*{missing}.*pip install", result.stderr), result.stderr


def test_import_does_not_import_torch_or_xtb():
    result = run_python("import sys, openmmkstep\nprint('torch' in sys.modules, 'xtb' in sys.modules)")
    assert result.stdout == "False False\n", result.stderr


def test_torch_of_another_version(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    with pytest.raises(
        ImportError, match=r"built with torch 2\.\d+\.\d+.* but torch 2\.9\.1.* is installed; run 'pip install torch=="
    ):
        _load.load_torch()
    monkeypatch.setattr(torch, "__version__", "2.13.99")  # the same minor version is good
    assert _load.load_torch() is torch


def test_openmm_of_another_version(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "8.5.2" if name == "openmm" else real(name))
    with pytest.raises(
        ImportError, match=r"built for OpenMM 8\.6\.\d but OpenMM 8\.5\.2 is installed; run 'pip install openmm==8\.6"
    ):
        _load.load_bindings()


def test_compiled_part_missing(tmp_path):
    """A copy of the Python files alone, as in a source checkout."""
    shutil.copytree(Path(openmmkstep.__file__).parent, tmp_path / "openmmkstep", ignore=shutil.ignore_patterns("*.so"))
    result = run_python(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport openmmkstep")
    assert result.returncode == 1
    assert "ImportError: The compiled part of openmmkstep cannot be loaded with OpenMM 8.6" in result.stderr
    assert "reinstall openmmkstep" in result.stderr


def test_openmm_missing():
    block = BLOCK_TORCH.replace("'torch'", "'openmm'").replace("torch is hidden", "openmm is hidden")
    result = run_python(block + "import openmmkstep")
    assert result.returncode == 1
    assert (
        "openmmkstep needs OpenMM, which cannot be imported (openmm is hidden); run 'pip install openmm=="
        in result.stderr
    )


def test_plugin_not_found(tmp_path):
    result = run_python("import openmmkstep", {"OPENMM_PLUGIN_DIR": str(tmp_path)})
    assert result.returncode == 1
    assert "OpenMM did not load libOpenMMKStepReference.so" in result.stderr
    assert "OPENMM_PLUGIN_DIR" in result.stderr


def test_plugin_does_not_load(tmp_path):
    (tmp_path / "libOpenMMKStepReference.so").write_text("this is not a library")
    result = run_python("import openmmkstep", {"OPENMM_PLUGIN_DIR": str(tmp_path)})
    assert result.returncode == 1
    assert re.search(
        r"could not load the plugin of openmmkstep \(.*libOpenMMKStepReference.*\); reinstall", result.stderr
    )


def test_only_one_library_needs_torch():
    """A broken or missing torch must not keep the rest from loading."""
    folder = Path(openmm.version.openmm_library_path)
    needs = {}
    for library in [*folder.glob("libOpenMMKStep*.so*"), *(folder / "plugins").glob("libOpenMMKStep*.so*")]:
        data = library.read_bytes()
        needs[library.name] = b"libtorch_cpu.so" in data
    assert {name for name, value in needs.items() if value} == {"libOpenMMKStepTorch.so"}
    assert len(needs) >= 3
