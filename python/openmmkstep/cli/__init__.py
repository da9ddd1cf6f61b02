"""The command kstep: a thin layer over Python functions."""

from .main import main

__all__ = ["main"]
