"""The networks of openmmkstep.training evaluated without torch (PotentialNetwork): TorchScript's own code is the reference."""

import numpy as np
import openmm
import pytest
import torch
from conftest import energy_forces, make_context
from test_training_model import OFFSET, make
from training_molecules import MOLECULES

from openmmkstep import KStepModelForce, ModelContract, saveModel
from openmmkstep.training.fast import FastModel, GasModel, fast_model

DAMPING = 0.08


def contract_of(name, embedded) -> ModelContract:
    species, bonds, charge = MOLECULES[name]
    phi = {"inputs": ("positions", "phi"), "outputs": ("energy", "forces", "charges")}
    return ModelContract(
        species=species,
        charge=charge,
        bonds=bonds,
        **(
            phi | {"dampingLengths": [DAMPING] * len(species), "hardnessElement": 10}
            if embedded
            else {"outputs": ("energy", "forces")}
        ),
    )


def scripted(name, embedded, marked=True):
    """A scripted model with random parameters, and geometries; without its mark it is TorchScript to everyone."""
    model, descriptors, x, _ = make(name, embedded, torch.float32)
    module = fast_model(model, descriptors, OFFSET)
    if not marked:
        (module if embedded else module.inner).network_version = 0
    return module, x.numpy()


def context_of(path, x, embedded):
    """The molecule, between two charges if it is embedded; all forces at all geometries."""
    n = x.shape[1]
    force = KStepModelForce(path, range(n))
    outside = np.array([[1.2, 0.1, -0.2], [-0.9, 0.3, 0.4]])
    if embedded:
        force.addEmbeddingCharge(n, 0.8, 10)
        force.addEmbeddingCharge(n + 1, -0.5, 10)
        x = np.concatenate([x, np.broadcast_to(outside, (len(x), 2, 3))], axis=1)
    context = make_context(force, x.shape[1])
    results = []
    for frame in x:
        context.setPositions(frame)
        results.append(energy_forces(context))
    return np.array([e for e, _ in results]), np.array([f for _, f in results])


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("name", MOLECULES)
def test_same_as_torchscript(name, embedded, tmp_path):
    """Energy, forces on atoms and, by dE/dphi, on charges; single precision in the networks of both."""
    found = []
    for marked in (True, False):
        module, x = scripted(name, embedded, marked)
        path = tmp_path / f"{marked}.pt"
        saveModel(module, path, contract_of(name, embedded))
        found.append(context_of(path, x, embedded))
    (e, f), (expected_e, expected_f) = found
    np.testing.assert_allclose(e, expected_e, rtol=0, atol=2e-6 * np.abs(expected_e - OFFSET).max())
    np.testing.assert_allclose(f, expected_f, rtol=0, atol=2e-6 * np.abs(expected_f).max())
    assert not np.array_equal(e, expected_e)  # two ways to the same result, not the same way twice
    if embedded:
        on_charges = np.abs(expected_f[:, -2:])
        assert on_charges.max() > 1e-3
        np.testing.assert_allclose(f[:, -2:], expected_f[:, -2:], rtol=0, atol=2e-5 * on_charges.max())


def test_forces_are_minus_the_gradient(tmp_path):
    """By finite differences of the energy, whose single-precision part limits them."""
    module, x = scripted("chlorodecane", True)
    saveModel(module, tmp_path / "m.pt", contract_of("chlorodecane", True))
    h = 1e-4
    for atom, axis in ((0, 0), (9, 1), (31, 2)):
        moved = np.repeat(x[:1], 3, axis=0)
        moved[1, atom, axis] += h
        moved[2, atom, axis] -= h
        energies, forces = context_of(tmp_path / "m.pt", moved, True)
        slope = (energies[1] - energies[2]) / (2 * h)
        assert forces[0, atom, axis] == pytest.approx(-slope, abs=1e-3 * np.abs(forces[0]).max())


class Changed(FastModel):
    """A model whose code is not what its mark says."""

    def forward(self, positions: torch.Tensor, phi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inverse = 1 / (positions[0] - positions[1]).norm()
        return self.offset + inverse, 0.1 * positions, torch.zeros_like(phi)


def test_what_the_model_says_of_itself_is_checked(tmp_path):
    model, descriptors, x, _ = make("ethanol", True, torch.float32)
    saveModel(
        torch.jit.script(Changed(model, descriptors, OFFSET)), tmp_path / "changed.pt", contract_of("ethanol", True)
    )
    with pytest.raises(
        openmm.OpenMMException, match="the model's code and the network in its file give different results"
    ):
        context_of(tmp_path / "changed.pt", x.numpy(), True)
    gas, x = scripted("ethanol", False)
    with pytest.raises(openmm.OpenMMException, match="the network in the model's file does not fit its contract"):
        saveModel(gas, tmp_path / "other.pt", contract_of("toluene", False))
        context_of(tmp_path / "other.pt", scripted("toluene", False)[1], False)


class Poor(torch.nn.Module):
    """Marked as a network, without one."""

    def __init__(self):
        super().__init__()
        self.network_version = 1

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return positions.sum(), torch.ones_like(positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "has no tensor 'w1'"),
        ({"index": torch.full((1,), 10**6)}, "contradict each other: the weights of the networks"),
        ({"vectors": torch.zeros(9, 7)}, "another number of vectors"),
        ({"linear": torch.zeros(4, dtype=torch.float64)}, "contradict each other: the quadratic form"),
    ],
)
def test_damaged_networks(change, message, tmp_path):
    """The mark without the parameters, or with parameters that do not fit together, is an error, never a wrong result."""
    if change is None:
        module = torch.jit.script(Poor())
    else:
        model, descriptors, _, _ = make("ethanol", False, torch.float32)
        python = GasModel(model, descriptors, OFFSET)
        for name, value in change.items():
            python.inner.register_buffer(name, value)
        module = torch.jit.script(python)
    saveModel(module, tmp_path / "m.pt", contract_of("ethanol", False))
    with pytest.raises(openmm.OpenMMException, match=message):
        make_context(KStepModelForce(tmp_path / "m.pt", range(9)), 9)
