"""The ASE route: XtbForce and k-step models as ASE calculators, link atoms, k-step dynamics on ASE's Atoms.

Units and names here are ASE's: eV, Angstrom, snake_case. See docs/ase.md.
"""

try:
    import ase  # noqa: F401
except ImportError as e:
    raise ImportError(
        f"openmmkstep.ase needs ASE, which cannot be imported ({e}); run 'pip install openmmkstep[ase]' or 'pip install ase'."
    ) from e

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
