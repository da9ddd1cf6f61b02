"""findStarts(): where the walkers of earlier samplings ended."""

import shutil

import numpy as np
import pytest
from test_sampling import sample

from openmmkstep.data import Dataset
from openmmkstep.data.starts import findStarts


@pytest.fixture(scope="module")
def sampled(droplet, tmp_path_factory) -> Dataset:
    """Two walkers of 24 frames, of which every tenth is kept as a whole structure."""
    return sample(droplet, tmp_path_factory.mktemp("starts") / "data.kstep", 0.48, walkers=2, sweep=False)


def states(dataset) -> list[dict]:
    result = []
    for path in sorted((dataset.folder / "walkers").glob("*.npz")):
        with np.load(path) as file:
            result.append(dict(file))
    return result


def particles(droplet) -> int:
    return droplet.system.getNumParticles()


def test_ends_of_all_walkers(droplet, sampled):
    starts = findStarts([sampled], particles(droplet), 1)
    expected = [state["good"][-1] for state in states(sampled)]
    assert starts.shape == (2, particles(droplet), 3)
    assert {s.tobytes() for s in starts} == {e.tobytes() for e in expected}
    # They are frames of these walkers, the last one of each that was kept.
    qm = list(sampled.region.particles)
    for number in range(2):
        frames = sampled.read([number])
        embedded = frames.positions[frames.embedded]
        shift = expected[number][qm][0] - embedded[19][0]
        np.testing.assert_allclose(expected[number][qm], embedded[19] + shift, atol=1e-6)
    orders = {tuple(findStarts([sampled], particles(droplet), seed)[:, 0, 0]) for seed in range(8)}
    assert len(orders) == 2
    np.testing.assert_array_equal(findStarts([sampled.folder], particles(droplet), 1), starts)


def test_the_last_sampling_counts(droplet, sampled, tmp_path):
    """Datasets without walkers, and walkers of another System, are passed over."""
    without = Dataset.create(tmp_path / "kept.kstep", sampled.region)
    found = findStarts([sampled, without], particles(droplet), 1)
    np.testing.assert_array_equal(found, findStarts([sampled], particles(droplet), 1))
    later = sample(droplet, tmp_path / "later.kstep", 0.2, walkers=1, sweep=False)
    assert len(findStarts([sampled, later], particles(droplet), 1)) == 1
    assert findStarts([without], particles(droplet), 1) is None
    assert findStarts([sampled], particles(droplet) + 3, 1) is None
    assert findStarts([], particles(droplet), 1) is None


def test_broken_bonds_and_damaged_states(droplet, sampled, tmp_path):
    shutil.copytree(sampled.folder, tmp_path / "copy.kstep")
    copy = Dataset(tmp_path / "copy.kstep")
    paths = sorted((copy.folder / "walkers").glob("*.npz"))
    state = states(copy)[0]
    hydrogen = sampled.region.particles[1]
    good = state["good"].copy()
    good[-1][hydrogen] += 0.2
    np.savez(paths[0], **{**state, "good": good})
    starts = findStarts([copy], particles(droplet), 1)
    assert len(starts) == 2 and any(np.array_equal(s, good[-2]) for s in starts)
    good[:, hydrogen] += 0.2
    np.savez(paths[0], **{**state, "good": good})
    paths[1].write_bytes(b"not a state")
    assert findStarts([copy], particles(droplet), 1) is None
