"""What a run means: temperatures by region, weighted averages, drifts and errors of correlated series."""

from .reweighting import ReweightingWeights, UnconvergedError
from .series import drift, heating_rate, mean_and_error, statistical_inefficiency
from .temperature import byElement, countFreedom, degreesOfFreedom, qmRegions, temperatures
from .umbrella import FreeEnergyProfile, umbrellaProfile

__all__ = [
    "FreeEnergyProfile",
    "ReweightingWeights",
    "UnconvergedError",
    "byElement",
    "countFreedom",
    "degreesOfFreedom",
    "drift",
    "heating_rate",
    "mean_and_error",
    "qmRegions",
    "statistical_inefficiency",
    "temperatures",
    "umbrellaProfile",
]
