"""docs/engines.md: its script runs as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openmmkstep import _engines

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(None in map(_engines.find_engine, _engines.ENGINES), reason="needs the packages xtb and tblite")
def test_script():
    script = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engines.md").read_text(), re.DOTALL))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^libxtb 6\.\S+ \S+libxtb\S+$", result.stdout, re.MULTILINE)
    assert re.search(r"^QM region: 22 of \d+ particles, GFN2-xTB by tblite 0\.8", result.stdout, re.MULTILINE)
    assert "chosen: auto found: libxtb" in result.stdout
    energies = [float(e) for e in re.findall(r"xTB energy (\S+) kJ/mol", result.stdout)]
    # The promise of the page, at the default accuracy.
    assert len(energies) == 2 and abs(energies[0] - energies[1]) < 1e-3
