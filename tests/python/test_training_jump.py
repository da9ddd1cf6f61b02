"""trainJump(): a direct model learns the map of a potential's dynamics."""

import numpy as np
import openmm
import pytest
import torch
from conftest import MOLECULES, make_context, rotation_matrix
from training_molecules import label, region_of

from openmmkstep import KStepModelForce, readContract
from openmmkstep.training import trainJump, trainModel
from openmmkstep.training.jump import find_frame_atoms

K, DT = 4, 0.0005
MASSES = [15.9994, 1.007947, 1.007947]


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """The frames, the potential, and the direct model's file and result."""
    folder = tmp_path_factory.mktemp("jump")
    rng = np.random.default_rng(1)
    x = np.array(MOLECULES["bent water"][1]) + 0.004 * rng.normal(size=(320, 3, 3))
    frames = label(region_of("water"), x)
    potential = trainModel(
        frames, folder, region=region_of("water"), steps=60, heldOut=[3], hidden=(16, 12), progress=False, threads=1
    )
    path = folder / "jump.pt"
    result = trainJump(potential.path, frames, path, k=K, dt=DT, hidden=48, epochs=120, progress=False)
    return frames, potential.path, path, result


def test_it_learns_the_map(water):
    frames, potential, path, result = water
    assert result.samples == 288 * 3 and result.frameAtoms == (1, 0, 2)
    assert result.velocityError < 0.1 and result.displacementError < 0.1
    contract = readContract(path)
    assert (contract.kind, contract.k, contract.dt) == ("jump", K, DT)
    assert contract.species == (8, 1, 1) and contract.trainingTemperatures == (300.0,)
    module = torch.jit.load(str(path))
    integrator = openmm.CustomIntegrator(DT)
    for variable, term in (("v", "v + 0.5*dt*f/m"), ("x", "x + dt*v"), ("v", "v + 0.5*dt*f/m")):
        integrator.addComputePerDof(variable, term)
    context = make_context([KStepModelForce(str(potential), range(3))], 3, integrator=integrator)
    for i, mass in enumerate(MASSES):
        context.getSystem().setParticleMass(i, mass)
    context.reinitialize()
    rng = np.random.default_rng(5)
    errors, changes = [], []
    for x in frames.positions[-20:]:
        v = rng.normal(size=(3, 3)) * np.sqrt(2.494 / np.array(MASSES))[:, None] + [2.0, -1.0, 0.5]
        context.setPositions(x)
        context.setVelocities(v)
        integrator.step(K)
        state = context.getState(positions=True, velocities=True)
        dx, dv = module(torch.from_numpy(x), torch.from_numpy(v))
        changes.append(state.getVelocities(asNumpy=True)._value - v)
        errors.append(dv.numpy() - changes[-1])
        np.testing.assert_allclose(x + dx.numpy(), state.getPositions(asNumpy=True)._value, atol=0.0005)
    # The drift of the whole molecule is no input of the network.
    assert np.std(errors) < 0.15 * np.std(changes)


def test_symmetries(water):
    frames, _, path, _ = water
    module = torch.jit.load(str(path))
    x, v = frames.positions[3], np.random.default_rng(2).normal(size=(3, 3))
    dx, dv = (a.numpy() for a in module(torch.from_numpy(x), torch.from_numpy(v)))
    rotation = rotation_matrix(4)
    turned = module(torch.from_numpy(x @ rotation.T + 3.0), torch.from_numpy(v @ rotation.T))
    np.testing.assert_allclose(turned[0].numpy(), dx @ rotation.T, atol=1e-10)
    np.testing.assert_allclose(turned[1].numpy(), dv @ rotation.T, atol=1e-8)
    mass = np.array(MASSES) / np.sum(MASSES)
    np.testing.assert_allclose(mass @ dv, 0, atol=1e-6)
    np.testing.assert_allclose(mass @ dx, K * DT * (mass @ v), atol=1e-8)


def test_frame_atoms_and_errors(water, tmp_path):
    frames, potential, path, _ = water
    ethylene = np.array(MOLECULES["ethylene"][1])[None]
    bonds = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)]
    assert find_frame_atoms(MOLECULES["ethylene"][0], bonds, ethylene) == (0, 1, 4)
    with pytest.raises(ValueError, match="never in a line"):
        find_frame_atoms([8, 6, 8], [(0, 1), (1, 2)], np.array(MOLECULES["CO2"][1])[None])
    with pytest.raises(ValueError, match="found a jump"):
        trainJump(path, frames, tmp_path / "no.pt")
    with pytest.raises(ValueError, match="positive k"):
        trainJump(potential, frames, tmp_path / "no.pt", k=0)
