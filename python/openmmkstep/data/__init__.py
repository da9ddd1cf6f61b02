"""The data that a model is made from: frames of the embedded system, labelled by xTB."""

from .dataset import Dataset
from .frames import Frames
from .provenance import findProvenance
from .region import Region, findBonds

__all__ = ["Dataset", "Frames", "Region", "findBonds", "findProvenance"]
