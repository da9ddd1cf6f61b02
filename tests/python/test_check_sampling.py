"""Predictions for 'metropolis' and 'reweight' from series of D with known statistics."""

import dataclasses
import math

import numpy as np
import pytest

from openmmkstep.validation import ModelRun, cutAtHoles, measureAlongCoordinate, measureSampling, predictAcceptance
from openmmkstep.validation._statistics import jackknife, moments, root_mean_square

KT = 8.31446261815324e-3 * 300
RHO = 0.8
"""Correlation of neighbours in the series."""


def series(rng, length: int, spread: float) -> np.ndarray:
    """A normal AR(1) process of mean 5 and this standard deviation."""
    x = np.empty(length)
    x[0] = rng.normal()
    noise = rng.normal(size=length) * math.sqrt(1 - RHO**2)
    for i in range(1, length):
        x[i] = RHO * x[i - 1] + noise[i]
    return 5 + spread * x


def model_run(D, step=0.002, interval=0.016) -> ModelRun:
    none = np.zeros(0)
    empty = np.zeros((0, 1, 3))
    return ModelRun(step, interval, len(D) * interval, D, none, empty, none.astype(int), empty, empty, none, none, none)


@pytest.mark.parametrize("lag", [1, 4])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_first_chance_of_a_normal_distribution(lag, spread):
    """Against erfc(s sqrt(1 - r)/2); error bars of 0.002 to 0.01 for 4 x 20,000 values."""
    rng = np.random.default_rng(1)
    found = predictAcceptance([series(rng, 20000, spread) for _ in range(4)], lag, 0.002, 8, chances=1)
    expected = math.erfc(spread / KT * math.sqrt(1 - RHO**lag) / 2)
    assert 0 < found.first.error < 0.02
    assert found.first.value == pytest.approx(expected, abs=4 * found.first.error)
    assert found.any == found.first
    # All follows from the one share: a path is kept for one macro-step of 16 fs, or flipped.
    p = found.first.value
    assert found.flipRate.value == pytest.approx((1 - p) / (p * 0.016))
    assert found.callsPerPs.value == pytest.approx(1 / (p * 0.016))
    assert found.diffusionRatio.value == pytest.approx(1 / (1 + 0.39 * found.flipRate.value))


def test_extra_chances_and_flips():
    """Against the chain itself, with random numbers: start in the weighted ensemble, one u for four tests."""
    spread, chances, trials, time = 3.0, 4, 200000, 64 * 0.002
    rng = np.random.default_rng(2)
    s = spread / KT
    start = rng.normal(size=trials) - s  # exp(-D/kT) moves a normal distribution by s standard deviations
    y, u = start.copy(), rng.uniform(size=trials)
    accepted = np.zeros(trials, dtype=int)
    for test in range(1, chances + 1):
        y = RHO * y + math.sqrt(1 - RHO**2) * rng.normal(size=trials)
        accepted[(accepted == 0) & (u < np.exp(-s * (y - start)))] = test
    kept = accepted.mean() * time
    expected = {
        "first": (accepted == 1).mean(),
        "any": (accepted > 0).mean(),
        "flipRate": (accepted == 0).mean() / kept,
        "callsPerPs": np.where(accepted > 0, accepted, chances).mean() / kept,
    }
    found = predictAcceptance([series(rng, 40000, spread) for _ in range(4)], 1, 0.002, 64, chances=chances)
    for name, value in expected.items():
        estimate = getattr(found, name)
        noise = math.hypot(estimate.error, value / math.sqrt(0.1 * trials))
        assert 0 < noise < 0.05 * value
        assert estimate.value == pytest.approx(value, abs=4 * noise), name
    assert expected["any"] - expected["first"] > 0.1


def test_constant_d_and_failures():
    assert predictAcceptance([np.full(100, -7.0)], 5, 0.002, 8).first == (1.0, 0.0)
    # Every second structure has no energy: a macro-step of one sample is never accepted, of two always.
    D = np.tile([1.0, np.inf], 50)
    assert predictAcceptance([D], 1, 0.002, 8, chances=1).first.value == 0
    assert predictAcceptance([D], 2, 0.002, 8, chances=1).first.value == 1
    with pytest.raises(ValueError, match=r"longer than 4 macro-steps of 3 samples, found lengths of \[12\]"):
        predictAcceptance([np.zeros(12)], 3, 0.002, 8)


def test_both_directions_count():
    """A path that only rises: proposals forward in time go up, those backward go down; by hand."""
    D = np.arange(30) ** 1.5 / 10
    w = np.exp(-D / KT)
    pairs = list(zip(w[:-2], w[2:], strict=True))
    expected = sum(2 * min(a, b) for a, b in pairs) / sum(a + b for a, b in pairs)
    assert predictAcceptance([D], 2, 0.002, 8, chances=1).first.value == pytest.approx(expected)


def test_report():
    """Moments, weights and correlation of a normal AR(1) process; k for which the samples are too coarse are left out."""
    rng = np.random.default_rng(3)
    spread = 1.5
    runs = [model_run(series(rng, 5000, spread)) for _ in range(4)]
    short = [model_run(series(rng, 500, spread), 0.0005, 0.004)]
    report = measureSampling(runs, short, kValues=(8, 12, 16, 32, 64, 128))  # 12 is no multiple of the interval
    for found, expected in ((report.sd, spread), (report.mean, 5.0), (report.skewness, 0.0)):
        assert 0 < found.error < 0.15
        assert found.value == pytest.approx(expected, abs=4 * found.error)
    fraction = math.exp(-((spread / KT) ** 2))
    assert report.effectiveFraction.value == pytest.approx(fraction, abs=4 * report.effectiveFraction.error)
    assert report.converged and report.paretoK < 0.5
    assert report.correlationTime == pytest.approx(0.008 * (1 + RHO) / (1 - RHO), rel=0.2)
    settings = [(a.baseStepSize, a.k) for a in report.acceptance]
    assert settings == [(0.002, k) for k in (8, 16, 32, 64, 128)] + [(0.0005, k) for k in (8, 16, 32, 64, 128)]
    assert report.find(0.002, 64).first == predictAcceptance([r.D for r in runs], 8, 0.002, 64).first
    assert report.find(0.0005, 7) is None
    np.testing.assert_allclose(report.D[1], runs[1].D - report.mean.value)
    with pytest.raises(ValueError, match="at least 25 values of D along the runs on the model, found 10"):
        measureSampling([model_run(np.zeros(10))])


def test_along_a_coordinate():
    """D = slope * coordinate + noise in bins: means, spreads and the shares of accepted macro-steps, from formulas."""
    rng = np.random.default_rng(4)
    values = [rng.uniform(0, 4, size=20000) for _ in range(3)]
    D = [np.where(v < 2, 0.0, 5.0) + rng.normal(size=len(v)) * np.where(v < 2, 0.1, 0.4) for v in values]
    report = measureAlongCoordinate(values, D, bins=[0, 2, 4, 5], lag=1)
    assert report.frames.tolist()[2] == 0 and report.frames.sum() == 60000
    for found, expected in zip(report.sd, (0.1, 0.4), strict=False):
        assert found.value == pytest.approx(expected, abs=5 * found.error)
        assert found.error < 0.01
    assert [m.value for m in report.mean[:2]] == pytest.approx([0, 5], abs=0.02)
    assert np.isnan(report.acceptance[2].value) and np.isnan(report.sd[2].value)
    # From the lower level half of the proposals go up, by 5 kJ/mol, from the upper one down. The noise hardly matters.
    assert report.acceptance[0].value == pytest.approx(0.5 + 0.5 * math.exp(-5 / KT), abs=0.03)
    assert report.acceptance[1].value == pytest.approx(0.95, abs=0.05)
    with pytest.raises(ValueError, match="one value of the coordinate for each value of D"):
        measureAlongCoordinate([np.zeros(3)], [np.zeros(4)])


def test_error_bars():
    """The jackknife of a mean is the textbook error; that of an rms covers the truth."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=40)
    value, error = jackknife(np.column_stack([x, np.ones(40)]), lambda s: s[0] / s[1])
    assert value == pytest.approx(x.mean()) and error == pytest.approx(x.std(ddof=1) / math.sqrt(40))
    inside = 0
    for _ in range(200):
        draws = [rng.normal(scale=2.0, size=100) for _ in range(4)]
        found = root_mean_square([d**2 for d in draws], [np.ones(100)] * 4)
        inside += abs(found.value - 2.0) < 2 * found.error
    assert 0.85 < inside / 200 <= 1
    assert np.isnan(root_mean_square([], []).value)
    mean, sd, skewness = moments([np.array([1.0, 2.0, np.inf]), np.array([6.0])])
    assert (mean.value, sd.value) == pytest.approx((3.0, np.std([1, 2, 6])))
    assert skewness.value == pytest.approx(((np.array([1, 2, 6]) - 3.0) ** 3).mean() / np.std([1, 2, 6]) ** 3)


def test_a_run_ends_where_it_falls_into_a_hole():
    """Three quarters of a run beyond a hole: acceptance, D and forces are of what comes before it."""
    rng = np.random.default_rng(3)
    D = [series(rng, 4000, 2.0) - 1e4 for _ in range(3)]
    D[1][1000:] -= 300.0
    D[2][2000] = np.inf  # no SCF: a structure that is rejected, not a hole
    runs = [model_run(d) for d in D]
    frames = np.arange(0, 4000, 8)
    runs[1] = dataclasses.replace(
        runs[1],
        positions=np.ones((4000, 1, 3)),
        modelEnergies=np.ones(4000),
        forceSamples=frames,
        correctorForces=np.ones((500, 1, 3)),
        nearCounts=np.ones(500),
        last=np.zeros((1, 3)),
    )
    cut = cutAtHoles(runs)
    assert [len(r.D) for r in cut] == [4000, 1000, 4000]
    assert cut[0] is runs[0] and cut[2] is runs[2]
    assert "hole" in cut[1].fault and "-30" in cut[1].fault
    assert cut[1].picoseconds == pytest.approx(16.0)
    assert cut[1].last is None
    assert len(cut[1].positions) == len(cut[1].modelEnergies) == 1000
    assert len(cut[1].correctorForces) == len(cut[1].nearCounts) == 125 and cut[1].forceSamples[-1] == 992
    whole = measureSampling([model_run(d) for d in (D[0], D[1][:1000], D[2])])
    found = measureSampling(cut)
    assert found.sd.value == pytest.approx(whole.sd.value) and found.sd.value < 2.2
    assert measureSampling(runs).sd.value > 100
    assert found.find(0.002, 64).first.value > 0.5


def test_a_poor_model_has_no_holes():
    """D with a standard deviation of 12 kT is what it is."""
    rng = np.random.default_rng(4)
    runs = [model_run(series(rng, 4000, 30.0)) for _ in range(2)]
    assert cutAtHoles(runs) == runs
    assert cutAtHoles([model_run(np.full(10, np.inf))])[0].fault == ""
