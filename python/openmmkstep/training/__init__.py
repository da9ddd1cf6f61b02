"""Training of potentials: from labelled frames to a model file with its contract, and to other forms of it."""

from .export import exportModel
from .result import TrainingResult
from .train import trainModel

__all__ = ["TrainingResult", "exportModel", "trainModel"]
