"""The README's script and the examples run as they are printed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}


def test_readme_script(tmp_path):
    script = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    # Only the output file moves; the paths of the inputs are relative to the root of the checkout.
    script = script.replace('"log.csv"', repr(str(tmp_path / "log.csv")))
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "'macroSteps': 10" in result.stdout
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 11


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
    # A proposal of 128 fs by a model that is wrong for this system would be rejected nearly always.
    assert chain["statistics"]["firstAccepted"] > 0.5 * chain["statistics"]["macroSteps"]
