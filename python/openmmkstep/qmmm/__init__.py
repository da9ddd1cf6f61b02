"""QM/MM set-up."""

from .mollification import findMollification
from .system import createQMMMSystem

__all__ = ["createQMMMSystem", "findMollification"]
