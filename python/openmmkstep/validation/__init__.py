"""Checks of a set-up before and after a run, and of a model before it is used."""

from .check import checkModel
from .coordinate import CoordinateReport, measureAlongCoordinate, runInWindows
from .drift import DriftPrediction, predictDrift
from .errors import (
    ErrorReport,
    GasFrames,
    labelGasPhase,
    measureBaseline,
    measureFrameErrors,
    measureGasErrors,
    measureRunErrors,
)
from .evaluator import ModelEvaluator
from .frequencies import FrequencyReport, compareFrequencies
from .report import ModelReport
from .runs import ModelRun, runOnModel
from .sampling import Acceptance, SamplingReport, measureSampling, predictAcceptance
from .speed import Costs, SpeedReport, measureCosts, predictSpeed
from .stability import StabilityReport, cutAtHoles, measureStability
from .steps import StepReport, predictSteps
from .subject import CheckSubject, prepareCheck
from .verdict import judge

__all__ = [
    "Acceptance",
    "CheckSubject",
    "CoordinateReport",
    "Costs",
    "DriftPrediction",
    "ErrorReport",
    "FrequencyReport",
    "GasFrames",
    "ModelEvaluator",
    "ModelReport",
    "ModelRun",
    "SamplingReport",
    "SpeedReport",
    "StabilityReport",
    "StepReport",
    "checkModel",
    "compareFrequencies",
    "cutAtHoles",
    "judge",
    "labelGasPhase",
    "measureAlongCoordinate",
    "measureBaseline",
    "measureCosts",
    "measureFrameErrors",
    "measureGasErrors",
    "measureRunErrors",
    "measureSampling",
    "measureStability",
    "predictAcceptance",
    "predictDrift",
    "predictSpeed",
    "predictSteps",
    "prepareCheck",
    "runInWindows",
    "runOnModel",
]
