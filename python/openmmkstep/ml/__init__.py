"""openmm-ml: xTB and k-step models as its potentials, and any of its potentials as corrector or model."""

try:
    import openmmml  # noqa: F401
except ImportError as e:
    raise ImportError(
        "openmmkstep.ml needs OpenMM-ML 1.8, but the package openmmml cannot be imported. Install it with "
        "\"pip install 'openmmml>=1.8,<2'\"."
    ) from e

from .system import createKStepSystem

__all__ = ["createKStepSystem"]
