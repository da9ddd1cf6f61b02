"""The scripts in docs/openmm-ml.md and docs/any-force.md, and their example, run as they are printed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openmmml", reason="openmmml is not installed: pip install 'openmmml>=1.8,<2'")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}


def run(*command) -> str:
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def script_of(page: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL))


def test_openmm_ml_page():
    printed = run("-c", script_of("openmm-ml.md") + "\nprint(simulation.currentStep)\n")
    assert re.search(r"^\d+\.\d+ kJ/mol\n10$", printed)


def test_any_force_page():
    pytest.importorskip("tblite", reason="tblite is not installed: pip install tblite")
    printed = run("-c", script_of("any-force.md"))
    accepted, energy = re.search(r"(\d+) of 10 accepted\nenergy changed by (\S+) kJ/mol", printed).groups()
    # sd(D) is 0.4 kJ/mol; with the model of another molecule, or atoms in disorder, nothing is accepted.
    assert int(accepted) >= 6
    # GFN-FF's forces are off by some 500 kJ/mol/nm: kicks of 1 fs let the energy fluctuate by 0.4 kJ/mol.
    assert abs(float(energy)) < 4


def test_any_corrector_in_short(tmp_path):
    pytest.importorskip("tblite", reason="tblite is not installed: pip install tblite")
    run("examples/03_any_corrector.py", "--picoseconds", "0.04", "--output", str(tmp_path))
    every, impulse, metropolis, untrained = json.loads((tmp_path / "any_corrector.json").read_text()).values()
    assert every["calls_per_ps"] == pytest.approx(2000)
    assert impulse["calls_per_ps"] == untrained["calls_per_ps"] == pytest.approx(500)
    # One call for 64 fs and each further chance.
    assert metropolis["calls_per_ps"] < 25 and metropolis["acceptance"] > 0.6
    # The conserved energy fluctuates by some tenths of kJ/mol, as with the true forces at each step.
    assert every["spread"] < 1 and impulse["spread"] < 1
    assert untrained["spread"] < 4
    # A trained model does better than a force field.
    assert impulse["sd_D"] < 1 < untrained["sd_D"]
