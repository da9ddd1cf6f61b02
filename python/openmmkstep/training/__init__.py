"""Training of potentials: from labelled frames to a model file with its contract."""

from .result import TrainingResult
from .train import trainModel

__all__ = ["TrainingResult", "trainModel"]
