"""Training of models: from labelled frames to a model file with its contract, and to other forms of it."""

from .export import exportModel
from .jump import JumpResult, trainJump
from .result import TrainingResult
from .train import trainModel

__all__ = ["JumpResult", "TrainingResult", "exportModel", "trainJump", "trainModel"]
