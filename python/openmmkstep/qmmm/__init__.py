"""QM/MM set-up."""

from .mollification import Mollification, findMollification
from .system import createQMMMSystem

__all__ = ["Mollification", "createQMMMSystem", "findMollification"]
