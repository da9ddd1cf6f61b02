"""QM/MM set-up."""

from .cuts import Cut, cutWarnings, findCuts
from .groups import Group, embeddingGroups
from .mollification import Mollification, findMollification
from .regions import selectAtoms, selectLigand, selectResidues, selectSideChains, selectWithin
from .report import ConvergencePoint, describe, embeddingConvergence
from .restraints import addFlatBottomRestraint
from .setup_file import QMMMSetup, readSetup
from .site_reporter import SiteReporter
from .system import QMMMWarning, createQMMMSystem

__all__ = [
    "ConvergencePoint",
    "Cut",
    "Group",
    "Mollification",
    "QMMMSetup",
    "QMMMWarning",
    "SiteReporter",
    "addFlatBottomRestraint",
    "createQMMMSystem",
    "cutWarnings",
    "describe",
    "embeddingConvergence",
    "embeddingGroups",
    "findCuts",
    "findMollification",
    "readSetup",
    "selectAtoms",
    "selectLigand",
    "selectResidues",
    "selectSideChains",
    "selectWithin",
]
