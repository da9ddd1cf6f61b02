"""A calculator for some of the atoms, with hydrogens where bonds are cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.geometry import find_mic

from ..qmmm.cuts import LINK_DISTANCE
from ._units import NANOMETER

_LONGEST_BOND = 3.0
"""Angstrom. What is longer is no bond: a molecule that was wrapped into its box atom by atom, or a wrong index."""


def select(selection, num: int) -> np.ndarray:
    """The indices behind a selection in ASE's manner: indices, a mask or a slice.

    Raises
    ------
    ValueError
        If it is empty, or an atom occurs twice.
    """
    indices = np.arange(num)[selection if isinstance(selection, slice) else np.array(list(selection))]
    if indices.ndim != 1 or not len(indices) or len(set(indices.tolist())) != len(indices):
        raise ValueError(f"A selection must be some of the {num} atoms, each once, found {selection!r}.")
    return indices


class LinkAtoms(Calculator):
    """A calculator on a selection of the atoms, which link hydrogens saturate where bonds are cut.

    The calculator sees the selected atoms in the order of the selection, then the link hydrogens in the order of
    ``links``, and nothing periodic. A link hydrogen lies on its bond, and its force is passed on to both ends, so that
    energy, momentum and angular momentum are conserved. All other atoms feel no force.

    Parameters
    ----------
    calc : Calculator
        any ASE calculator
    selection : sequence of int, mask or slice
        the QM atoms
    links : sequence of tuple
        a cut bond each: (QM atom, MM atom), indices of all atoms, or (QM atom, MM atom, value) to say where the hydrogen
        is. May be empty: then this is the calculator on a selection
    placement : str
        'distance': the value is the distance of the hydrogen from the QM atom (Angstrom), by default that of
        createQMMMSystem(). 'ratio': the value is that distance in units of the bond's length, by default 0.709

    Raises
    ------
    ValueError
        If a link does not go from a selected to another atom, or its value is not positive.
    CalculatorSetupError
        When a calculation begins: if a cut bond is longer than 3 Angstrom, since molecules must be whole.
    """

    implemented_properties = ["energy", "free_energy", "forces"]
    nolabel = True
    name = "linkatoms"
    default_ratio = 0.709
    """C-H over C-C, 1.09/1.538."""

    def __init__(self, calc: Calculator, selection, links: Sequence[tuple] = (), placement: str = "distance"):
        super().__init__()
        if placement not in ("distance", "ratio"):
            raise ValueError(f"Expected the placement 'distance' or 'ratio', found {placement!r}.")
        self.calc = calc
        self.selection = selection
        self.links = [tuple(link) for link in links]
        self.placement = placement
        self._region: Atoms | None = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute energy and forces."""
        super().calculate(atoms, properties, system_changes)
        if self._region is None or "numbers" in system_changes:
            self._initialize()
        positions = self.atoms.positions
        vectors = positions[self._mm] - positions[self._qm]
        if len(vectors) and any(self.atoms.pbc):
            vectors, _ = find_mic(vectors, self.atoms.cell, self.atoms.pbc)
        lengths = np.linalg.norm(vectors, axis=1)
        if len(lengths) and lengths.max() > _LONGEST_BOND:
            i = int(lengths.argmax())
            raise CalculatorSetupError(
                f"LinkAtoms: the cut bond between the atoms {self._qm[i]} and {self._mm[i]} is {lengths[i]:.2f} Angstrom long. "
                "Check the indices, and that molecules are whole, not wrapped into the box atom by atom."
            )
        # The hydrogen is at x_qm + scale (x_mm - x_qm).
        scale = self._values / lengths if self.placement == "distance" else self._values
        links = positions[self._qm] + scale[:, None] * vectors
        self._region.positions = np.vstack([positions[self._indices], links])
        region_forces = self.calc.get_forces(self._region)
        energy = self.calc.get_potential_energy(self._region)
        num = len(self._indices)
        forces = np.zeros_like(positions)
        forces[self._indices] = region_forces[:num]
        for i, force in enumerate(region_forces[num:]):
            on_mm = scale[i] * force
            if self.placement == "distance":
                along = vectors[i] / lengths[i]
                on_mm = on_mm - along * (along @ on_mm)
            forces[self._mm[i]] += on_mm
            forces[self._qm[i]] += force - on_mm
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def get_region(self, atoms: Atoms) -> Atoms:
        """The Atoms that the calculator sees: the selection, then the link hydrogens."""
        self.get_potential_energy(atoms)
        return self._region.copy()

    def _initialize(self) -> None:
        num = len(self.atoms)
        self._indices = select(self.selection, num)
        selected = set(self._indices.tolist())
        qm, mm, values = [], [], []
        for link in self.links:
            first, second, *value = link
            if first not in selected or second in selected or not 0 <= second < num:
                raise ValueError(
                    f"A link goes from one of the selected atoms to one of the others, found {link}; give (QM atom, MM atom)."
                )
            qm.append(first)
            mm.append(second)
            values.append(value[0] if value else self._default_value(first))
        if any(not v > 0 for v in values):
            raise ValueError(f"The {self.placement} of a link hydrogen must be positive, found {values}.")
        self._qm, self._mm, self._values = np.array(qm, int), np.array(mm, int), np.array(values, float)
        region = Atoms(numbers=self.atoms.numbers[self._indices], masses=self.atoms.get_masses()[self._indices])
        for name in ("initial_charges", "initial_magmoms"):
            if self.atoms.has(name):
                region.set_array(name, self.atoms.get_array(name)[self._indices])
        self._region = region + Atoms(["H"] * len(qm))

    def _default_value(self, atom: int) -> float:
        if self.placement == "ratio":
            return self.default_ratio
        number = int(self.atoms.numbers[atom])
        if number not in LINK_DISTANCE:
            raise ValueError(
                f"There is no usual distance of a link hydrogen from element {number} (atom {atom}); give one: (QM atom, MM "
                "atom, distance)."
            )
        return LINK_DISTANCE[number] * NANOMETER
