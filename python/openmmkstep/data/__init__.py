"""The data that a model is made from: frames of the embedded system, labelled by xTB."""

from .frames import Frames
from .region import Region, findBonds

__all__ = ["Frames", "Region", "findBonds"]
