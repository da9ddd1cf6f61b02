"""Checks of a set-up before and after a run."""

from .drift import DriftPrediction, predictDrift

__all__ = ["DriftPrediction", "predictDrift"]
