"""Runs that are killed at random and continued from their files lose nothing but the unfinished interval."""

import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import get_positions
from killed_run import CHECKPOINT_INTERVAL, INTERVAL, make_simulation
from openmm import app

from openmmkstep import KStepReporter, cutTable, cutTrajectory

SCRIPT = Path(__file__).with_name("killed_run.py")
LINE_LENGTH = 250
"""Bytes of a line of run.csv; seen: 240 to 290."""
WALL_TIMES = ("Speed (ns/day)", "Time Left (s)")


def command(folder: Path, scheme: str, steps: int) -> list[str]:
    return [sys.executable, str(SCRIPT), str(folder), scheme, str(steps)]


def table(path: Path) -> list[tuple]:
    """The lines of a KStepReporter's file without what depends on the computer's clock."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    keep = [i for i, name in enumerate(rows[0]) if name.strip('#"') not in WALL_TIMES]
    assert len(rows[0]) - len(keep) == len(WALL_TIMES)
    assert {len(row) for row in rows} == {len(rows[0])}
    return [tuple(row[i] for i in keep) for row in rows]


def trajectory(path: Path) -> bytes:
    """A DCD file without the date in its header."""
    content = path.read_bytes()
    return content[:180] + content[260:]


def run_with_kills(folder: Path, scheme: str, steps: int, kills: int, seed: int) -> None:
    """Run to the end, killed ``kills`` times: at a random moment after a random number of lines of its CSV file."""
    rng = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = folder / "run.csv"
    for kill in range(kills + 1):
        process = subprocess.Popen(
            command(folder, scheme, steps), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        try:
            line = process.stdout.readline()
            assert line.startswith("running from"), process.stderr.read()
            if kill == kills:
                assert process.wait(600) == 0, process.stderr.read()
                return
            # No kill needs more than its part of the lines, so that the run cannot end before the last of them.
            size = log.stat().st_size if log.exists() else 0
            wait = rng.uniform(0, 0.9 * steps / INTERVAL / kills) * LINE_LENGTH
            while process.poll() is None and (log.stat().st_size if log.exists() else 0) < size + wait:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.004))
            assert process.poll() is None, f"The run ended before its kill {kill + 1}: {process.stderr.read()}"
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("scheme", "steps", "kills"),
    [
        ("metropolis", 1500, 5),
        pytest.param("metropolis", 20_000, 70, marks=pytest.mark.slow),
        pytest.param("impulse", 20_000, 70, marks=pytest.mark.slow),
        pytest.param("reweight", 20_000, 60, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_go_on(scheme, steps, kills, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    reference = subprocess.run(command(whole, scheme, steps), capture_output=True, text=True, check=False)
    assert reference.returncode == 0, reference.stderr
    run_with_kills(parts, scheme, steps, kills, seed=steps)
    found = table(parts / "run.csv")
    assert [int(row[0]) for row in found[1:]] == list(range(INTERVAL, steps + 1, INTERVAL))
    assert found == table(whole / "run.csv")
    assert (parts / "log.csv").read_text() == (whole / "log.csv").read_text()
    assert trajectory(parts / "run.dcd") == trajectory(whole / "run.dcd")
    assert struct.unpack_from("<i", (parts / "run.dcd").read_bytes(), 8)[0] == steps // INTERVAL
    for a, b in zip(end_of(parts, scheme), end_of(whole, scheme), strict=True):
        np.testing.assert_array_equal(a, b)


def end_of(folder: Path, scheme: str) -> tuple:
    """What follows from the last checkpoint: positions and velocities after five more macro-steps."""
    simulation = make_simulation(scheme)
    simulation.loadCheckpoint(str(folder / "run.chk"))
    simulation.step(5)
    state = simulation.context.getState(positions=True, velocities=True)
    return state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value, simulation.currentStep


def reporters(folder: Path, append: bool = False) -> list:
    return [
        app.DCDReporter(str(folder / "run.dcd"), INTERVAL, append=append),
        KStepReporter(folder / "run.csv", INTERVAL, regions={"all": range(8)}, progress=False, append=append),
        app.CheckpointReporter(str(folder / "run.chk"), CHECKPOINT_INTERVAL),
    ]


def finished(folder: Path, steps: int) -> app.Simulation:
    simulation = make_simulation("metropolis")
    simulation.reporters = reporters(folder)
    simulation.step(steps)
    for reporter in simulation.reporters[:2]:
        reporter._out.flush()
    return simulation


def test_torn_files(tmp_path):
    """What a kill in the middle of a write leaves: part of a frame, a count too high, part of a line."""
    finished(tmp_path, 30)
    whole = trajectory(tmp_path / "run.dcd"), (tmp_path / "run.csv").read_text()
    lines = whole[1].splitlines(keepends=True)
    frame = 3 * (4 * 8 + 8)
    for torn in range(1, frame, 17):
        with open(tmp_path / "run.dcd", "ab") as file:
            file.write(b"\1" * torn)
        with open(tmp_path / "run.dcd", "r+b") as file:
            file.seek(8)
            file.write(struct.pack("<i", 11))
        assert cutTrajectory(tmp_path / "run.dcd", 30)
        assert trajectory(tmp_path / "run.dcd") == whole[0]
    for torn in range(1, len(lines[-1])):
        (tmp_path / "run.csv").write_text("".join(lines[:-1]) + lines[-1][:torn])
        assert cutTable(tmp_path / "run.csv", 30) == 9
        assert (tmp_path / "run.csv").read_text() == "".join(lines[:-1])
    # Before the first line and the first frame there is nothing to append to.
    (tmp_path / "run.csv").write_text(lines[0][:20])
    assert cutTable(tmp_path / "run.csv", 30) == 0
    assert (tmp_path / "run.csv").read_text() == ""
    (tmp_path / "run.dcd").write_bytes(whole[0][:100])
    assert not cutTrajectory(tmp_path / "run.dcd", 30)
    assert not cutTrajectory(tmp_path / "none.dcd", 30) and cutTable(tmp_path / "none.csv", 30) == 0


def test_files_older_than_the_checkpoint_are_refused(tmp_path):
    finished(tmp_path, 12)
    with pytest.raises(ValueError, match="Expected 5 frames up to step 15 in .*, found 4"):
        cutTrajectory(tmp_path / "run.dcd", 15)
    simulation = finished(tmp_path, 24)
    assert cutTable(tmp_path / "run.csv", 15) == 5
    simulation.reporters = reporters(tmp_path, append=True)
    with pytest.raises(ValueError, match="expected lines up to step 24 .* last is of step 15"):
        simulation.step(1)
    (tmp_path / "other.dcd").write_bytes(bytes(300))
    with pytest.raises(ValueError, match="not a DCD file"):
        cutTrajectory(tmp_path / "other.dcd", 1)
    (tmp_path / "other.csv").write_text('#"Time (ps)","x"\n1,2\n')
    with pytest.raises(ValueError, match="column 'Step'"):
        cutTable(tmp_path / "other.csv", 1)
    (tmp_path / "other.csv").write_text('#"Step","x"\n1,2\n,\n3,4\n')
    with pytest.raises(ValueError, match="Line 3 .* has no step"):
        cutTable(tmp_path / "other.csv", 9)


def test_a_torn_checkpoint_does_not_replace_a_whole_one(tmp_path):
    """OpenMM writes 'run.chk.0.tmp' and renames it: what a kill leaves in it disturbs nobody."""
    simulation = finished(tmp_path, CHECKPOINT_INTERVAL)
    good = (tmp_path / "run.chk").read_bytes()
    (tmp_path / "run.chk.0.tmp").write_bytes(good[:50])
    positions = get_positions(simulation.context)
    simulation.step(5)
    simulation.loadCheckpoint(str(tmp_path / "run.chk"))
    assert (get_positions(simulation.context) == positions).all()
    simulation.step(CHECKPOINT_INTERVAL)
    assert (tmp_path / "run.chk").read_bytes() != good
    assert (tmp_path / "run.chk.0.tmp").read_bytes() == good[:50]
