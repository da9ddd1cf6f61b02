"""trainModel(): reproducible, resumed after a kill, with the right contract, and good at what it was trained on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import make_context
from training_molecules import MOLECULES, ethanol_frames, region_of

from openmmkstep import KStepModelForce, readContract
from openmmkstep.data import Frames, graph
from openmmkstep.training import trainModel
from openmmkstep.training.samples import drop_bad, groups, split

SMALL = {"hidden": (16, 12), "progress": False, "threads": 1}
DAMPING = [0.05] * 9


@pytest.fixture(scope="module")
def gas():
    return ethanol_frames(480)


@pytest.fixture(scope="module")
def embedded():
    # Trajectories 0-5 in a field, 6-8 in the gas phase.
    field, without = ethanol_frames(480, DAMPING, 2), ethanol_frames(240, None, 3)
    without.trajectories = without.trajectories + 6
    return Frames.concatenate([field, without])


def weights(folder):
    return {name: value for name, value in torch.jit.load(str(folder / "model.pt")).named_buffers()}


def test_gas_phase_model(gas, tmp_path):
    seen = []
    result = trainModel(
        gas, tmp_path, region=region_of("ethanol"), steps=400, heldOut=[5], callback=seen.append, **SMALL
    )
    # One conformer within 0.005 nm: forces of about 700 kJ/mol/nm, energies with a spread of 10 kJ/mol.
    error = result.errors["gas 300 K"]
    assert gas.forces.std() > 300
    assert error["forceRMSE"] < 30 and error["energySD"] < 1 and error["chargeRMSE"] is None
    assert error["frames"] == 80 and result.heldOut == [5] and result.frames == {"gas 300 K": 400}
    assert result.steps == 400 and 0 < result.microsecondsPerCall < 1000
    assert [r["step"] for r in result.history] == [r["step"] for r in seen] == list(range(10, 401, 10))
    assert result.history[-1]["force"] < 0.5 * result.history[0]["force"]
    assert "gas 300 K" in str(result) and f"{error['forceRMSE']:.2f}" in str(result)
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt", "checkpoint.pt", "training.json", "learning_curve.png"}
    assert json.loads((tmp_path / "training.json").read_text())["errors"] == result.errors

    contract = readContract(result.path)
    assert contract.inputs == ("positions",) and contract.outputs == ("energy", "forces")
    assert contract.species == MOLECULES["ethanol"][0] and contract.trainingTemperatures == (300.0,)
    assert len(contract.bonds) == 8
    # The hydrogens of CH3 and CH2 keep their handedness; sides of double bonds there are none.
    assert len(contract.handedness) == 2 and contract.sides == ()
    ranges = {(a, b): (low, high) for a, b, low, high in contract.distanceRanges}
    assert len(ranges) == 36
    assert ranges[2, 3] == ranges[2, 4] == ranges[2, 5]  # hydrogens of the methyl
    assert ranges[0, 6] != ranges[0, 7]
    x = gas.positions[400:]
    assert all(
        low <= np.linalg.norm(x[:, a] - x[:, b], axis=1).mean() <= high for (a, b), (low, high) in ranges.items()
    )

    force = KStepModelForce(str(result.path), range(9))
    context = make_context([force], 9)
    errors, difference = [], []
    for k in range(400, 480):
        context.setPositions(gas.positions[k])
        state = context.getState(energy=True, forces=True)
        errors.append(state.getForces(asNumpy=True)._value - gas.forces[k])
        difference.append(state.getPotentialEnergy()._value - gas.energies[k])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(error["forceRMSE"], rel=1e-3)
    assert -np.mean(difference) == pytest.approx(error["energyMean"], abs=2e-3)


def test_embedded_model(embedded, tmp_path):
    region = region_of("ethanol", True)
    result = trainModel(embedded, tmp_path, region=region, steps=400, heldOut=[5, 8], dampingLengths=DAMPING, **SMALL)
    assert list(result.errors) == ["embedded 300 K", "gas 300 K"]
    for error in result.errors.values():
        assert error["frames"] == 80
        assert error["forceRMSE"] < 25 and error["energySD"] < 1.5 and error["chargeRMSE"] < 0.004
    contract = readContract(result.path)
    assert contract.inputs == ("positions", "phi") and contract.outputs == ("energy", "forces", "charges")
    assert contract.dampingLengths == tuple(DAMPING) and contract.hardnessElement == 10
    # The model knows how the field acts: without phi its energies are far off.
    module = torch.jit.load(str(result.path))
    held = embedded[embedded.trajectories == 5]
    bare = [float(module(torch.from_numpy(x), torch.zeros(9, dtype=torch.float64))[0]) for x in held.positions]
    assert (held.energies - bare).std() > 5 * result.errors["embedded 300 K"]["energySD"]

    # Going on from it keeps what was learnt, from the model as from the checkpoint.
    for start in ("model.pt", "checkpoint.pt"):
        more = trainModel(
            embedded,
            tmp_path / f"from {start}",
            region=region,
            steps=3,
            rate=1e-9,
            start=tmp_path / start,
            heldOut=[5, 8],
            dampingLengths=DAMPING,
            **SMALL,
        )
        assert more.errors["embedded 300 K"]["forceRMSE"] == pytest.approx(
            result.errors["embedded 300 K"]["forceRMSE"], rel=1e-3
        )
    with pytest.raises(ValueError, match="same hidden"):
        trainModel(
            embedded,
            tmp_path / "other",
            region=region,
            steps=3,
            start=tmp_path / "model.pt",
            dampingLengths=DAMPING,
            **SMALL | {"hidden": (8, 8)},
        )


def test_seed_decides(gas, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainModel(gas, tmp_path / name, region=region_of("ethanol"), steps=20, seed=seed, heldOut=[5], **SMALL)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["inner.w1"], c["inner.w1"])


KILLED = """
import sys
from pathlib import Path
import numpy as np
from openmmkstep.data import Frames, Region
from openmmkstep.training import trainModel
folder = Path(sys.argv[1])
data = np.load(folder / "frames.npz")
region = Region.fromDict(__import__("json").loads((folder / "region.json").read_text()))
trainModel(Frames(**data), folder / "run", region=region, steps=60, heldOut=[5], hidden=(16, 12), progress=False,
           threads=1, checkpointInterval=0.0, callback=lambda record: print(record["step"], flush=True))
"""


def test_killed_and_resumed(gas, tmp_path):
    region = region_of("ethanol")
    np.savez(tmp_path / "frames.npz", **{name: getattr(gas, name) for name in gas.names()})
    (tmp_path / "region.json").write_text(json.dumps(region.toDict()))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "model.pt").exists()
    arguments = {"region": region, "steps": 60, "heldOut": [5], **SMALL}
    steps = []
    resumed = trainModel(gas, tmp_path / "run", callback=lambda record: steps.append(record["step"]), **arguments)
    assert steps and steps[0] > 19 and resumed.steps == 60
    whole = trainModel(gas, tmp_path / "whole", **arguments)
    a, b = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.errors == whole.errors
    assert [r["force"] for r in resumed.history] == [r["force"] for r in whole.history]
    # A finished one is read again, not repeated; one with other arguments is refused.
    begin = time.monotonic()
    assert trainModel(gas, tmp_path / "run", **arguments).errors == whole.errors
    assert time.monotonic() - begin < 20
    with pytest.raises(ValueError, match="another seed"):
        trainModel(gas, tmp_path / "run", seed=2, **arguments)


def test_time_budget(gas, tmp_path):
    begin = time.monotonic()
    result = trainModel(gas, tmp_path, region=region_of("ethanol"), seconds=1.0, heldOut=[5], **SMALL)
    assert 1.0 <= result.seconds < 5 and result.steps > 1
    assert time.monotonic() - begin < 30


def test_what_is_held_out(embedded):
    training, held = split(embedded, 0.2, seed=1)
    assert (training ^ held).all()
    kept = set(embedded.trajectories[held])
    assert not kept & set(embedded.trajectories[training])
    assert 0.15 < held.mean() < 0.5 and (held & embedded.embedded).any() and (held & ~embedded.embedded).any()
    assert any((split(embedded, 0.2, seed=s)[1] != held).any() for s in range(2, 9))
    # Where trajectories have both phases, both are held out: the structures are the same.
    for number in (2, 3):
        mixed = dataclasses.replace(embedded, trajectories=embedded.trajectories % number)
        training, held = split(mixed, 0.1, seed=1)
        assert len(set(mixed.trajectories[held])) == 1 and (training ^ held).all()
        assert not set(mixed.trajectories[held]) & set(mixed.trajectories[training])
    # None is held out that is all there is of a phase: 6 to 8 in the gas phase become 0.
    lonely = dataclasses.replace(embedded, trajectories=embedded.trajectories % 6 * (embedded.trajectories < 6))
    for seed in range(8):
        training, held = split(lonely, 0.1, seed)
        for phase in (lonely.embedded, ~lonely.embedded):
            assert (held & phase).any() and (training & phase).any()
    # The end of the only trajectory.
    single = embedded[embedded.trajectories == 0]
    np.testing.assert_array_equal(np.flatnonzero(split(single, 0.25, seed=1)[1]), np.arange(60, 80))
    with pytest.raises(ValueError, match="trajectories"):
        split(embedded, [77], seed=1)
    assert list(groups(embedded)) == ["embedded 300 K", "gas 300 K"]


def test_bad_frames_are_dropped(gas, tmp_path):
    bad = dataclasses.replace(gas, forces=gas.forces.copy())
    bad.forces[3, 2, 1] = 2.1e4
    bad.energies[7] = np.nan
    good, dropped = drop_bad(bad)
    assert dropped == 2 and len(good) == 478
    result = trainModel(bad, tmp_path, region=region_of("ethanol"), steps=1, heldOut=[5], **SMALL)
    assert result.dropped == 2 and sum(result.frames.values()) == 398


def test_errors(gas, embedded, tmp_path):
    region = region_of("ethanol")
    with pytest.raises(ValueError, match="give the region"):
        trainModel(gas, tmp_path, steps=1)
    with pytest.raises(ValueError, match="not both"):
        trainModel(gas, tmp_path, region=region, steps=1, seconds=1)
    with pytest.raises(ValueError, match="9 atoms, the region has 3"):
        trainModel(gas, tmp_path, region=region_of("water"), steps=1)
    with pytest.raises(ValueError, match="damping length"):
        trainModel(embedded, tmp_path, region=region_of("ethanol", True), steps=1)
    with pytest.raises(ValueError, match="sees no charges"):
        trainModel(embedded, tmp_path, region=region, steps=1)
    assert not list(graph.molecules(9, region.bonds)[1:])
