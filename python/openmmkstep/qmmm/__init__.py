"""QM/MM set-up."""

from .cuts import Cut, cutWarnings, findCuts
from .groups import Group, embeddingGroups
from .mollification import Mollification, findMollification
from .system import QMMMWarning, createQMMMSystem

__all__ = [
    "Cut",
    "Group",
    "Mollification",
    "QMMMWarning",
    "createQMMMSystem",
    "cutWarnings",
    "embeddingGroups",
    "findCuts",
    "findMollification",
]
