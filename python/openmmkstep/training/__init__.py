"""Training of models: from labelled frames to a model file with its contract, and to other forms of it."""

from .._load import load_torch

load_torch()  # its message says what to do where torch is missing

from .export import exportModel  # noqa: E402
from .jump import JumpResult, trainJump  # noqa: E402
from .result import TrainingResult  # noqa: E402
from .train import trainModel  # noqa: E402

__all__ = ["JumpResult", "TrainingResult", "exportModel", "trainJump", "trainModel"]
