"""The contract of a model file: what it says is what is read, and contradictions are refused."""

import dataclasses

import generate
import pytest
import torch
from conftest import BLOCK_TORCH, run_python

import openmmkstep
from openmmkstep import ModelContract

POTENTIAL = ModelContract(
    species=(8, 1, 1),
    kind="potential",
    inputs=("positions", "phi"),
    outputs=("energy", "forces", "charges"),
    dampingLengths=(0.06, 0.08, 1 / 3),
    method="GFN1-xTB",
    charge=-1,
    multiplicity=2,
    hardnessElement=2,
    cutoff=0.7,
    trainingTemperatures=(300, 400.5),
    versions={"xtb": "6.5.1", "note": 'a <b> & "c"'},
    distanceRanges=[(0, 1, 0.09, 0.125)],
)
MARKED = ModelContract(
    species=(6, 1, 1, 1, 1),
    bonds=[(0, 1), (2, 0), (0, 3), (0, 4)],
    handedness=[(0, 1, 2, 3, -1)],
    sides=[(1, 0, 2, 3, 1)],
)
JUMP = ModelContract(
    species=(1, 1),
    kind="jump",
    inputs=("positions", "velocities", "forces"),
    outputs=("displacements", "velocity_changes"),
    k=8,
    dt=0.0005,
)
PLAIN = ModelContract(species=[6])


class Echo1(torch.nn.Module):
    def forward(self, positions):
        return positions


class Echo2(torch.nn.Module):
    def forward(self, positions, other):
        return positions


class Echo3(torch.nn.Module):
    def forward(self, positions, velocities, forces):
        return positions, velocities


def save_with(contract: ModelContract, path) -> None:
    """A file with this contract around a module of as many arguments."""
    openmmkstep.saveModel([Echo1, Echo2, Echo3][len(contract.inputs) - 1](), path, contract)


@pytest.mark.parametrize("contract", [POTENTIAL, JUMP, PLAIN, MARKED], ids=["potential", "jump", "plain", "marked"])
def test_contract_round_trip(contract, tmp_path):
    assert ModelContract.fromXml(contract.toXml()) == contract
    save_with(contract, tmp_path / "model.pt")
    found = openmmkstep.readContract(tmp_path / "model.pt")
    assert found.versions == {"torch": torch.__version__, "openmmkstep": openmmkstep.__version__, **contract.versions}
    for field in dataclasses.fields(ModelContract):
        if field.name != "versions":
            assert getattr(found, field.name) == getattr(contract, field.name), field.name


def test_the_round_trip_covers_every_field():
    """Every field has a value other than its default in one of the contracts above."""
    default = {f.name: getattr(PLAIN, f.name) for f in dataclasses.fields(ModelContract)}
    default["kind"] = "potential"
    for name, value in default.items():
        assert any(getattr(c, name) != value for c in (POTENTIAL, JUMP, MARKED)), name


def test_read_contract_needs_no_torch(models):
    code = f"import openmmkstep\nprint(openmmkstep.readContract({str(models('phi_charges'))!r}).hardnessElement)"
    result = run_python(BLOCK_TORCH + code)
    assert (result.returncode, result.stdout) == (0, "10\n"), result.stderr


PHI = {"inputs": ("positions", "phi"), "dampingLengths": (0.1,), "hardnessElement": 10}
BAD_CONTRACTS = [
    ({"kind": "energy"}, "kind of a model must be"),
    ({"inputs": ("phi",)}, "inputs of a potential model must be one of"),
    ({"outputs": ("forces",)}, "outputs of a potential model must be one of"),
    ({"kind": "jump", "inputs": ("positions",)}, "inputs of a jump model must be one of"),
    ({"species": ()}, "atomic number"),
    ({"species": (0,)}, "atomic number"),
    ({"species": (87,)}, "atomic number"),
    (PHI | {"dampingLengths": None}, "positive damping length for each of its 1 atoms"),
    (PHI | {"dampingLengths": (0.1, 0.1)}, "positive damping length"),
    (PHI | {"dampingLengths": (0.0,)}, "positive damping length"),
    (PHI | {"hardnessElement": None}, "hardness element"),
    (PHI | {"outputs": ("energy", "forces")}, "must return charges"),
    ({"outputs": ("energy", "forces", "charges")}, "only a model with phi input"),
    ({"bonds": [(0, 0)]}, "A bond is a pair of the 1 atoms"),
    ({"bonds": [(0, 1)]}, "A bond is a pair of the 1 atoms"),
    ({"species": (6, 1, 1, 1), "handedness": [(0, 1, 2, 3, 1)]}, "with handedness needs bonds"),
    (
        {"species": (6, 1, 1, 1), "bonds": [(0, 1)], "handedness": [(0, 1, 2, 2, 1)]},
        "four different ones of the 4 atoms",
    ),
    ({"species": (6, 1, 1, 1), "bonds": [(0, 1)], "sides": [(0, 1, 2, 3, 0)]}, "entry of sides is .* a sign"),
    ({"kind": "jump", "inputs": JUMP.inputs, "outputs": JUMP.outputs, "k": 4}, "k and dt"),
    ({"kind": "jump", "inputs": JUMP.inputs, "outputs": JUMP.outputs, "k": 0, "dt": 0.001}, "at least 1"),
    ({"kind": "jump", "inputs": JUMP.inputs, "outputs": JUMP.outputs, "k": 1, "dt": -0.001}, "found 1 and -0.001"),
]


@pytest.mark.parametrize("fields, message", BAD_CONTRACTS)
def test_bad_contracts(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelContract(**({"species": (6,)} | fields))


def test_save_model_checks_the_number_of_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"inputs are \('positions', 'phi'\), but forward\(\) takes 1 argument"):
        openmmkstep.saveModel(generate.Energy(), tmp_path / "model.pt", generate.contract("phi_energy"))
    assert not (tmp_path / "model.pt").exists()
