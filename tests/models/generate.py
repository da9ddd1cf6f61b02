"""The models of the tests: small TorchScript functions of a water molecule whose values are known exactly.

``python generate.py FOLDER`` writes all of them. The potential is V(x) = sum over pairs K (r - R0)^2 / 2 with, where
there is phi input, + sum_a Q0_a phi_a - ALPHA/2 sum_a phi_a^2.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from openmmkstep import ModelContract, saveModel

SPECIES = (8, 1, 1)
PAIRS = ((0, 1), (0, 2), (1, 2))
K = (4.0e5, 4.2e5, 1.5e5)  # kJ/mol/nm^2
R0 = (0.0960, 0.0965, 0.1540)  # nm
Q0 = (-0.7, 0.34, 0.36)  # e
ALPHA = 4.0e-4  # e^2 mol/kJ
DAMPING = (0.06, 0.08, 0.085)  # nm

SPRING = 2.0e4  # kJ/mol/nm^2, of Molecule
MOLECULE_DAMPING = 0.07  # nm


class Water(torch.nn.Module):
    """Common to all: constants and the harmonic energy and forces."""

    def __init__(self):
        super().__init__()
        for name, value in (("k", K), ("r0", R0), ("q0", Q0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.register_buffer("pairs", torch.tensor(PAIRS))
        self.alpha = ALPHA

    def harmonic(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i, j = self.pairs[:, 0], self.pairs[:, 1]
        d = positions[i] - positions[j]
        r = torch.sqrt((d * d).sum(1))
        energy = (0.5 * self.k * (r - self.r0) ** 2).sum()
        f = (-self.k * (r - self.r0) / r).unsqueeze(1) * d
        forces = torch.zeros_like(positions).index_add(0, i, f).index_add(0, j, -f)
        return energy, forces


class Energy(Water):
    def forward(self, positions: torch.Tensor):
        return self.harmonic(positions)[0]


class EnergyForces(Water):
    def forward(self, positions: torch.Tensor):
        return self.harmonic(positions)


class PhiEnergy(Water):
    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        return self.harmonic(positions)[0] + (self.q0 * phi).sum() - 0.5 * self.alpha * (phi * phi).sum()


class PhiCharges(Water):
    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        energy, forces = self.harmonic(positions)
        return energy + (self.q0 * phi).sum() - 0.5 * self.alpha * (phi * phi).sum(), forces, self.q0 - self.alpha * phi


class IgnoresPhi(Water):
    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        return self.harmonic(positions)[0]


class Float32(Water):
    """A network that works in float32, as most do: its input is cast, its output too."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.w1 = torch.nn.Parameter(torch.randn(9, 16, generator=generator))
        self.w2 = torch.nn.Parameter(torch.randn(16, generator=generator))

    def forward(self, positions: torch.Tensor):
        x = (positions - positions[0]).to(torch.float32).reshape(-1) * 10
        return 100 * (torch.tanh(x @ self.w1) * self.w2).sum()


class FlatForces(Water):
    def forward(self, positions: torch.Tensor):
        energy, forces = self.harmonic(positions)
        return energy, forces.reshape(-1)


class TooFewForces(Water):
    def forward(self, positions: torch.Tensor):
        energy, forces = self.harmonic(positions)
        return energy, forces[:2]


class ForcesForOneMore(Water):
    def forward(self, positions: torch.Tensor):
        energy, forces = self.harmonic(positions)
        return energy, torch.cat([forces, forces[:1]])


class Tuple1(Water):
    def forward(self, positions: torch.Tensor):
        return (self.harmonic(positions)[0],)


class PerAtomEnergy(Water):
    def forward(self, positions: torch.Tensor):
        return positions.sum(1)


class Number(Water):
    def forward(self, positions: torch.Tensor):
        return 3.0


class Text(Water):
    def forward(self, positions: torch.Tensor):
        return "energy"


class ShortCharges(Water):
    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        energy, forces = self.harmonic(positions)
        return energy + (self.q0 * phi).sum(), forces, self.q0[:2]


class Throws(Water):
    """Fails where the first bond is longer than 0.12 nm."""

    def forward(self, positions: torch.Tensor):
        if float((positions[0] - positions[1]).norm()) > 0.12:
            raise RuntimeError("this model does not like long bonds")
        return self.harmonic(positions)[0]


class NotANumber(Water):
    """NaN where the first bond is longer than 0.12 nm."""

    def forward(self, positions: torch.Tensor):
        energy = self.harmonic(positions)[0]
        if float((positions[0] - positions[1]).norm()) > 0.12:
            return energy * float("nan")
        return energy


class Explode(Water):
    """Pushes the hydrogens away from the oxygen: a model that leads to geometries no SCF can do."""

    def forward(self, positions: torch.Tensor):
        d = positions[1:] - positions[0]
        return -2.0e4 * torch.sqrt((d * d).sum(1)).sum()


PHI = {"inputs": ("positions", "phi"), "dampingLengths": DAMPING, "hardnessElement": 10}
FORCES = {"outputs": ("energy", "forces")}
CHARGES = {"outputs": ("energy", "forces", "charges")}
MODELS = {
    "energy": (Energy, {}),
    "forces": (EnergyForces, FORCES),
    "phi_energy": (PhiEnergy, PHI),
    "phi_charges": (PhiCharges, PHI | CHARGES),
    "ignores_phi": (IgnoresPhi, PHI),
    "float32": (Float32, {}),
    "flat_forces": (FlatForces, FORCES),
    "too_few_forces": (TooFewForces, FORCES),
    "one_force_more": (ForcesForOneMore, FORCES),
    "energy_where_forces_promised": (Energy, FORCES),
    "tuple_of_one": (Tuple1, FORCES),
    "tuple_where_energy_promised": (EnergyForces, {}),
    "per_atom_energy": (PerAtomEnergy, {}),
    "number": (Number, {}),
    "text": (Text, {}),
    "short_charges": (ShortCharges, PHI | CHARGES),
    "throws": (Throws, {}),
    "not_a_number": (NotANumber, {}),
    "explode": (Explode, {}),
    # Contracts that do not fit a water molecule or a potential.
    "wrong_species": (Energy, {"species": (1, 8, 1)}),
    "other_count": (Energy, {"species": (8, 1)}),
    "charged": (Energy, {"charge": 1, "multiplicity": 2}),
    "triplet": (Energy, {"multiplicity": 3}),
    "helium_phi": (PhiEnergy, PHI | {"hardnessElement": 2}),
}


def contract(name: str) -> ModelContract:
    return ModelContract(**({"species": SPECIES} | MODELS[name][1]))


def write(name: str, path) -> None:
    """Write the model of this name."""
    saveModel(MODELS[name][0](), path, contract(name))


class Molecule(torch.nn.Module):
    """Any number of atoms: springs of SPRING between all pairs, and charges that the MM potential polarizes."""

    def __init__(self, positions, charges):
        super().__init__()
        self.register_buffer("r0", torch.pdist(torch.tensor(positions, dtype=torch.float64)))
        self.register_buffer("q0", torch.tensor(charges, dtype=torch.float64))
        self.spring = SPRING
        self.alpha = ALPHA

    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        stretch = torch.pdist(positions) - self.r0
        return (
            0.5 * self.spring * (stretch * stretch).sum() + (self.q0 * phi).sum() - 0.5 * self.alpha * (phi * phi).sum()
        )


def write_molecule(path, species, positions, charges) -> None:
    """Write a Molecule whose springs are at rest at these positions (nm); all atoms are damped by 0.07 nm."""
    saveModel(
        Molecule(positions, charges),
        path,
        ModelContract(
            species=tuple(species),
            inputs=("positions", "phi"),
            dampingLengths=(MOLECULE_DAMPING,) * len(species),
            hardnessElement=10,
        ),
    )


if __name__ == "__main__":
    for name in MODELS:
        write(name, Path(sys.argv[1]) / f"{name}.pt")
