"""openmmkstep: QM/MM molecular dynamics in OpenMM that calls the quantum method once every k steps."""

from ._load import check_installation, load_bindings

load_bindings()

from .contract import ModelContract, readContract, saveModel  # noqa: E402
from .forces import KStepModelForce, QMRegionForce, XtbForce, cast  # noqa: E402
from .frame_keeper import FrameKeeper  # noqa: E402
from .handedness import findHandedness, findSides  # noqa: E402
from .integrator import KStepIntegrator  # noqa: E402
from .matching import matchModel  # noqa: E402
from .qmmm import createQMMMSystem, findMollification  # noqa: E402
from .reporter import KStepReporter  # noqa: E402
from .restart import cutTable, cutTrajectory  # noqa: E402
from .tuning import TuningReport, tuneMetropolis  # noqa: E402
from .validity import findDistanceRanges  # noqa: E402

__version__ = load_bindings().version

__all__ = [
    "FrameKeeper",
    "KStepIntegrator",
    "KStepModelForce",
    "KStepReporter",
    "ModelContract",
    "QMRegionForce",
    "TuningReport",
    "XtbForce",
    "cast",
    "check_installation",
    "createQMMMSystem",
    "cutTable",
    "cutTrajectory",
    "findDistanceRanges",
    "findHandedness",
    "findMollification",
    "findSides",
    "matchModel",
    "readContract",
    "saveModel",
    "tuneMetropolis",
]
