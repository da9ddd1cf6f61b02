"""The free energy along a collective variable, from samples of distributions that are known."""

import numpy as np
import pytest

from openmmkstep.analysis import umbrellaProfile
from openmmkstep.data import CollectiveVariable, UmbrellaWindows

KT = 8.31446e-3 * 300
DISTANCE, TORSION = CollectiveVariable("distance", (0, 1)), CollectiveVariable("torsion", (0, 1, 2, 3))


def draw(energy, grid, windows, count, rng):
    """Independent samples of exp(-(energy + bias)/kT) in each window, from the distribution function on a grid."""
    series = []
    for centre in windows.centres:
        delta = grid - centre
        if windows.cv.isPeriodic:
            delta = np.arctan2(np.sin(delta), np.cos(delta))
        p = np.exp(-(energy + 0.5 * windows.spring * delta**2) / KT)
        series.append(np.interp(rng.random(count), np.cumsum(p) / p.sum(), grid))
    return series


def exact(energy, grid, edges):
    place = np.digitize(grid, edges) - 1
    weight = np.bincount(place, np.exp(-energy / KT), minlength=len(edges) - 1)
    return -KT * np.log(weight / np.diff(edges))


@pytest.mark.parametrize("kind", ["double well", "torsion"])
def test_known_profiles(kind):
    if kind == "double well":  # a barrier of 20 kJ/mol, 8 kT
        grid = np.linspace(-0.15, 0.15, 20_001)
        energy = 20 * ((grid / 0.07) ** 2 - 1) ** 2
        windows = UmbrellaWindows(DISTANCE, tuple(np.linspace(-0.08, 0.08, 9)), 20000.0)
        edges = np.linspace(-0.09, 0.09, 19)
    else:  # the windows at the ends are neighbours
        grid = np.linspace(-np.pi, np.pi, 20_001)[:-1]
        energy = 10 * np.cos(grid) + 5 * np.cos(2 * grid + 1)
        windows = UmbrellaWindows(TORSION, tuple(np.linspace(-np.pi, np.pi, 13)[:-1]), 30.0)
        edges = np.linspace(-np.pi, np.pi, 19)
    rng, scores = np.random.default_rng(1), []
    for _ in range(10):
        profile = umbrellaProfile(draw(energy, grid, windows, 400, rng), windows, edges)
        inside = (grid >= edges[0]) & (grid < edges[-1])
        truth = exact(energy[inside], grid[inside], edges)
        lowest = profile.energies.argmin()
        assert profile.energies[lowest] == profile.errors[lowest] == 0
        others = np.arange(len(truth)) != lowest
        error = profile.energies - (truth - truth[lowest])
        scores.append((error / np.where(others, profile.errors, 1))[others])
        assert np.abs(error).max() < 2.0  # of errors around 0.3
    # Errors from ten blocks are known to 25 %; ten repetitions of some 18 correlated bins.
    assert 0.7 < np.sqrt(np.mean(np.square(scores))) < 1.4
    if kind == "double well":
        height, uncertainty = profile.barrier(-0.03, 0.03)
        assert height == pytest.approx(20, abs=4 * uncertainty + 0.5) and 0.05 < uncertainty < 1


def test_unreasonable_windows():
    windows = UmbrellaWindows(DISTANCE, (0.1, 0.9), 1e5)
    with pytest.raises(ValueError, match="for each of 2 windows, found the lengths"):
        umbrellaProfile([np.zeros(20)], windows)
    rng = np.random.default_rng(1)
    apart = [rng.normal(c, 0.005, 100) for c in windows.centres]
    with pytest.raises(ValueError, match="overlap too little"):
        umbrellaProfile(apart, windows)
    near = UmbrellaWindows(DISTANCE, (0.1, 0.11), 1e5)
    profile = umbrellaProfile([rng.normal(c, 0.005, 100) for c in near.centres], near)
    with pytest.raises(ValueError, match="between 5 and 6 has samples"):
        profile.barrier(5, 6)
