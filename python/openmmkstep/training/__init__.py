"""Training of models: from labelled frames to a model file with its contract."""

from .jump import JumpResult, trainJump
from .result import TrainingResult
from .train import trainModel

__all__ = ["JumpResult", "TrainingResult", "trainJump", "trainModel"]
