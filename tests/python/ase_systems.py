"""What the tests of the ASE route share."""

import numpy as np
import openmm
from ase import Atoms, units
from tethered import MASSES, QM, V0, X0

PS = 1000 * units.fs


def thermalize(atoms: Atoms, seed: int, temperature: float = 300.0) -> None:
    """Draw momenta at a temperature (K). ASE's own function for it has had two names."""
    width = np.sqrt(units.kB * temperature * atoms.get_masses())
    atoms.set_momenta(width[:, None] * np.random.default_rng(seed).standard_normal((len(atoms), 3)))


def numerical_forces(atoms: Atoms, step: float, indices=None) -> np.ndarray:
    """Minus the gradient of the energy at some atoms (by default all) by central differences (eV/Angstrom)."""
    indices = range(len(atoms)) if indices is None else indices
    start, forces = atoms.get_positions(), np.zeros((len(indices), 3))
    for row, i in enumerate(indices):
        for k in range(3):
            energies = []
            for sign in (1, -1):
                atoms.positions[i, k] = start[i, k] + sign * step
                energies.append(atoms.get_potential_energy())
            forces[row, k] = (energies[1] - energies[0]) / (2 * step)
            atoms.positions[i, k] = start[i, k]
    return forces


def tethered_atoms(x=X0, v=V0) -> Atoms:
    atoms = Atoms(["H" if i in QM else "C" for i in range(len(x))], positions=10 * x, masses=MASSES)
    atoms.set_velocities(10 * v / PS)
    return atoms


def assert_same_state(atoms: Atoms, context: openmm.Context, tolerance: float) -> None:
    """Positions within the tolerance (nm), and velocities within 100/ps of it."""
    state = context.getState(getPositions=True, getVelocities=True)
    np.testing.assert_allclose(atoms.positions / 10, state.getPositions(asNumpy=True)._value, rtol=0, atol=tolerance)
    v = atoms.get_velocities() * PS / 10
    np.testing.assert_allclose(v, state.getVelocities(asNumpy=True)._value, rtol=0, atol=100 * tolerance)
