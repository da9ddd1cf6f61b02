"""Averages over the true Hamiltonian from a run on the model (scheme 'reweight'), and when not to believe them."""

from __future__ import annotations

import numpy as np
from openmm import unit

from .._units import ENERGY, GAS_CONSTANT, KELVIN, strip
from .series import statistical_inefficiency

MAX_PARETO_K = 0.7
MIN_EFFECTIVE_SAMPLES = 50.0


class UnconvergedError(ValueError):
    """The weights are too uneven for an average to mean anything."""


class ReweightingWeights:
    """The weights exp(-D/kT) of frames that were sampled on the model's Hamiltonian.

    A mean over few large weights looks precise and is wrong. So the weights are judged before they are used, by the
    effective sample size and by the Pareto tail index k-hat of the largest weights (Vehtari, Simpson, Gelman, Yao,
    Gabry, arXiv:1507.02646): above 0.7 the variance of a weighted mean is dominated by what was not sampled.

    Parameters
    ----------
    D : array of shape (frames,) or Quantity
        U_corrector - U_model of each frame (kJ/mol), such as KStepReporter's column 'D (kJ/mole)'; infinity, which is
        the weight 0, where the corrector found no energy
    temperature : float or Quantity
        K

    Raises
    ------
    ValueError
        If D is not a list of numbers, of which one at least is finite, or the temperature is not positive.
    """

    def __init__(self, D, temperature):
        D = np.asarray(D.value_in_unit(ENERGY) if unit.is_quantity(D) else D, dtype=float)
        if D.ndim != 1 or not np.isfinite(D).any() or np.isnan(D).any() or (D == -np.inf).any():
            raise ValueError(
                "Expected D as a list of finite numbers (or infinity for the weight 0), one for each frame; found shape "
                f"{D.shape} with {np.isfinite(D).sum()} finite numbers."
            )
        temperature = strip(temperature, KELVIN)
        if not temperature > 0:
            raise ValueError(f"Expected a positive temperature, found {temperature} K.")
        self._logWeights = -D / (GAS_CONSTANT * temperature)
        shifted = self._logWeights - self._logWeights.max()
        self._logWeights = shifted - np.log(np.exp(shifted).sum())

    @property
    def weights(self) -> np.ndarray:
        """The weight of each frame; their sum is 1."""
        return np.exp(self._logWeights)

    def effectiveSampleSize(self) -> float:
        """Get Kish's effective sample size, (sum w)^2 / sum w^2. It does not count correlation in time."""
        return float(1 / (self.weights**2).sum())

    def effectiveFraction(self) -> float:
        """Get the effective sample size divided by the number of frames."""
        return self.effectiveSampleSize() / len(self._logWeights)

    def paretoK(self) -> float:
        """Get k-hat, the shape of the generalized Pareto distribution fitted to the largest weights.

        Moments of the weights of order 1/k and above do not exist. The tail is the largest min(frames/5, 3
        sqrt(frames)) weights. Minus infinity where all are equal, nan for fewer than 25 frames.
        """
        n = len(self._logWeights)
        tail = int(min(0.2 * n, 3 * np.sqrt(n)))
        if tail < 5:
            return float("nan")
        w = np.exp(np.sort(self._logWeights)[-tail - 1 :] - self._logWeights.max())
        excess = w[1:] - w[0]
        excess = excess[excess > 1e-12]
        return _pareto_shape(excess) if len(excess) >= 5 else float("-inf")

    def isConverged(self) -> bool:
        """Get whether k-hat is at most 0.7 and the effective sample size at least 50."""
        return self.paretoK() <= MAX_PARETO_K and self.effectiveSampleSize() >= MIN_EFFECTIVE_SAMPLES

    def mean(self, observable, allowUnconverged: bool = False) -> tuple:
        """Compute the mean of an observable over the true Hamiltonian, and its standard error.

        Parameters
        ----------
        observable : array of shape (frames,) or (frames, ...) or Quantity
            its value in each frame, frames in order of time (the error counts their correlation)
        allowUnconverged : bool
            compute the mean although isConverged() is False

        Returns
        -------
        tuple
            mean and standard error; floats for one value per frame, else arrays, Quantities if the observable is one

        Raises
        ------
        UnconvergedError
            If isConverged() is False.
        ValueError
            If the number of frames differs.
        """
        if not (allowUnconverged or self.isConverged()):
            raise UnconvergedError(
                f"The weights have not converged: Pareto k-hat is {self.paretoK():.2f} (at most {MAX_PARETO_K} is "
                f"needed) and the effective sample size {self.effectiveSampleSize():.1f} of {len(self._logWeights)} "
                f"frames (at least {MIN_EFFECTIVE_SAMPLES:.0f}). Sample longer, train a better model, or use the scheme "
                "'metropolis', which needs no weights; allowUnconverged=True computes the mean all the same."
            )
        if unit.is_quantity(observable):
            mean, error = self.mean(observable.value_in_unit(observable.unit), True)
            return mean * observable.unit, error * observable.unit
        values = np.asarray(observable, dtype=float)
        n = len(self._logWeights)
        if len(values) != n:
            raise ValueError(f"Expected a value for each of the {n} frames, found {len(values)}.")
        mean = np.tensordot(self.weights, values, axes=1)
        # What each frame contributes to the error of the ratio sum(w a)/sum(w).
        influence = (n * self.weights[:, None] * (values - mean).reshape(n, -1)).T
        errors = [x.std() * np.sqrt(statistical_inefficiency(x) / n) for x in influence]
        return (float(mean), float(errors[0])) if values.ndim == 1 else (mean, np.reshape(errors, mean.shape))


def _pareto_shape(x: np.ndarray) -> float:
    """Zhang and Stephens, Technometrics 51, 316 (2009), for sorted excesses x over the threshold.

    The shape is drawn to 0.5 with the weight of ten samples, as in arXiv:1507.02646, appendix C.
    """
    n = len(x)
    m = 30 + int(np.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    # The profile likelihood, with its limit at theta = 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.abs(theta) < 1e-12, 1 / x.mean(), -theta / k)
    likelihood = n * (np.log(ratio) - k - 1)
    weights = np.exp(likelihood - likelihood.max())
    shape = np.log1p(-(theta * weights).sum() / weights.sum() * x).mean()
    return float((n * shape + 10 * 0.5) / (n + 10))
