"""The free energy along a collective variable from umbrella sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from openmm import unit

from .._units import GAS_CONSTANT, KELVIN, strip

if TYPE_CHECKING:
    from ..data import UmbrellaWindows

_TOLERANCE = 1e-7  # kT
_MAX_ITERATIONS = 20_000
_LEAST_OVERLAP = 1e-5  # gap of the overlap matrix; a chain of 20 windows two standard deviations apart has some 0.01


@dataclass
class FreeEnergyProfile:
    """The free energy along a collective variable, zero in its lowest bin.

    Attributes
    ----------
    values : array of shape (bins,)
        centres of the bins (nm or rad)
    energies, errors : arrays of shape (bins,)
        free energy and its standard error (kJ/mol); nan in bins without samples. The errors are of the difference from
        the lowest bin, whose own is zero
    samples : array of int of shape (bins,)
    """

    values: np.ndarray
    energies: np.ndarray
    errors: np.ndarray
    samples: np.ndarray

    def barrier(self, low: float, high: float) -> tuple[float, float]:
        """The highest free energy between two values of the variable above the lowest of all, and its error (kJ/mol).

        Raises
        ------
        ValueError
            If no bin between them has samples.
        """
        inside = np.flatnonzero((self.values >= low) & (self.values <= high) & np.isfinite(self.energies))
        if not len(inside):
            raise ValueError(f"No bin of the profile between {low} and {high} has samples.")
        top = inside[self.energies[inside].argmax()]
        return float(self.energies[top]), float(self.errors[top])


def umbrellaProfile(
    samples: Sequence[np.ndarray], windows: UmbrellaWindows, bins=20, temperature=300 * unit.kelvin, blocks: int = 10
) -> FreeEnergyProfile:
    """The free energy along the variable of umbrella windows, by the multistate Bennett acceptance ratio.

    Samples of all windows are weighted by 1 / sum_k N_k exp(f_k - beta U_k(x)), with the free energies f_k of the windows
    from self-consistent iteration (Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)): WHAM without the error that
    the width of its bins makes. The errors are those of a jackknife over blocks of each window's series.

    Parameters
    ----------
    samples : sequence of arrays of shape (samples,)
        the variable (nm or rad) along the run in each window, in the order of ``windows.centres``, equilibrated
    windows : UmbrellaWindows
    bins : int or array of shape (bins + 1,)
        their number between the outermost samples, or their edges
    temperature : float or Quantity
        K
    blocks : int
        each should be longer than the correlation time of the series

    Raises
    ------
    ValueError
        If there is not one series of at least ``blocks`` samples for each window, or neighbours do not overlap enough for
        the iteration to converge.
    """
    series = [np.asarray(s, dtype=float) for s in samples]
    if len(series) != len(windows.centres) or blocks < 2 or min(map(len, series)) < blocks:
        raise ValueError(
            f"Expected one series of at least {max(2, blocks)} samples for each of {len(windows.centres)} windows, found the "
            f"lengths {[len(s) for s in series]}."
        )
    kt = GAS_CONSTANT * strip(temperature, KELVIN)
    edges = np.histogram_bin_edges(np.concatenate(series), bins)
    offsets, whole = _solve(series, windows, kt, edges, np.zeros(len(series)))
    lowest = np.nanargmin(whole)
    parts = [np.array_split(s, blocks) for s in series]
    without = []
    for b in range(blocks):
        rest = [np.concatenate([p for i, p in enumerate(own) if i != b]) for own in parts]
        profile = _solve(rest, windows, kt, edges, offsets)[1]
        without.append(profile - profile[lowest])
    spread = np.array(without) - np.mean(without, axis=0)
    errors = np.sqrt((blocks - 1) / blocks * (spread**2).sum(axis=0))
    counts = np.histogram(np.concatenate(series), edges)[0]
    return FreeEnergyProfile(0.5 * (edges[1:] + edges[:-1]), whole - whole[lowest], errors, counts)


def _solve(series, windows: UmbrellaWindows, kt: float, edges, offsets) -> tuple[np.ndarray, np.ndarray]:
    """The free energies of the windows (kT), from a guess, and the profile (kJ/mol)."""
    x, numbers = np.concatenate(series), np.array([len(s) for s in series])
    delta = x - np.array(windows.centres)[:, None]
    if windows.cv.isPeriodic:
        delta -= 2 * np.pi * np.round(delta / (2 * np.pi))
    boltzmann = np.exp(-0.5 * windows.spring * delta**2 / kt)
    for _ in range(_MAX_ITERATIONS):
        weights = 1 / ((numbers * np.exp(offsets)) @ boltzmann)
        new = -np.log(boltzmann @ weights)
        new -= new[0]
        change = np.abs(new - offsets).max()
        offsets = new
        if change < _TOLERANCE:
            break
    shares = np.exp(offsets)[:, None] * boltzmann * weights
    modes = np.sort(np.linalg.eigvals((shares @ shares.T) * numbers).real)
    if change >= _TOLERANCE or (len(modes) > 1 and 1 - modes[-2] < _LEAST_OVERLAP):
        raise ValueError(
            "The free energies of the umbrella windows do not converge: neighbours overlap too little. Put windows between "
            "them, or use a weaker spring."
        )
    density = np.histogram(x, edges, weights=weights)[0] / np.diff(edges)
    with np.errstate(divide="ignore"):
        return offsets, np.where(density > 0, -kt * np.log(density), np.nan)
