"""The potential: gradients, symmetries, and the same energy in both forms."""

import itertools

import numpy as np
import pytest
import torch
from training_molecules import MOLECULES, spread

from openmmkstep.data import Frames, graph
from openmmkstep.training.fast import fast_model
from openmmkstep.training.fit import fit_quadratic
from openmmkstep.training.layout import WIDTH, Layout
from openmmkstep.training.model import BatchModel, Descriptors, predict
from openmmkstep.training.repulsion import Repulsion
from openmmkstep.training.samples import Samples

OFFSET = -321.5


def make(name, embedded, dtype=torch.float64, frames=6, seed=1):
    """A model with random parameters, positions, and phi of about a tenth of a volt up and down, not neutral."""
    species, bonds, charge = MOLECULES[name]
    n = len(species)
    layout = Layout(species, bonds, embedded)
    descriptors = Descriptors(layout, dtype)
    model = BatchModel(layout, (12, 8), charge, seed).to(dtype)
    rng = np.random.default_rng(seed)
    x = spread(n, seed) + 0.005 * rng.normal(size=(frames, n, 3))
    phi = torch.from_numpy(20 + 30 * rng.normal(size=(frames, n)))
    descriptors.fit_scale(descriptors.centred(x), phi)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.matrix.copy_(0.3 * torch.randn(model.matrix.shape, generator=generator))
        model.linear.copy_(torch.randn(model.linear.shape, generator=generator))
    return model, descriptors, torch.from_numpy(x), phi


def call(module, x, phi):
    """Energy, forces and charges of a scripted model, with or without phi."""
    found = module(x, phi) if len(module.forward.schema.arguments) == 3 else module(x) + (None,)
    return found


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("name", MOLECULES)
def test_gradients(name, embedded):
    model, descriptors, x, phi = make(name, embedded)
    module = fast_model(model, descriptors, OFFSET)
    x, phi = x[0], phi[0]
    energy, forces, charges = call(module, x, phi)
    h = 1e-6
    for a in range(0, len(x), max(1, len(x) // 6)):
        for k in range(3):
            ends = []
            for step in (h, -h):
                moved = x.clone()
                moved[a, k] += step
                ends.append(float(call(module, moved, phi)[0]))
            assert float(forces[a, k]) == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=2e-5, abs=2e-5)
    scale = float(forces.abs().max())
    assert scale > 1e-3
    assert float(forces.sum(0).abs().max()) < 1e-10 * scale
    if embedded:
        for a in range(0, len(x), max(1, len(x) // 6)):
            ends = []
            for step in (1e-3, -1e-3):
                moved = phi.clone()
                moved[a] += step
                ends.append(float(call(module, x, moved)[0]))
            assert float(charges[a]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-6, abs=1e-8)
        assert float(charges.sum()) == pytest.approx(MOLECULES[name][2], abs=1e-10)
        assert float(charges.std()) > 1e-3


@pytest.mark.parametrize("name", ["water", "toluene", "chlorodecane"])
def test_both_forms_agree(name):
    for embedded in (True, False):
        model, descriptors, x, phi = make(name, embedded)
        module = fast_model(model, descriptors, OFFSET)
        gradient = torch.randn(len(x), 3, x.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        energy, force, charge = predict(model, descriptors, descriptors.centred(x), phi, gradient)
        fixed_energy, fixed_force = descriptors.repulsion(x)
        energy, force = energy + fixed_energy, force + fixed_force.transpose(1, 2)
        for k in range(len(x)):
            e, f, q = call(module, x[k], phi[k])
            assert float(e - OFFSET) == pytest.approx(float(energy[k].detach()), rel=1e-9)
            if embedded:
                torch.testing.assert_close(q, charge[k], rtol=1e-9, atol=1e-9)
                # Forces for training are those at fixed MM charges.
                f = f - q[:, None] * gradient[k].T
            torch.testing.assert_close(f, force[k].T, rtol=1e-9, atol=1e-9 * float(f.abs().max()))


def test_single_precision_is_close():
    model, descriptors, x, phi = make("toluene", True)
    single = Descriptors(model.layout)
    single.mean, single.scale = descriptors.mean, descriptors.scale
    e, f, q = fast_model(model, descriptors, OFFSET)(x[0], phi[0])
    e1, f1, q1 = fast_model(model.float(), single, OFFSET)(x[0], phi[0])
    assert abs(float(e - e1)) < 1e-6 * abs(float(e))
    assert float((f - f1).abs().max()) < 1e-5 * float(f.abs().max())
    assert float((q - q1).abs().max()) < 1e-5


def test_moved_and_turned():
    model, descriptors, x, phi = make("ethanol", True)
    module = fast_model(model, descriptors, OFFSET)
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.sign(np.linalg.det(q)))
    e, f, charges = module(x[0], phi[0])
    e1, f1, charges1 = module(x[0] @ rotation.T + 7.0, phi[0])
    assert float(e1) == pytest.approx(float(e), rel=1e-9)
    torch.testing.assert_close(f1, f @ rotation.T, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(charges1, charges, rtol=1e-7, atol=1e-9)
    # The mirror image is another molecule, to a model that sees torsions.
    assert abs(float(module(x[0] * torch.tensor([1.0, 1.0, -1.0]), phi[0])[0] - e)) > 1e-3
    # A shift of phi costs what the region's charge does, here nothing.
    assert float(module(x[0], phi[0] + 50)[0]) == pytest.approx(float(e), rel=1e-10)


def test_renumbered_frames_keep_their_labels():
    _, descriptors, x, phi = make("ethanol", True)
    orders = graph.random_permutations(*MOLECULES["ethanol"][:2], len(x), np.random.default_rng(5))
    zeros = torch.zeros(len(x))
    samples = Samples(
        descriptors.centred(x), zeros, descriptors.centred(2 * x), phi, phi, descriptors.centred(3 * x), zeros
    )
    turned = samples.permuted(orders)
    rows = np.arange(len(x))[:, None]
    assert not torch.equal(turned.x, samples.x)
    torch.testing.assert_close(turned.x, descriptors.centred(x[rows, orders]))
    torch.testing.assert_close(turned.force, 2 * turned.x)
    torch.testing.assert_close(turned.phi_gradient, 3 * turned.x)
    torch.testing.assert_close(turned.phi, phi[rows, orders])
    assert torch.equal(turned.charge, turned.phi)


def test_layout_of_large_molecules_stays_small():
    species, bonds, _ = MOLECULES["chlorodecane"]
    layout = Layout(species, bonds)
    distant_hydrogens = [p for p in layout.pairs if layout.steps[p] > 3 and species[p[0]] == species[p[1]] == 1]
    assert not distant_hydrogens
    assert all(layout.pair_steps[k] >= layout.pair_steps[k + 1] for k in range(layout.n_pairs - 1))
    assert layout.n_pairs < 32 * 31 / 2
    assert all(len(chosen) == len(set(chosen)) <= WIDTH for chosen in layout.inputs)
    # Every descriptor is seen by some part.
    assert set(layout.quadratic).union(*layout.inputs) == set(range(layout.n_features))
    with pytest.raises(ValueError, match="at least two atoms"):
        Layout((8,), ())


def test_distant_atoms_repel_each_other():
    """Two hydrogens of a long chain: 0.4 kJ/mol at 0.22 nm, r^-12; and labels have it no more."""
    species, bonds, _ = MOLECULES["chlorodecane"]
    layout = Layout(species, bonds)
    assert sorted(layout.pairs + layout.undescribed) == list(itertools.combinations(range(32), 2))
    first, second = next(p for p in layout.undescribed if species[p[0]] == species[p[1]] == 1)
    x = 100.0 * np.arange(96).reshape(1, 32, 3)
    repulsion = Repulsion(layout)
    for distance in (0.22, 0.11):
        x[0, second] = x[0, first] + [0, distance, 0]
        energy, forces = repulsion(x)
        expected = 0.4 * (0.22 / distance) ** 12
        assert float(energy) == pytest.approx(expected, rel=1e-3)
        assert forces[0, second].tolist() == pytest.approx([0, 12 * expected / distance, 0], rel=1e-3, abs=1e-6)
    x = spread(32, 1)[None]
    zeros = np.zeros((1, 32))
    frames = Frames(
        x, np.ones(1), np.ones((1, 32, 3)), zeros, zeros, np.zeros((1, 32, 3)), np.ones(1), np.zeros(1, int)
    )
    samples = Samples.make(frames, Descriptors(layout, torch.float64), 0.5)
    energy, forces = repulsion(x)
    assert float(energy) > 1e-3
    assert float(samples.energy) == pytest.approx(0.5 - float(energy))
    torch.testing.assert_close(samples.force, 1 - forces.transpose(1, 2))
    bonded = layout.steps < 3
    assert float(repulsion.strengths[bonded].abs().max()) == 0 < float(repulsion.strengths[~bonded].min())


def test_repulsion_is_weak_where_the_data_are():
    """2 kJ/mol at the closest distances that a group of equal atoms has; what is further apart keeps its repulsion."""
    species, bonds, _ = MOLECULES["ethanol"]
    layout = Layout(species, bonds)
    methyl = [a for a in range(9) if species[a] == 1 and layout.steps[a, species.index(8)] == 3]
    polar = next(a for a in range(9) if species[a] == 1 and layout.steps[a, species.index(8)] == 1)
    assert len(methyl) == 3
    x = np.tile(100.0 * np.arange(27).reshape(1, 9, 3), (1000, 1, 1))
    x[:, polar] = x[:, methyl[0]] + [0.15, 0, 0]
    x[:3, polar] = x[:3, methyl[0]] + [0.05, 0, 0]  # less than one frame in two hundred
    repulsion, full = Repulsion(layout), Repulsion(layout)
    repulsion.weaken(x)
    expected = full.strengths.clone()
    for a in methyl:  # they turn
        expected[a, polar] = expected[polar, a] = 2.0 * 0.15**12
    torch.testing.assert_close(repulsion.strengths, expected, rtol=1e-6, atol=0)
    assert float(repulsion(x[5:6])[0]) == pytest.approx(2.0, rel=1e-3)


def test_least_squares_finds_a_quadratic_form():
    """Labels from a quadratic model: the fit reproduces energies, forces and charges, those of a charged region too."""
    torch.manual_seed(1)
    target, descriptors, x, phi = make("acetate", True, torch.float32, frames=500)
    rows, columns = target.layout.fit_products()
    with torch.no_grad():
        target.w3.zero_()
        kept = target.matrix[rows, columns].clone()
        target.matrix.zero_()
        target.matrix[rows, columns] = kept
    gradient = 100 * torch.randn(500, 3, x.shape[1])
    samples = Samples(descriptors.centred(x), None, None, None, phi.float(), gradient, torch.ones(500))
    with torch.no_grad():
        samples.energy, samples.force, samples.charge = predict(target, descriptors, samples.x, samples.phi, gradient)
    samples.energy = samples.energy + 3.0
    model = BatchModel(target.layout, (12, 8), -1, 2)
    with torch.no_grad():
        model.w3.zero_()
        samples_part = Samples(**{k: v[:400] for k, v in vars(samples).items()})
        constant = fit_quadratic(model, descriptors, samples_part)
        energy, force, charge = predict(model, descriptors, samples.x[400:], samples.phi[400:], gradient[400:])
    assert float((energy + constant - samples.energy[400:]).std()) < 0.02 * float(samples.energy.std())
    assert float((force - samples.force[400:]).std()) < 0.02 * float(samples.force.std())
    assert float((charge - samples.charge[400:]).abs().max()) < 0.02
