"""QM/MM set-up."""

from .mollification import Mollification, findMollification
from .regions import selectAtoms, selectLigand, selectResidues, selectSideChains, selectWithin
from .restraints import addFlatBottomRestraint
from .site_reporter import SiteReporter
from .system import createQMMMSystem

__all__ = [
    "Mollification",
    "SiteReporter",
    "addFlatBottomRestraint",
    "createQMMMSystem",
    "findMollification",
    "selectAtoms",
    "selectLigand",
    "selectResidues",
    "selectSideChains",
    "selectWithin",
]
