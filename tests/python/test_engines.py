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
from conftest import CHARGES, energy_forces, energy_of, make_context, make_xtb, water_positions, water_system
from small_systems import alanine_dipeptide
from test_setup_file import write

import openmmkstep
from openmmkstep import XtbForce, _engines, cast, createQMMMSystem
from openmmkstep.qmmm import QMMMWarning, describe, readSetup

pytestmark = pytest.mark.skipif(
    None in map(_engines.find_engine, _engines.ENGINES), reason="needs the packages xtb and tblite"
)

ASK = """
import json, os, sys
import openmm, openmmkstep
from openmmkstep import _openmmkstep as bindings
def attempt(function, *args):
    try:
        return function(*args)
    except openmm.OpenMMException as e:
        return str(e)
def find(engine, method, charges):
    force = openmmkstep.XtbForce(method, [0], [2])
    force.setEngine(engine)
    for i in range(charges):
        force.addEmbeddingCharge(1, 0.1)
    return attempt(force.findEngine)
for question in json.loads(sys.argv[1]):
    if os.fork() == 0:  # a library stays loaded, and there is one of each in a process
        os.environ.update(question.get("environment", {}))
        for name in question.get("hidden", ()):
            bindings.XtbForce_setPackageFile(name, "")
        engine = question.get("engine", "auto")
        found = {"gas": find(engine, "GFN2-xTB", 0), "charges": find(engine, "GFN1-xTB", 1), "GFN-FF": find(engine, "GFN-FF", 0)}
        found |= {name: attempt(openmmkstep.XtbForce.getEngineInfo, name) for name in ("libxtb", "tblite")}
        print(json.dumps(found), flush=True)
        os._exit(0)
    os.wait()
"""
VARIABLES = ("OPENMMKSTEP_LIBXTB", "OPENMMKSTEP_LIBTBLITE", "CONDA_PREFIX", "LD_LIBRARY_PATH")


def clean_environment(**variables) -> dict:
    return {k: v for k, v in os.environ.items() if k not in VARIABLES} | variables


def ask(library_path: Path, *questions: dict) -> list[dict]:
    """What processes find whose settings and packages are these."""
    environment = clean_environment(LD_LIBRARY_PATH=str(library_path))
    command = [sys.executable, "-c", ASK, json.dumps(questions)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == len(questions), result.stderr
    return answers


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
                (folder / soname).write_text("this is not a library" * 100)
        else:
            shutil.copy(wheel, folder / "libxtb.so.6.5.9")
            (folder / "libxtb.so.6").symlink_to("libxtb.so.6.5.9")
            for file in wheel.parent.iterdir():
                if file != wheel:
                    (folder / file.name).symlink_to(file)
        folders[name.partition("/")[0]] = folder
    return folders


def test_order_of_places(places):
    wheel, tblite = _engines.find_engine("libxtb"), _engines.find_engine("tblite")
    system, conda = places["system"] / "libxtb.so.6.5.9", places["conda"] / "libxtb.so.6.5.9"
    in_conda = {"CONDA_PREFIX": str(places["conda"].parent)}
    named = in_conda | {"OPENMMKSTEP_LIBXTB": str(places["conda"] / "libxtb.so.6")}
    answers = ask(
        places["system"],
        {"environment": in_conda},
        {"environment": in_conda, "hidden": ["libxtb"]},
        {"environment": named},
        {"environment": {"OPENMMKSTEP_LIBTBLITE": str(tblite)}, "hidden": ["tblite"]},
    )
    assert [a["libxtb"] for a in answers[:3]] == [["6.5.1", str(wheel)], ["6.5.9", str(system)], ["6.5.9", str(conda)]]
    assert answers[3]["tblite"][0].startswith("0.") and answers[3]["tblite"][1] == str(tblite)
    # What is there but cannot be loaded is passed over.
    (answer,) = ask(places["broken"], {"environment": in_conda, "hidden": ["libxtb"]})
    assert answer["libxtb"] == ["6.5.9", str(conda)]


def test_choice_and_messages(places):
    """tblite takes libxtb's place where it can; what it cannot do is told, with all places that were searched."""
    everything, no_libxtb, nothing, named, tblite, libxtb, no_tblite = ask(
        places["broken"],
        {},
        {"hidden": ["libxtb"]},
        {"hidden": ["libxtb", "tblite"]},
        {"environment": {"OPENMMKSTEP_LIBXTB": "/nonexistent/libxtb.so"}},
        {"engine": "tblite"},
        {"engine": "libxtb", "hidden": ["libxtb"]},
        {"engine": "tblite", "hidden": ["tblite"]},
    )
    assert [everything[key] for key in ("gas", "charges", "GFN-FF")] == ["libxtb"] * 3
    assert no_libxtb["gas"] == "tblite"
    for key, lack in (("charges", "tblite has no point charges, "), ("GFN-FF", "tblite has no GFN-FF")):
        order = ["pip install xtb", "OPENMMKSTEP_LIBXTB: not set", "PyPI package xtb: not installed in this Python"]
        order += ["system's libraries: ", "invalid ELF header", "conda environment: CONDA_PREFIX is not set"]
        order += ["The other engine cannot take its place: " + lack]
        found = [no_libxtb[key].find(part) for part in order]
        assert -1 not in found and found == sorted(found), no_libxtb[key]
    for part in (
        "libxtb could not be loaded",
        "tblite could not be loaded",
        "pip install tblite",
        "LIBTBLITE: not set",
    ):
        assert part in nothing["gas"]
    # Who names a libxtb gets that or nothing.
    assert "excludes all other places: /nonexistent/libxtb.so: cannot open" in named["gas"]
    assert tblite["gas"] == "tblite" and "tblite has no GFN-FF" in tblite["GFN-FF"]
    assert "libxtb could not be loaded" in libxtb["gas"]
    assert "tblite could not be loaded" in no_tblite["gas"] and no_tblite["libxtb"][0] == "6.5.1"


def test_package_that_is_not_installed(monkeypatch):
    assert _engines.find_engine("libxtb").exists() and _engines.find_engine("tblite").exists()
    monkeypatch.setitem(sys.modules, "xtb", None)
    monkeypatch.setitem(sys.modules, "tblite", None)
    assert _engines.find_engine("libxtb") is None and _engines.find_engine("tblite") is None


def test_check_installation_tells_what_else_is_there(places):
    environment = clean_environment(LD_LIBRARY_PATH=str(places["broken"]), CONDA_PREFIX=str(places["conda"].parent))
    command = [sys.executable, "-m", "openmmkstep"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()[3:-1]  # the last one is about openmm-torch
    tblite = XtbForce.getEngineInfo("tblite")[0]
    assert lines == [
        f"libxtb 6.5.1: {_engines.find_engine('libxtb')}, from the PyPI package xtb",
        f"  not used: libxtb 6.5.9: {places['conda'] / 'libxtb.so.6.5.9'}, from the conda environment",
        f"tblite {tblite}: {_engines.find_engine('tblite')}, from the PyPI package tblite",
    ]


def test_a_library_that_kills_the_process(tmp_path):
    """A mismatch can be a segmentation fault: that of the probe is told, and this process lives on."""
    source = tmp_path / "bad.c"
    source.write_text("#include <signal.h>\n__attribute__((constructor)) static void f() { raise(SIGSEGV); }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libxtb.so.6"), str(source)], check=True)
    message = _engines.probe_engine("libxtb", str(tmp_path / "libxtb.so.6"))
    assert "ended the process with signal 11" in message
    (tmp_path / "libtblite.so.0").write_text("this is not a library")
    message = _engines.probe_engine("tblite", str(tmp_path / "libtblite.so.0"))
    assert message.startswith("XtbForce: tblite could not be loaded")


def corrector_of(system):
    return next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))


@pytest.mark.parametrize("region", ["molecule", "cut", "mulliken"])
def test_create_system_with_an_engine(region):
    """The same System but for the engine; with a cut there is a link atom, and Mulliken charges are computed with it."""
    if region == "cut":
        topology, mm, x = alanine_dipeptide(2, None)
        qm = [10, 11, 12, 13]
    else:
        (topology, mm), x, qm = water_system(4), water_positions(4, 3), range(3)
    charges = "mulliken" if region == "mulliken" else "auto"
    results = {}
    for engine in ("libxtb", "tblite"):
        system = createQMMMSystem(topology, mm, qm, embedding="mechanical", engine=engine, charges=charges, positions=x)
        assert corrector_of(system).getEngine() == engine
        version = XtbForce.getEngineInfo(engine)[0]
        assert f"{len(qm)} of {len(x)} particles, GFN2-xTB by {engine} {version}, charge 0" in describe(
            topology, system
        )
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(x)
        results[engine] = energy_forces(context)
    # SCF errors at accuracy 0.05, and the libraries' constants of nature.
    assert results["tblite"][0] == pytest.approx(results["libxtb"][0], abs=1e-3)
    np.testing.assert_allclose(results["tblite"][1], results["libxtb"][1], atol=0.1)


def test_engine_in_set_up_files(tmp_path):
    topology, mm = water_system(2)
    assert corrector_of(createQMMMSystem(topology, mm, range(3))).getEngine() == "auto"
    setup = readSetup(write(tmp_path, qmmm="atoms = [0, 1, 2, 3, 4, 5]\nembedding = 'none'\nengine = 'tblite'"))
    with pytest.warns(QMMMWarning):  # the six atoms are cut off at an amide
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
