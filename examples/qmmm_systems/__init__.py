"""Real systems for QM/MM, made from files in the packages openmm and openmmtools."""

from .prepared import PreparedSystem
from .systems import SYSTEMS

__all__ = ["SYSTEMS", "PreparedSystem"]
