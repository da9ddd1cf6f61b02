"""The ASE route: XtbForce and k-step models as ASE calculators, link atoms, k-step dynamics on ASE's Atoms.

Units and names here are ASE's: eV, Angstrom, snake_case. See docs/ase.md.
"""

try:
    import ase
except ImportError as e:
    raise ImportError(
        f"openmmkstep.ase needs ASE, which cannot be imported ({e}); run 'pip install \"ase>=3.23,<4\"'."
    ) from e

if tuple(int(part) for part in ase.__version__.split(".")[:2]) < (3, 23):
    raise ImportError(
        f"openmmkstep.ase needs ASE 3.23 or newer, found {ase.__version__}; run 'pip install -U \"ase>=3.23,<4\"'."
    )

from .calculators import KStepModelCalculator, PointCharges, XtbForceCalculator
from .dynamics import KStep, KStepStatistics
from .hamiltonian import TrueHamiltonian
from .jump_model import JumpModel
from .link_atoms import LinkAtoms
from .openmm_calculator import OpenMMCalculator, create_atoms
from .splitting import split_qmmm

__all__ = [
    "JumpModel",
    "KStep",
    "KStepModelCalculator",
    "KStepStatistics",
    "LinkAtoms",
    "OpenMMCalculator",
    "PointCharges",
    "TrueHamiltonian",
    "XtbForceCalculator",
    "create_atoms",
    "split_qmmm",
]
