"""docs/ase.md and the ASE examples run as they are printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_python

pytest.importorskip("ase", reason="ASE is not installed; pip install 'openmmkstep[ase]'")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}


def run(command, folder=ROOT) -> str:
    result = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_scripts_of_the_documentation(tmp_path):
    # The later pieces of code go on from the first; the files that they read are at the same place.
    script = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ase.md").read_text(), re.DOTALL))
    folder = tmp_path / "examples" / "alanine_dipeptide"
    folder.mkdir(parents=True)
    for name in ("alanine_droplet.pdb", "model.pt"):
        shutil.copy(ROOT / "examples" / "alanine_dipeptide" / name, folder)
    output = run([sys.executable, "-W", "error::UserWarning", "-c", script], tmp_path)
    assert "100 fs, 51 xTB calls" in output
    assert abs(float(re.search(r"energy changed by (\S+) eV", output)[1])) < 0.01
    assert "KStepStatistics(macro_steps=3" in output
    assert (tmp_path / "droplet.npz").stat().st_size > 10_000 and (tmp_path / "ethanol.traj").stat().st_size > 10_000


def totals(output: str) -> list[float]:
    """The total energies (eV) that an example prints; in 6 fs they ripple by some 0.05 eV."""
    return [float(t) for t in re.findall(r"total\s+(\S+) eV", output)]


def test_water_box():
    energies = totals(run([sys.executable, "examples/qmmm_water_box.py", "--picoseconds", "0.006"]))
    assert len(energies) == 4 and max(energies) - min(energies) < 0.15


@pytest.mark.slow
def test_water_box_sampled():
    output = run(
        [sys.executable, "examples/qmmm_water_box.py", "--scheme", "metropolis", "--edge", "1.9", "--cutoff", "0.8"]
    )
    assert "macro_steps=10" in output and len(totals(output)) == 11


@pytest.mark.parametrize("embedding", ["mechanical", pytest.param("electrostatic", marks=pytest.mark.slow)])
def test_enzyme(embedding):
    output = run([sys.executable, "examples/qmmm_enzyme.py", "--picoseconds", "0.006", "--embedding", embedding])
    assert "9 QM atoms and a link hydrogen" in output and "4 xTB calls" in output
    energies = totals(output)
    assert len(energies) == 4 and max(energies) - min(energies) < 0.15
    bonds = [float(b) for b in re.findall(r"cut bond (\S+) Angstrom", output)]
    assert all(1.4 < b < 1.7 for b in bonds)


HIDDEN = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'ase':
            raise ImportError('ase is hidden')
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    "before, message",
    [
        (HIDDEN, "needs ASE, which cannot be imported (ase is hidden); run 'pip install \"ase>=3.23,<4\"'"),
        ("import ase; ase.__version__ = '3.22.1'", "needs ASE 3.23 or newer, found 3.22.1; run 'pip install"),
    ],
)
def test_ase_that_is_missing_or_too_old(before, message):
    result = run_python(before + "\nimport openmmkstep\nimport openmmkstep.ase")
    assert result.returncode == 1 and message in result.stderr
