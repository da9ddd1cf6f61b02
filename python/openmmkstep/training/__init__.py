"""Models: their files in other forms."""

from .export import exportModel

__all__ = ["exportModel"]
