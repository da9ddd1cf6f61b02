"""The region of validity found from structures."""

import numpy as np
import pytest

import openmmkstep


def test_ranges_cover_the_frames_and_the_margin():
    x = np.zeros((3, 3, 3))
    x[:, 1, 0] = [0.10, 0.12, 0.11]
    x[:, 2, 1] = [0.30, 0.30, 0.25]
    ranges = {(a, b): (low, high) for a, b, low, high in openmmkstep.findDistanceRanges(x, margin=0.5)}
    assert ranges[0, 1] == pytest.approx((0.09, 0.13), abs=1e-5)
    assert ranges[0, 2] == pytest.approx((0.225, 0.325), abs=1e-5)
    far = np.linalg.norm(x[:, 1] - x[:, 2], axis=1)
    assert ranges[1, 2] == pytest.approx(
        (1.5 * far.min() - 0.5 * far.max(), 1.5 * far.max() - 0.5 * far.min()), abs=1e-5
    )
    assert len(ranges) == 3


def test_equivalent_atoms_share_a_range():
    x = np.random.default_rng(1).normal(size=(2500, 4, 3))
    x[:, 3] *= 3
    ranges = {
        (a, b): (low, high) for a, b, low, high in openmmkstep.findDistanceRanges(x, [[0, 2, 3, 1], [0, 3, 1, 2]], 0)
    }
    assert ranges[0, 1] == ranges[0, 2] == ranges[0, 3]
    assert ranges[1, 2] == ranges[1, 3] == ranges[2, 3]
    r = np.linalg.norm(x[:, [1, 2, 3]] - x[:, :1], axis=-1)
    assert ranges[0, 1] == pytest.approx((r.min(), r.max()), abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (1, 4, 3), (5, 4, 2)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match="Expected positions of the shape"):
        openmmkstep.findDistanceRanges(np.zeros(shape))
