"""What the tests of the ASE route share."""

import numpy as np
from ase import Atoms, units


def thermalize(atoms: Atoms, seed: int, temperature: float = 300.0) -> None:
    """Draw momenta at a temperature (K). ASE's own function for it has had two names."""
    width = np.sqrt(units.kB * temperature * atoms.get_masses())
    atoms.set_momenta(width[:, None] * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
