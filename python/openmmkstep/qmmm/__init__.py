"""QM/MM set-up."""

from .system import createQMMMSystem

__all__ = ["createQMMMSystem"]
