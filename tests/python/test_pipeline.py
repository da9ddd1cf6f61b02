"""makeModel, improveModel, FrameKeeper and the command kstep, on a QM water among a few others."""

import hashlib
import json
import shutil

import numpy as np
import openmm
import pytest
from openmm import app

from openmmkstep import FrameKeeper, KStepIntegrator, KStepModelForce, cast, readContract
from openmmkstep.cli import main
from openmmkstep.data import CollectiveVariable, Dataset, MergedDataset, UmbrellaWindows
from openmmkstep.data.starts import findStarts
from openmmkstep.improve import improveModel
from openmmkstep.pipeline import makeModel
from openmmkstep.qmmm import readSetup

SETUP = """
from conftest import water_positions, water_system
from openmmkstep import createQMMMSystem

topology, _mm = water_system(4)
positions = water_positions(4, 1)

def create(model):
    return createQMMMSystem(topology, _mm, range(3), model=model)

options = {
    "sample": {"picoseconds": 0.3, "interval": 0.004, "walkers": 4, "block": 25, "platform": "Reference"},
    "train": {"steps": 150, "threads": 1, "hidden": (16, 16)},
    "check": {"quick": True, "parts": ("runs",), "picoseconds": 0.3, "starts": 1},
}
"""


@pytest.fixture(scope="module")
def setup_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("setup") / "water.py"
    path.write_text(SETUP)
    return path


@pytest.fixture(scope="module")
def made(setup_file, tmp_path_factory):
    """The result of makeModel() and its folder."""
    folder = tmp_path_factory.mktemp("made")
    return makeModel(readSetup(setup_file), folder, minutes=1, cluster="serial", progress=False), folder


def simulation_of(setup_file, model, integrator) -> app.Simulation:
    setup = readSetup(setup_file)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(setup.topology, setup.create(model), integrator, platform)
    simulation.context.setPositions(setup.positions)
    simulation.context.setVelocitiesToTemperature(300, 1)
    return simulation


def test_a_model_from_nothing(made, setup_file):
    result, folder = made
    assert result.path == folder / "model.pt"
    assert readContract(result.path).species == (8, 1, 1)
    assert set(result.minutes) == {"sample", "first", "round 1", "round 2", "check"}
    # xTB-driven and model-driven frames, gas-phase ones too.
    assert len(Dataset(folder / "data.kstep")) >= 300
    for round, improvement in enumerate(result.improvements, 1):
        assert improvement.newFrames == len(Dataset(folder / f"improved-{round}" / "active.kstep")) >= 300
    error = result.improvements[1].errors["all"][1].force
    assert error.value < 150  # of some 1000 kJ/mol/nm
    assert "Minutes" in str(result) and "new frames" in str(result)
    assert (folder / "check" / "check.html").stat().st_size > 10_000
    # The model that the active learning began with is where it was.
    assert (folder / "first" / "model.pt").read_bytes() != result.path.read_bytes()
    simulation = simulation_of(setup_file, result.path, KStepIntegrator(0.0005, 4))
    simulation.step(5)
    assert np.isfinite(simulation.integrator.getStatistics()["sdD"]._value)


def test_going_on_makes_nothing_anew(made, setup_file):
    result, folder = made
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("block-*.h5")} | {
        p: p.read_bytes() for p in folder.rglob("model.pt")
    }
    shutil.rmtree(folder / "check")
    again = makeModel(readSetup(setup_file), folder, minutes=1, cluster="serial", progress=False)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("block-*.h5")} | {
        p: p.read_bytes() for p in folder.rglob("model.pt")
    }
    assert after == before
    assert again.improvements[1].errors["all"][1].force.value == result.improvements[1].errors["all"][1].force.value
    assert (folder / "check" / "check.html").exists()
    with pytest.raises(ValueError, match="was made with"):
        makeModel(readSetup(setup_file), folder, minutes=2, cluster="serial")


def test_walkers_go_on_where_others_ended(made, setup_file):
    """Each round begins at the ends of the sampling before it, in an order of its own."""
    _, folder = made
    datasets = [folder / name for name in ("data.kstep", "improved-1/active.kstep", "improved-2/active.kstep")]
    system = readSetup(setup_file).create(None)
    for round in (1, 2):
        record = json.loads((datasets[round] / "walkers" / "run-000.json").read_text())
        starts = findStarts(datasets[:round], system.getNumParticles(), 1 + round)
        assert len(starts) == 4
        assert record["settings"]["positions"] == hashlib.sha256(starts.tobytes()).hexdigest()


def test_frame_keeper(made, setup_file, tmp_path):
    """Rejected states, outliers of D and every so many-th frame; labels are those of xTB; improveModel() takes them."""
    result, folder = made
    integrator = KStepIntegrator(0.0005, 8, "metropolis", 300, 2.0)
    integrator.setRandomNumberSeed(1)
    integrator.setExtraChances(1)
    simulation = simulation_of(setup_file, folder / "first" / "model.pt", integrator)
    keeper = FrameKeeper(tmp_path / "kept.kstep", 1, limit=1.5, every=20, block=5)
    simulation.reporters.append(keeper)
    simulation.step(100)
    keeper.close()
    flips = integrator.getStatistics()["flips"]
    kept = Dataset(tmp_path / "kept.kstep")
    frames = kept.read()
    assert len(frames) == keeper.numKept
    # Those due, those rejected; outliers of D come on top.
    assert 5 + flips < len(frames) < 100
    simulation.context.setPositions(
        np.concatenate([frames.positions[-1], np.full((9, 3), 50.0) + np.arange(9)[:, None]])
    )
    gas = [frames.potentials[-1], simulation.context.getState(energy=True, groups={1}).getPotentialEnergy()._value]
    # In the field of the others the energy is lower by some of q phi.
    assert frames.energies[-1] - gas[1] == pytest.approx(frames.charges[-1] @ gas[0], abs=15)
    system = readSetup(setup_file).create(None)
    data = [folder / "data.kstep"]
    improvement = improveModel(
        system,
        readSetup(setup_file).positions,
        folder / "first" / "model.pt",
        data,
        tmp_path / "improved",
        kept=[kept],
        picoseconds=0,
        train={"steps": 50, "threads": 1, "hidden": (16, 16)},
        progress=False,
    )
    assert improvement.newFrames == len(frames)
    assert set(json.loads((tmp_path / "improved" / "improve.json").read_text())["errors"]) == {"all", "earlier data"}
    # A second run adds a trajectory of its own.
    another = FrameKeeper(tmp_path / "kept.kstep", 5, every=1, block=1)
    simulation.reporters[:] = [another]
    simulation.context.setPositions(readSetup(setup_file).positions)
    simulation.step(5)
    assert set(kept.read().trajectories) == {0, 1}


def test_merged_trajectories_are_apart(made):
    _, folder = made
    data = Dataset(folder / "data.kstep")
    merged = MergedDataset([data, folder / "improved-1" / "active.kstep"])
    frames = merged.read()
    assert len(frames) == len(merged)
    assert len(np.unique(frames.trajectories)) == 8
    assert merged.dampingLengths == data.dampingLengths and len(merged.dampingLengths) == 3
    with pytest.raises(ValueError, match="At least one"):
        MergedDataset([])


def test_the_command(made, setup_file, tmp_path, capsys):
    _, folder = made
    model = folder / "first" / "model.pt"
    assert main(["train", str(folder / "data.kstep"), "--folder", str(tmp_path / "t"), "--steps", "20", "--quiet"]) == 0
    assert "held-out" in capsys.readouterr().out
    sample = ["sample", str(setup_file), "--output", str(tmp_path / "d.kstep"), "--quiet", "--cluster", "serial"]
    assert main([*sample, "--model", str(model), "--picoseconds", "0.1", "--set", "walkers=2"]) == 0
    assert "frames" in capsys.readouterr().out
    assert main([*sample, "--set", "walker=2"]) == 1
    assert "unknown setting walker; there are" in capsys.readouterr().err
    assert main([*sample, "--set", "walkers"]) == 1
    assert "expected NAME=VALUE" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "none.toml"), str(model)]) == 1
    assert "no set-up file" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "no.kstep")]) == 1
    assert "is not a dataset" in capsys.readouterr().err


def test_bias_file(setup_file, tmp_path, capsys):
    (tmp_path / "bias.toml").write_text(
        '[cv]\nkind = "distance"\nparticles = [0, 1]\n[umbrella]\ncentres = [0.095, 0.105]\nspring = 500000\n'
    )
    output = tmp_path / "b.kstep"
    sample = ["sample", str(setup_file), "--output", str(output), "--quiet", "--cluster", "serial", "--set", "gas=0.0"]
    assert main([*sample, "--bias", str(tmp_path / "bias.toml"), "--picoseconds", "0.2"]) == 0
    data = Dataset(output)
    cv, window = data.readColumn("cv"), data.readColumn("window")
    x = data.read().positions
    np.testing.assert_allclose(cv, np.linalg.norm(x[:, 1] - x[:, 0], axis=1), atol=1e-9)
    assert cv[window == 1].mean() - cv[window == 0].mean() > 0.002
    (tmp_path / "bad.toml").write_text('[cv]\nkind = "distance"\nparticles = [0, 1]\n[umbrela]\n')
    assert main([*sample, "--bias", str(tmp_path / "bad.toml")]) == 1
    assert "sections [cv] and one of" in capsys.readouterr().err


def test_active_learning_in_windows(made, setup_file, tmp_path, capsys):
    """kstep improve and check with a bias; what improveModel() samples is in the windows."""
    _, folder = made
    (tmp_path / "bias.toml").write_text(
        '[cv]\nkind = "distance"\nparticles = [0, 1]\n[umbrella]\ncentres = [0.09, 0.105]\nspring = 500000\n'
    )
    model, bias = folder / "first" / "model.pt", ["--bias", str(tmp_path / "bias.toml"), "--quiet"]
    text = (
        setup_file.read_text()
        .replace('"picoseconds": 0.3', '"picoseconds": 0.1')
        .replace('"steps": 150', '"steps": 20')
    )
    (tmp_path / "water.py").write_text(text)
    improve = ["improve", str(tmp_path / "water.py"), str(model), str(folder / "data.kstep"), *bias]
    assert main([*improve, "--folder", str(tmp_path / "i"), "--picoseconds", "0.1", "--cluster", "serial"]) == 0
    assert "new frames" in capsys.readouterr().out
    data = Dataset(tmp_path / "i" / "active.kstep")
    cv, window = data.readColumn("cv"), data.readColumn("window")
    assert set(window) == {0, 1} and len(data) >= 100
    x = data.read().positions
    np.testing.assert_allclose(cv, np.linalg.norm(x[:, 1] - x[:, 0], axis=1), atol=1e-9)
    # The bond's own spring is as stiff: a mean lies half way between the centre and 0.096 nm.
    assert cv[window == 1].mean() - cv[window == 0].mean() > 0.003
    assert (
        main(["check", str(setup_file), str(model), "--folder", str(tmp_path / "c"), *bias, "--set", "picoseconds=0.8"])
        == 0
    )
    assert "Along the collective variable" in capsys.readouterr().out
    (tmp_path / "bias.toml").write_text(
        '[cv]\nkind = "distance"\nparticles = [0, 1]\n[metadynamics]\nminimum = 0.08\nmaximum = 0.12\nwidth = 0.01\n'
    )
    assert main(["check", str(setup_file), str(model), "--folder", str(tmp_path / "c"), *bias]) == 1
    assert "UmbrellaWindows, found Metadynamics" in capsys.readouterr().err


def test_a_model_in_windows_from_nothing(setup_file, tmp_path):
    text = setup_file.read_text()
    for old, new in (
        ('0.3, "interval"', '0.1, "interval"'),
        ('"steps": 150', '"steps": 20'),
        ('"walkers": 4, ', ""),
        ('0.3, "starts"', '0.8, "starts"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "water.py").write_text(text)
    bias = UmbrellaWindows(CollectiveVariable("distance", (0, 1)), (0.09, 0.105), 5e5)
    made = makeModel(
        readSetup(tmp_path / "water.py"),
        tmp_path / "m",
        minutes=1,
        rounds=1,
        bias=bias,
        cluster="serial",
        progress=False,
    )
    for name in ("data.kstep", "improved-1/active.kstep"):
        data = Dataset(tmp_path / "m" / name)
        # Each window has a walker at each temperature.
        pairs = set(zip(data.readColumn("window"), data.read().temperatures, strict=True))
        assert pairs == {(w, t) for w in (0, 1) for t in (300, 500)}
    assert made.report.coordinate is not None
    with pytest.raises(ValueError, match="was made with"):
        makeModel(readSetup(tmp_path / "water.py"), tmp_path / "m", minutes=1, rounds=1, cluster="serial")


def test_model_in_the_system(made, setup_file):
    result, _ = made
    system = readSetup(setup_file).create(result.path)
    assert any(isinstance(cast(f), KStepModelForce) for f in system.getForces())
