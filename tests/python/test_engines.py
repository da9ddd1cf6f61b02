"""Which engine is used, where its library is looked for, and what users are told. Libraries in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import CHARGES, energy_forces, energy_of, make_context, make_xtb, run_python, water_positions, water_system
from test_setup_file import write

import openmmkstep
from openmmkstep import XtbForce, _engines, cast, createQMMMSystem
from openmmkstep.qmmm import describe, readSetup

ENGINES = """
import json, os, sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # as if the package were not installed
import openmm, openmmkstep
def find(method, charges):
    force = openmmkstep.XtbForce(method, [0], [2])
    force.setEngine(sys.argv[1])
    for i in range(charges):
        force.addEmbeddingCharge(1, 0.1)
    try:
        return force.findEngine()
    except openmm.OpenMMException as e:
        return str(e)
def info(engine):
    try:
        return openmmkstep.XtbForce.getEngineInfo(engine)
    except openmm.OpenMMException as e:
        return str(e)
found = {"gas": find("GFN2-xTB", 0), "charges": find("GFN1-xTB", 1), "GFN-FF": find("GFN-FF", 0)}
print(json.dumps(found | {e: info(e) for e in ("libxtb", "tblite")}))
"""
VARIABLES = ("OPENMMKSTEP_LIBXTB", "OPENMMKSTEP_LIBTBLITE", "CONDA_PREFIX", "LD_LIBRARY_PATH")


def ask(engine: str = "auto", hidden: str = "-", **environment) -> dict:
    """What a process finds whose environment and packages are these."""
    code = f"import os\nfor name in {VARIABLES}: os.environ.pop(name, None)\nos.environ.update({environment})\n"
    code += f"os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {ENGINES!r}, {engine!r}, {hidden!r}])"
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders as Debian and conda have them: a libxtb.so.6 with what it is linked to."""
    wheel = _engines.find_engine("libxtb")
    folders = {}
    for name in ("system", "conda/lib", "broken"):
        folder = tmp_path_factory.mktemp("places") / name
        folder.mkdir(parents=True)
        if name == "broken":
            for soname in ("libxtb.so.6", "libtblite.so.0"):
                (folder / soname).write_text("this is not a library")
        else:
            shutil.copy(wheel, folder / "libxtb.so.6.5.9")
            (folder / "libxtb.so.6").symlink_to("libxtb.so.6.5.9")
            for file in wheel.parent.iterdir():
                if file != wheel:
                    (folder / file.name).symlink_to(file)
        folders[name.partition("/")[0]] = folder
    return folders


def test_order_of_places(places):
    wheel = _engines.find_engine("libxtb")
    system, conda = places["system"] / "libxtb.so.6.5.9", places["conda"] / "libxtb.so.6.5.9"
    all_of_them = {"LD_LIBRARY_PATH": str(places["system"]), "CONDA_PREFIX": str(places["conda"].parent)}
    assert ask(**all_of_them)["libxtb"] == ["6.5.1", str(wheel)]
    assert ask(hidden="xtb", **all_of_them)["libxtb"] == ["6.5.9", str(system)]
    # What is there but cannot be loaded is passed over.
    without = all_of_them | {"LD_LIBRARY_PATH": str(places["broken"])}
    assert ask(hidden="xtb", **without)["libxtb"] == ["6.5.9", str(conda)]
    named = all_of_them | {"OPENMMKSTEP_LIBXTB": str(places["system"] / "libxtb.so.6")}
    assert ask(**named)["libxtb"] == ["6.5.9", str(system)]
    tblite = _engines.find_engine("tblite")
    found = ask(hidden="tblite", OPENMMKSTEP_LIBTBLITE=str(tblite))["tblite"]
    assert found[0].startswith("0.") and found[1] == str(tblite)


def test_auto(places):
    """tblite takes libxtb's place where it can; what it cannot do is told, with all places that were searched."""
    broken = str(places["broken"])
    assert [ask()[key] for key in ("gas", "charges", "GFN-FF")] == ["libxtb"] * 3
    found = ask(hidden="xtb", LD_LIBRARY_PATH=broken)
    assert found["gas"] == "tblite"
    for key, lack in (("charges", "tblite has no point charges, .* 1 of them"), ("GFN-FF", "tblite has no GFN-FF")):
        message = found[key]
        order = ["pip install xtb", "OPENMMKSTEP_LIBXTB: not set", "PyPI package xtb: not installed in this Python"]
        order += ["system's libraries: ", "invalid ELF header", "conda environment: CONDA_PREFIX is not set"]
        positions = [message.index(part) for part in order]
        assert positions == sorted(positions)
        with pytest.raises(openmm.OpenMMException, match=f"other engine cannot take its place: {lack}"):
            raise openmm.OpenMMException(message)
    neither = ask(hidden="xtb,tblite", LD_LIBRARY_PATH=broken)["gas"]
    assert "libxtb could not be loaded" in neither and "tblite could not be loaded" in neither
    assert "pip install tblite" in neither and "OPENMMKSTEP_LIBTBLITE: not set" in neither
    # Who names a libxtb gets that or nothing.
    named = ask(OPENMMKSTEP_LIBXTB="/nonexistent/libxtb.so")
    assert "excludes all other places: /nonexistent/libxtb.so: cannot open" in named["gas"]


def test_an_engine_that_is_asked_for(places):
    assert ask("tblite")["gas"] == "tblite"
    assert "libxtb could not be loaded" in ask("libxtb", hidden="xtb", LD_LIBRARY_PATH=str(places["broken"]))["gas"]
    missing = ask("tblite", hidden="tblite", LD_LIBRARY_PATH=str(places["broken"]))
    assert "tblite could not be loaded" in missing["gas"] and missing["libxtb"][0] == "6.5.1"


def test_check_installation_tells_what_else_is_there(places):
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {"LD_LIBRARY_PATH": str(places["broken"]), "CONDA_PREFIX": str(places["conda"].parent)}
    command = [sys.executable, "-m", "openmmkstep"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()[3:]
    tblite = XtbForce.getEngineInfo("tblite")[0]
    assert lines == [
        f"libxtb 6.5.1: {_engines.find_engine('libxtb')}, from the PyPI package xtb",
        f"  not used: libxtb 6.5.9: {places['conda'] / 'libxtb.so.6.5.9'}, from the conda environment",
        f"tblite {tblite}: {_engines.find_engine('tblite')}, from the PyPI package tblite",
    ]
    environment["OPENMMKSTEP_LIBTBLITE"] = str(places["broken"] / "libtblite.so.0")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "tblite: not usable: XtbForce: tblite could not be loaded" in result.stdout


def test_a_library_that_kills_the_process(tmp_path):
    """A mismatch can be a segmentation fault: that of the probe is told, and this process lives on."""
    source = tmp_path / "bad.c"
    source.write_text("#include <signal.h>\n__attribute__((constructor)) static void f() { raise(SIGSEGV); }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libxtb.so.6"), str(source)], check=True)
    message = _engines.probe_engine("libxtb", str(tmp_path / "libxtb.so.6"))
    assert "ended the process with signal 11" in message


def corrector_of(system):
    return next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))


def test_create_system_with_an_engine(tmp_path):
    topology, mm = water_system(4)
    x = water_positions(4, 3)
    results = {}
    for engine in ("libxtb", "tblite"):
        system = createQMMMSystem(topology, mm, range(3), embedding="mechanical", engine=engine)
        assert corrector_of(system).getEngine() == engine
        version = XtbForce.getEngineInfo(engine)[0]
        assert f"3 of 12 particles, GFN2-xTB by {engine} {version}, charge 0" in describe(topology, system)
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(x)
        results[engine] = energy_forces(context)
    # SCF errors at accuracy 0.05, and the libraries' constants of nature.
    assert results["tblite"][0] == pytest.approx(results["libxtb"][0], abs=1e-3)
    np.testing.assert_allclose(results["tblite"][1], results["libxtb"][1], atol=0.1)
    assert corrector_of(createQMMMSystem(topology, mm, range(3))).getEngine() == "auto"
    setup = readSetup(write(tmp_path, qmmm="atoms = [0, 1, 2, 3, 4, 5]\nembedding = 'none'\nengine = 'tblite'"))
    assert corrector_of(setup.create(None)).getEngine() == "tblite"
    with pytest.raises(ValueError, match="engine.*'auto', 'libxtb' or 'tblite'"):
        readSetup(write(tmp_path, qmmm="atoms = [0, 1, 2]\nengine = 'mopac'"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "mopac"}, "Expected one of the engines auto, libxtb, tblite, found 'mopac'"),
        ({"engine": "tblite"}, "tblite has no point charges, which electrostatic embedding needs. Choose the engine"),
        ({"engine": "tblite", "embedding": "none", "method": "GFN-FF"}, "tblite has no GFN-FF"),
    ],
)
def test_create_system_refuses(options, message):
    topology, mm = water_system(2)
    with pytest.raises(ValueError, match=message):
        createQMMMSystem(topology, mm, range(3), **options)


def test_the_engine_of_a_context_is_settled():
    """setEngine() acts on Contexts made later, and auto with libxtb is libxtb bit for bit."""
    energies = {}
    for engine in ("auto", "libxtb", "tblite"):
        force, x = make_xtb("formaldehyde", "GFN2-xTB")
        force.setEngine(engine)
        context = make_context(force, len(x), x)
        force.setEngine("tblite")
        energies[engine] = energy_of(context)
    assert energies["auto"] == energies["libxtb"] != energies["tblite"]
    force, x = make_xtb("formaldehyde", "GFN2-xTB", CHARGES)
    assert force.findEngine() == "libxtb"
    for call in (XtbForce.getEngineInfo, openmmkstep._openmmkstep.XtbForce_getEnginePlaces):
        with pytest.raises(openmm.OpenMMException, match="expected the engine 'libxtb' or 'tblite', found 'auto'"):
            call("auto")
