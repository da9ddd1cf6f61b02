"""The potential energy of a QM/MM system, written from the physics: an independent check of createQMMMSystem().

    E = E_classical(terms that remain) + E_QM(QM atoms, link hydrogens; S_g Q_j, virtual charges)
        - k_e sum_j S_g sum_a C_aj / R_aj

xTB comes from the Python class of the PyPI package xtb. Nothing here is used by, or uses, the package under test.
nm, kJ/mol, e.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import openmm
from conftest import K_E, KJ_PER_HARTREE, NM_PER_BOHR
from openmm import app
from qmmm_classical import ForceField, nearest_image
from xtb.interface import Calculator, Param
from xtb.libxtb import VERBOSITY_MUTED

LINK_DISTANCE = {"C": 0.109, "N": 0.101, "O": 0.096, "S": 0.134}
HARDNESS_ELEMENT = {"GFN1-xTB": 2, "GFN2-xTB": 10}


def xtb_energy(method: str = "GFN2-xTB", charge: int = 0, multiplicity: int = 1, accuracy: float = 0.01) -> Callable:
    """A function of elements and positions of the QM atoms, charges and their positions: E_xTB (kJ/mol)."""

    def energy(numbers, x, charges, x_charges) -> float:
        parameters = {"GFN1-xTB": Param.GFN1xTB, "GFN2-xTB": Param.GFN2xTB}[method]
        # The first atom at the origin: libxtb's GFN2 energies change with a translation, by 1e-4 kJ/mol over 1 nm.
        atoms, places = (x - x[0]) / NM_PER_BOHR, (np.reshape(x_charges, (-1, 3)) - x[0]) / NM_PER_BOHR
        calculator = Calculator(parameters, np.array(numbers), atoms, charge, multiplicity - 1)
        calculator.set_verbosity(VERBOSITY_MUTED)
        calculator.set_accuracy(accuracy)
        if len(charges):
            elements = np.full(len(charges), HARDNESS_ELEMENT[method])
            calculator.set_external_charges(elements, np.array(charges), places)
        return calculator.singlepoint().get_energy() * KJ_PER_HARTREE

    return energy


def springs_and_charges(rest, q0, spring: float, alpha: float, damping: float) -> Callable:
    """As xtb_energy(), for the class Molecule of tests/models/generate.py: springs at rest at these positions (nm)."""

    def energy(numbers, x, charges, x_charges) -> float:
        pairs = itertools.combinations(range(len(x)), 2)
        stretch = np.array([np.linalg.norm(x[i] - x[j]) - np.linalg.norm(rest[i] - rest[j]) for i, j in pairs])
        phi = np.zeros(len(x))
        for q, place in zip(charges, x_charges, strict=True):
            phi += K_E * q / np.sqrt(((x - place) ** 2).sum(1) + damping**2)
        return spring / 2 * (stretch**2).sum() + np.dot(q0, phi) - alpha / 2 * (phi**2).sum()

    return energy


def switching_function(r, r_on: float, r_off: float):
    t = np.clip((np.asarray(r) - r_on) / (r_off - r_on), 0, 1)
    return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5


class Bonds:
    """Who is bonded to whom."""

    def __init__(self, topology: app.Topology):
        self.neighbours = [set() for _ in range(topology.getNumAtoms())]
        for bond in topology.bonds():
            self.neighbours[bond.atom1.index].add(bond.atom2.index)
            self.neighbours[bond.atom2.index].add(bond.atom1.index)

    def paths(self, first: int, last: int) -> list[tuple[int, int, int, int]]:
        """All paths of three bonds between two atoms."""
        return [
            (first, a, b, last)
            for a in self.neighbours[first]
            for b in self.neighbours[last]
            if b in self.neighbours[a] and len({first, a, b, last}) == 4
        ]

    def within(self, start: Sequence[int], bonds: int, stay_in: set[int]) -> set[int]:
        """The atoms of stay_in that so many bonds reach from those in start."""
        reached, front = set(), set(start)
        for _ in range(bonds):
            front = {n for i in front for n in self.neighbours[i]} & stay_in - reached
            reached |= front
        return reached


class QMMMReference:
    """A QM/MM system: ``energies(x, box)`` gives its energy at positions x (nm), box vectors as rows.

    Parameters
    ----------
    topology, system :
        of the whole system by force field
    qm : sequence of int
        the QM atoms
    qm_energy : callable
        see xtb_energy()
    cutoff, switching : float, optional
        r_off and r_on (nm); None: all charges in full
    boundary : str
        'rcd', 'charge-shift' or 'none'
    embedding : str
        'electrostatic' or 'mechanical'
    """

    def __init__(
        self,
        topology: app.Topology,
        system: openmm.System,
        qm: Sequence[int],
        qm_energy: Callable | None = None,
        *,
        cutoff: float | None = None,
        switching: float | None = None,
        boundary: str = "rcd",
        embedding: str = "electrostatic",
    ):
        self.qm, self.region = list(qm), set(qm)
        self.mm = set(range(topology.getNumAtoms())) - self.region
        self.atoms = list(topology.atoms())
        self.bonds = Bonds(topology)
        self.qm_energy = qm_energy or xtb_energy()
        self.r_on, self.r_off = switching, cutoff
        self.embedding = embedding
        self.cuts = sorted((q, m) for q in qm for m in self.bonds.neighbours[q] & self.mm)
        original = ForceField.of(system)
        self.charges = self._move_leftover(topology, original.charges.copy())
        self.force_field = self._remaining(original)
        self.virtual = self._virtual_charges(boundary)
        self.groups = self._groups(topology)

    # The classical part.

    def _move_leftover(self, topology, charges):
        """Whole charges for both parts of each residue that is cut: moved from the MM hosts to their QM partners."""
        for residue in topology.residues():
            outside = [a.index for a in residue.atoms() if a.index in self.mm]
            if not outside or len(outside) == len(list(residue.atoms())):
                continue
            delta = charges[outside].sum() - round(charges[outside].sum())
            cuts = [(q, m) for q, m in self.cuts if m in outside]
            for q, m in cuts:
                charges[m] -= delta / len(cuts)
                charges[q] += delta / len(cuts)
            assert cuts
        return charges

    def _remaining(self, original: ForceField) -> ForceField:
        """The terms that stay: the link hydrogens supply the rest."""

        def number(atoms):
            return sum(i in self.region for i in atoms)

        exceptions = {(i, j): (0.0, 1.0, 0.0) for i, j in itertools.combinations(sorted(self.region), 2)}
        old = original.charges
        for (i, j), (product, sigma, epsilon) in original.exceptions.items():
            inside = number((i, j))
            if inside == 2:
                continue
            if product:
                product *= self.charges[i] * self.charges[j] / (old[i] * old[j])
            if inside == 1 and epsilon and all(number(path) >= 3 for path in self.bonds.paths(i, j)):
                epsilon = 0.0
            exceptions[i, j] = (product, sigma, epsilon)
        return dataclasses.replace(
            original,
            bonds=[t for t in original.bonds if number(t[:2]) < 2],
            angles=[t for t in original.angles if number(t[:3]) < 2],
            torsions=[t for t in original.torsions if number(t[:4]) < 3],
            rb_torsions=[t for t in original.rb_torsions if number(t[:4]) < 3],
            cmaps=[t for t in original.cmaps if number(t[:4]) < 3 and number(t[4:8]) < 3],
            charges=self.charges,
            exceptions=exceptions,
        )

    # What the QM region sees.

    def _virtual_charges(self, boundary: str) -> list[tuple[dict[int, float], float]]:
        """({atom: weight}, charge) of each charge that only the QM region sees."""
        result = []
        for host in sorted({m for _, m in self.cuts}):
            q0 = self.charges[host]
            others = sorted(self.bonds.neighbours[host] & self.mm)
            share = q0 / len(others)
            if boundary != "none":
                result.append(({host: 1.0}, -q0))
            for other in others:
                if boundary == "rcd":
                    result.append(({other: 1.0}, -share))
                    result.append(({host: 0.5, other: 0.5}, 2 * share))
                elif boundary == "charge-shift":
                    result.append(({other: 1.0}, share))
                    result.append(({other: 0.9, host: 0.1}, 5 * share))
                    result.append(({other: 1.1, host: -0.1}, -5 * share))
        return result

    def _groups(self, topology) -> list[tuple[list[int], int | None, bool]]:
        """(atoms, centre or None for the centroid, switched) of the MM part of each residue."""
        near = self.bonds.within([q for q, _ in self.cuts], 3, self.mm)
        result = []
        for residue in topology.residues():
            atoms = [a.index for a in residue.atoms() if a.index in self.mm]
            if not atoms:
                continue
            total = self.charges[atoms].sum()
            assert abs(total - round(total)) < 1e-3, "the reference knows residues of whole charge only"
            heavy = [i for i in atoms if self.atoms[i].element is not None and self.atoms[i].element.atomic_number > 1]
            center = atoms[0] if len(atoms) == 1 else heavy[0] if len(heavy) == 1 else None
            result.append((atoms, center, not near & set(atoms)))
        return result

    def images(self, x: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Positions with the QM region whole and each group, whole, at its image nearest to the region's centroid."""
        x = x.copy()
        first = x[self.qm[0]].copy()
        x[self.qm] = first + nearest_image(x[self.qm] - first, box)
        centroid = x[self.qm].mean(axis=0)
        for atoms, center, _ in self.groups:
            origin = x[atoms[0] if center is None else center].copy()
            x[atoms] = origin + nearest_image(x[atoms] - origin, box)
            middle = x[atoms].mean(axis=0) if center is None else x[center]
            x[atoms] += nearest_image(middle - centroid, box) - (middle - centroid)
        return x

    def switches(self, x: np.ndarray) -> np.ndarray:
        """S of each group, given positions from images()."""
        result = []
        for atoms, center, switched in self.groups:
            if self.r_off is None or not switched:
                result.append(1.0)
                continue
            middle = x[atoms].mean(axis=0) if center is None else x[center]
            r = np.linalg.norm(x[self.qm] - middle, axis=1)
            result.append(1 - np.prod(1 - switching_function(r, self.r_on, self.r_off)))
        return np.array(result)

    def qm_input(self, x: np.ndarray, box: np.ndarray | None = None):
        """Elements and positions of QM atoms and link hydrogens, charges and their positions."""
        x = self.images(x, box)
        numbers = [self.atoms[i].element.atomic_number for i in self.qm] + [1] * len(self.cuts)
        positions = [x[i] for i in self.qm]
        for q, m in self.cuts:
            bond = x[m] - x[q]
            positions.append(x[q] + LINK_DISTANCE[self.atoms[q].element.symbol] * bond / np.linalg.norm(bond))
        charges, places = [], []
        if self.embedding == "electrostatic":
            for (atoms, _, _), s in zip(self.groups, self.switches(x), strict=True):
                seen = [i for i in atoms if s * self.charges[i] != 0]
                charges += [s * self.charges[i] for i in seen]
                places += [x[i] for i in seen]
            for weights, q in self.virtual:
                charges.append(q)
                places.append(sum(w * x[i] for i, w in weights.items()))
        return numbers, np.array(positions), np.array(charges), np.array(places)

    def _subtracted(self, x, box):
        """The Coulomb energy between the regions that NonbondedForce holds for these images."""
        if self.embedding != "electrostatic":
            return 0.0
        x = self.images(x, box)
        energy = 0.0
        for (atoms, _, _), s in zip(self.groups, self.switches(x), strict=True):
            for a, j in itertools.product(self.qm, atoms):
                pair = min(a, j), max(a, j)
                exception = self.force_field.exceptions.get(pair)
                product = self.charges[a] * self.charges[j] if exception is None else exception[0]
                energy += s * K_E * product / np.linalg.norm(x[a] - x[j])
        return energy

    def energies(self, x: np.ndarray, box: np.ndarray | None = None) -> dict[str, float]:
        """The parts: 'common' is all but the force of the QM region, 'region' that force alone."""
        return {
            "common": self.force_field.energy(x, box),
            "region": self.qm_energy(*self.qm_input(x, box)) - self._subtracted(x, box),
        }

    def energy(self, x: np.ndarray, box: np.ndarray | None = None) -> float:
        """The total potential energy (kJ/mol)."""
        return sum(self.energies(x, box).values())
