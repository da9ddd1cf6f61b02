"""Set-up file for the command kstep: decane alone, by GFN2-xTB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from structures import gas_phase

topology, positions, create = gas_phase("decane")
