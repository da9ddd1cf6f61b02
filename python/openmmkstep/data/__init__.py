"""The data that a model is made from: frames of the embedded system, labelled by xTB."""

from ..covalent import findBonds
from .bias import CollectiveVariable, Metadynamics, UmbrellaWindows
from .bias_file import readBias
from .damping import findDampingLengths
from .dataset import Dataset
from .frames import Frames
from .merged import MergedDataset
from .provenance import findProvenance
from .region import Region
from .sampling import sampleFrames
from .torsions import findRotatableTorsions

__all__ = [
    "CollectiveVariable",
    "Dataset",
    "Frames",
    "MergedDataset",
    "Metadynamics",
    "Region",
    "UmbrellaWindows",
    "findBonds",
    "findDampingLengths",
    "findProvenance",
    "findRotatableTorsions",
    "readBias",
    "sampleFrames",
]
