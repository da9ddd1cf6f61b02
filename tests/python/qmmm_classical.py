"""The energy of a force-field System by plain sums in numpy: every term of amber and of water models, Ewald's sum.

Clear and slow, and independent of OpenMM's kernels: the classical half of the QM/MM reference (qmmm_reference.py).
nm, kJ/mol, e.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import openmm
from conftest import K_E
from openmm import unit
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from scipy.special import erfc

BONDED = ("bonds", "angles", "torsions", "rb_torsions", "cmaps")


def plain(values) -> list:
    """Numbers in OpenMM's units."""
    return [v.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(v) else v for v in values]


def box_of(system: openmm.System) -> np.ndarray | None:
    """The default box vectors as rows (nm), or None."""
    if not system.usesPeriodicBoundaryConditions():
        return None
    return np.array([v.value_in_unit(unit.nanometer) for v in system.getDefaultPeriodicBoxVectors()], dtype=float)


def lattice(box: np.ndarray, reach: int = 1) -> np.ndarray:
    """All sums of up to `reach` box vectors in each direction, the zero vector first."""
    cells = sorted(itertools.product(range(-reach, reach + 1), repeat=3), key=lambda n: np.abs(n).sum())
    return np.array(cells) @ box


def nearest_image(d: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """The shortest of all periodic images of each vector, by trying them."""
    if box is None:
        return d
    d = d - np.round(d @ np.linalg.inv(box)) @ box
    best, length = d, (d * d).sum(-1)
    for shift in lattice(box)[1:]:
        other = d + shift
        square = (other * other).sum(-1)
        best = np.where((square < length)[..., None], other, best)
        length = np.minimum(length, square)
    return best


def dihedral(x: np.ndarray, a: int, b: int, c: int, d: int) -> float:
    """The torsion angle by IUPAC's convention (trans is pi)."""
    u, v, w = x[b] - x[a], x[c] - x[b], x[d] - x[c]
    return math.atan2(np.linalg.norm(v) * (u @ np.cross(v, w)), np.cross(u, v) @ np.cross(v, w))


@dataclasses.dataclass
class ForceField:
    """The terms of a System as lists, atoms first; exceptions as {(i, j): (charge product, sigma, epsilon)}, i < j."""

    bonds: list
    angles: list
    torsions: list
    rb_torsions: list
    cmaps: list
    charges: np.ndarray
    sigmas: np.ndarray
    epsilons: np.ndarray
    exceptions: dict
    cutoff: float | None
    switching: float | None
    dispersion: bool

    @classmethod
    def of(cls, system: openmm.System) -> ForceField:
        terms = {name: [] for name in BONDED}
        for force in system.getForces():
            if isinstance(force, openmm.HarmonicBondForce):
                terms["bonds"] += [plain(force.getBondParameters(i)) for i in range(force.getNumBonds())]
            elif isinstance(force, openmm.HarmonicAngleForce):
                terms["angles"] += [plain(force.getAngleParameters(i)) for i in range(force.getNumAngles())]
            elif isinstance(force, openmm.PeriodicTorsionForce):
                terms["torsions"] += [plain(force.getTorsionParameters(i)) for i in range(force.getNumTorsions())]
            elif isinstance(force, openmm.RBTorsionForce):
                terms["rb_torsions"] += [plain(force.getTorsionParameters(i)) for i in range(force.getNumTorsions())]
            elif isinstance(force, openmm.CMAPTorsionForce):
                maps = [plain(force.getMapParameters(i)) for i in range(force.getNumMaps())]
                for i in range(force.getNumTorsions()):
                    index, *atoms = force.getTorsionParameters(i)
                    size, values = maps[index]
                    terms["cmaps"].append((*atoms, np.array(plain(values)).reshape(size, size)))
            elif isinstance(force, openmm.NonbondedForce):
                nonbonded = force
            elif not isinstance(force, openmm.CMMotionRemover | openmm.MonteCarloBarostat):
                raise TypeError(f"The reference does not know {force.getName()}.")
        particles = np.array(
            [plain(nonbonded.getParticleParameters(i)) for i in range(nonbonded.getNumParticles())], dtype=float
        )
        exceptions = {}
        for i in range(nonbonded.getNumExceptions()):
            a, b, *parameters = plain(nonbonded.getExceptionParameters(i))
            exceptions[min(a, b), max(a, b)] = tuple(parameters)
        periodic = nonbonded.getNonbondedMethod() in (openmm.NonbondedForce.PME, openmm.NonbondedForce.Ewald)
        assert periodic or nonbonded.getNonbondedMethod() == openmm.NonbondedForce.NoCutoff
        switched = periodic and nonbonded.getUseSwitchingFunction()
        return cls(
            **terms,
            charges=particles[:, 0],
            sigmas=particles[:, 1],
            epsilons=particles[:, 2],
            exceptions=exceptions,
            cutoff=plain([nonbonded.getCutoffDistance()])[0] if periodic else None,
            switching=plain([nonbonded.getSwitchingDistance()])[0] if switched else None,
            dispersion=periodic and nonbonded.getUseDispersionCorrection(),
        )

    def energies(self, x: np.ndarray, box: np.ndarray | None = None) -> dict[str, float]:
        """The energy (kJ/mol) of each kind of term."""
        result = {
            "bonds": sum(k / 2 * (np.linalg.norm(x[i] - x[j]) - r0) ** 2 for i, j, r0, k in self.bonds),
            "angles": sum(self._angle(x, *term) for term in self.angles),
            "torsions": sum(
                k * (1 + math.cos(n * dihedral(x, *atoms) - phase)) for *atoms, n, phase, k in self.torsions
            ),
            "rb_torsions": sum(
                sum(c * math.cos(dihedral(x, *term[:4]) - math.pi) ** n for n, c in enumerate(term[4:]))
                for term in self.rb_torsions
            ),
            "cmaps": sum(self._cmap(x, term) for term in self.cmaps),
            "exceptions": sum(self._exception(x, pair, *p, box) for pair, p in self.exceptions.items()),
            "Lennard-Jones": self._lennard_jones(x, box),
            "Coulomb": self._coulomb(x, box),
        }
        if self.dispersion:
            result["dispersion correction"] = self._dispersion_correction(box)
        return result

    def energy(self, x: np.ndarray, box: np.ndarray | None = None) -> float:
        """The total energy (kJ/mol)."""
        return sum(self.energies(x, box).values())

    @staticmethod
    def _angle(x, i, j, k, theta0, stiffness):
        u, v = x[i] - x[j], x[k] - x[j]
        return stiffness / 2 * (math.acos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)) - theta0) ** 2

    @staticmethod
    def _cmap(x, term):
        """A periodic cubic spline in both angles; the first angle runs fastest in OpenMM's list."""
        values = term[8]
        phi, psi = (dihedral(x, *term[n : n + 4]) % (2 * math.pi) for n in (0, 4))
        grid = np.linspace(0, 2 * math.pi, len(values) + 1)
        closed = np.pad(values, ((0, 1), (0, 1)), mode="wrap")
        along_phi = CubicSpline(grid, closed, axis=1, bc_type="periodic")(phi)
        return float(CubicSpline(grid, along_phi, bc_type="periodic")(psi))

    @staticmethod
    def _exception(x, pair, product, sigma, epsilon, box):
        r = np.linalg.norm(nearest_image(x[pair[0]] - x[pair[1]], box))
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) + K_E * product / r

    def _switch(self, r):
        t = np.clip((r - self.switching) / (self.cutoff - self.switching), 0, 1)
        return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5

    def _pairs(self, x, box):
        """Indices i < j of all pairs that are no exceptions, and their shortest distances."""
        i, j = np.triu_indices(len(x), 1)
        excluded = np.zeros((len(x), len(x)), dtype=bool)
        for a, b in self.exceptions:
            excluded[a, b] = True
        keep = ~excluded[i, j]
        i, j = i[keep], j[keep]
        return i, j, np.linalg.norm(nearest_image(x[i] - x[j], box), axis=1)

    def _lennard_jones(self, x, box):
        i, j, r = self._pairs(x, box)
        sigma, epsilon = (self.sigmas[i] + self.sigmas[j]) / 2, np.sqrt(self.epsilons[i] * self.epsilons[j])
        energy = 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
        if self.cutoff is not None:
            energy = np.where(r < self.cutoff, energy, 0)
            if self.switching is not None:
                energy *= self._switch(r)
        return energy.sum()

    def _dispersion_correction(self, box):
        """The tail of all pairs' Lennard-Jones beyond cutoff and switch, for homogeneous density."""
        n = len(self.sigmas)
        i, j = np.triu_indices(n)  # with i == j, as OpenMM counts
        sigma, epsilon = (self.sigmas[i] + self.sigmas[j]) / 2, np.sqrt(self.epsilons[i] * self.epsilons[j])
        c12, c6 = (epsilon * sigma**12).mean(), (epsilon * sigma**6).mean()
        rc = self.cutoff
        integral = c12 / (9 * rc**9) - c6 / (3 * rc**3)
        if self.switching is not None:
            integral += quad(
                lambda r: (1 - self._switch(r)) * (c12 / r**12 - c6 / r**6) * r * r, self.switching, rc, epsabs=1e-14
            )[0]
        return 8 * math.pi * n * n / np.linalg.det(box) * integral

    def _coulomb(self, x, box):
        """All pairs but the exceptions; periodic: Ewald's sum in a neutralizing background."""
        q = self.charges
        if box is None:
            i, j, r = self._pairs(x, box)
            return K_E * (q[i] * q[j] / r).sum()
        volume = np.linalg.det(box)
        alpha = 6.0 / box.diagonal().min()  # erfc(6) = 2e-17 at the nearest image that is left out
        energy = 0.0
        # Real space: all pairs in the cell and the 26 around it; every particle with its own images once.
        i, j = np.triu_indices(len(q), 1)
        d = nearest_image(x[i] - x[j], box)
        for shift in lattice(box):
            r = np.linalg.norm(d + shift, axis=1)
            energy += (q[i] * q[j] * erfc(alpha * r) / r).sum()
            if shift.any():
                r = np.linalg.norm(shift)
                energy += (q * q).sum() / 2 * erfc(alpha * r) / r
        # Reciprocal space, up to exp(-36) = 2e-16.
        inverse = 2 * math.pi * np.linalg.inv(box).T  # rows: reciprocal vectors
        reach = [math.ceil(12 * alpha * np.linalg.norm(v) / (2 * math.pi)) for v in box]
        n = np.array(list(itertools.product(*(range(-m, m + 1) for m in reach))))
        k = n[len(n) // 2 + 1 :] @ inverse  # one of each pair k, -k
        square = (k * k).sum(1)
        k, square = k[square < (12 * alpha) ** 2], square[square < (12 * alpha) ** 2]
        phase = k @ x.T
        structure = (np.cos(phase) @ q) ** 2 + (np.sin(phase) @ q) ** 2
        energy += 4 * math.pi / volume * (np.exp(-square / (4 * alpha**2)) / square * structure).sum()
        energy -= alpha / math.sqrt(math.pi) * (q * q).sum()
        energy -= math.pi / (2 * alpha**2 * volume) * q.sum() ** 2
        # The sums above hold the nearest image of each excluded pair.
        for a, b in self.exceptions:
            r = np.linalg.norm(nearest_image(x[a] - x[b], box))
            energy -= q[a] * q[b] / r
        return K_E * energy
