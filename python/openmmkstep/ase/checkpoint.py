"""The file that a k-step run goes on from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from ase import Atoms

_VERSION = 1


def write_checkpoint(path: str | os.PathLike, atoms: Atoms, state: dict) -> None:
    """Write positions, momenta, cell and a state (JSON, arrays allowed), renamed into place when the file is whole."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        np.savez(
            file,
            numbers=atoms.numbers,
            positions=atoms.positions,
            momenta=atoms.get_momenta(),
            cell=atoms.cell.array,
            state=json.dumps({"version": _VERSION, **state}, default=_from_array),
        )
    os.replace(temporary, path)


def read_checkpoint(path: str | os.PathLike, atoms: Atoms, generator: str) -> dict:
    """Give the atoms what write_checkpoint() wrote, and return the state.

    Raises
    ------
    ValueError
        If it is of other atoms, another version or another kind of random numbers; the atoms are not changed then.
    """
    with np.load(path) as data:
        state = json.loads(str(data["state"]), object_hook=_to_array)
        if state["version"] != _VERSION or not np.array_equal(data["numbers"], atoms.numbers):
            raise ValueError(
                f"The checkpoint '{path}' is of version {state['version']} and {len(data['numbers'])} atoms; expected version "
                f"{_VERSION} and the {len(atoms)} atoms of this run, in its order."
            )
        if state["rng"]["bit_generator"] != generator:
            raise ValueError(
                f"The checkpoint '{path}' holds random numbers of the kind {state['rng']['bit_generator']}, but those of this "
                f"run are of the kind {generator}; give KStep such a Generator as rng."
            )
        atoms.set_cell(data["cell"])
        atoms.set_positions(data["positions"], apply_constraint=False)
        atoms.set_momenta(data["momenta"], apply_constraint=False)
    return state


def _from_array(value) -> dict:
    return {"array": value.tolist(), "dtype": str(value.dtype)}


def _to_array(value: dict):
    return np.array(value["array"], dtype=value["dtype"]) if set(value) == {"array", "dtype"} else value
