"""k-step models through openmm-torch: the model of a KStepModelForce as a TorchForce."""

from ._force import addTorchForce, createTorchForce, replaceModelForce
from ._probe import OpenMMTorchProbe, probeOpenMMTorch

__all__ = ["OpenMMTorchProbe", "addTorchForce", "createTorchForce", "probeOpenMMTorch", "replaceModelForce"]
