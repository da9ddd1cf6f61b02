"""The README's script and the examples run as they are printed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openmmkstep.analysis import drift

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}


def test_readme_scripts(tmp_path):
    # The later pieces of code go on from the first.
    script = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    script += "\nprint(len(integrator.getMollification()), 'bonds', len(integrator.getMollifiedAngles()), 'angles')\n"
    # Only the output files move; the paths of the inputs are relative to the root of the checkout.
    for name in ("log.csv", "run.csv", "run.chk", "run.dcd"):
        assert f'"{name}"' in script
        script = script.replace(f'"{name}"', repr(str(tmp_path / name)))
    # Tuning takes a minute too; a few macro-steps run the same code.
    assert "1.0, kValues=(32, 64)" in script
    script = script.replace("1.0, kValues=(32, 64)", "0.0, kValues=(2, 4), minMacroSteps=3, progress=False")
    # A prediction takes a minute; two short pieces run the same code.
    short = "pdb.positions, deep, pieces=2, picoseconds=0.05, equilibration=0.1)"
    assert "pdb.positions, deep)" in script
    script = script.replace("pdb.positions, deep)", short)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "'macroSteps': 10" in result.stdout
    assert "21 bonds 12 angles" in result.stdout
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 21
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 3
    assert (tmp_path / "run.chk").stat().st_size > 0 and (tmp_path / "run.dcd").stat().st_size > 0


def test_demo_in_short(tmp_path):
    command = [sys.executable, "examples/01_alanine_dipeptide_in_water.py", "--picoseconds", "0.2", "--quiet"]
    result = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    numbers = json.loads((tmp_path / "alanine_dipeptide.json").read_text())
    assert (tmp_path / "alanine_dipeptide.png").stat().st_size > 10_000
    plain, impulse, chain = (
        numbers[name] for name in ("plain xTB 0.5 fs", "impulse k = 4, 0.5 fs", "metropolis k = 64, 2 fs, H = 3 u")
    )
    # One xTB call for each of k steps is what the schemes are for.
    assert plain["xtb_calls_per_ps"] == pytest.approx(2000)
    assert impulse["xtb_calls_per_ps"] == pytest.approx(500, rel=0.02)
    # Metropolis needs one call more than it makes tests: the energy of the start.
    assert chain["statistics"]["correctorCalls"] == chain["statistics"]["chances"] + 1
    # From one start, 0.2 ps of deterministic dynamics: plain and impulse differ by the step error of h = 2 fs only.
    assert abs(impulse["carbonyl_length_nm"][0] - plain["carbonyl_length_nm"][0]) < 1e-4
    # Reweight makes no test: one call for each frame.
    frames = numbers["reweight k = 64, 2 fs, H = 3 u"]
    assert frames["statistics"]["correctorCalls"] == frames["statistics"]["macroSteps"] > 0
    assert 0 < frames["statistics"]["effectiveSamples"] <= frames["statistics"]["macroSteps"]
    assert "jump k = 8, 0.5 fs" in numbers
    # A proposal of 128 fs by a model that is wrong for this system would be rejected nearly always.
    assert chain["statistics"]["firstAccepted"] > 0.5 * chain["statistics"]["macroSteps"]


def test_proton_transfer_in_short(tmp_path):
    """From xTB to the free energy along a reaction; too short for good numbers."""
    command = [sys.executable, "examples/02_proton_transfer.py", "--short", "--quiet", "--output", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    numbers = json.loads((tmp_path / "proton_transfer.json").read_text())
    plain, chain = numbers["plain xTB"], numbers["metropolis"]
    assert plain["calls_per_ps"] == pytest.approx(1000)
    # One call for each 64 fs and chance, of which there is one.
    assert chain["calls_per_ps"] < 40
    # 18 kJ/mol after a full run; ten samples in a window know it to some 5.
    assert 5 < plain["barrier"][0] < 40
    # A model of other atoms, or one that moves in other windows than the plain runs, has its proposals rejected.
    assert 0.2 < chain["acceptance"] <= 1
    assert "along" in result.stdout and "is untouched" in result.stdout
    for name in ("proton_transfer.png", "improved/training/model.pt"):
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize("kind", ["noise", "random walk"])
def test_error_of_the_drift(kind):
    """The error that the demo states for a drift is the spread of that drift over repetitions, or more."""
    rng = np.random.default_rng(1)
    times = np.arange(0, 10, 0.02)
    slopes, errors = [], []
    for _ in range(200):
        values = rng.normal(size=len(times))
        slope, error = drift(times, values if kind == "noise" else 0.1 * values.cumsum())
        slopes.append(slope)
        errors.append(error)
    # The spread of 200 slopes is known to 5 %, each error to some 25 %. For noise the error is a known overestimate:
    # differences of block means forget that the blocks lie about one line, which makes sqrt(1.8*2*10*10/12) = 5.5.
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(slopes)
    assert 0.8 < ratio < (6 if kind == "noise" else 1.2)
