"""Harmonic frequencies of model and corrector, each at its own minimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app

from ..data.region import findBonds
from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from .subject import CheckSubject, energy_and_forces

Potential = Callable[[np.ndarray], tuple[float, np.ndarray]]
_SPEED_OF_LIGHT = 0.0299792458  # cm/ps
_DISPLACEMENT = 3e-4  # nm
_ACCURACY = 0.01
"""Of xTB's SCF: differences of forces need better ones than dynamics."""
_LARGEST_MOVE = 0.01  # nm
_RESIDUAL = 0.5  # kJ/mol/nm
_GUESS = ((2.5e5, 1), (4e4, 2))
"""Springs (kJ/mol/nm^2) over one and two bonds, to begin with."""


@dataclass
class FrequencyReport:
    """Frequencies in /cm; an imaginary one is negative.

    Attributes
    ----------
    environment : str
        'gas phase' or 'frozen surroundings'
    corrector, model : arrays of shape (modes,)
        in rising order
    overlaps : array of shape (modes,)
        of each of the corrector's modes, the largest overlap with a mode of the model (1: the same motion)
    rms, largest : float
        deviation of the model, modes in rising order
    imaginary : (int, int)
        number of imaginary frequencies of corrector and model
    displacement : float
        root mean square distance (nm) between both minima, superposed in the gas phase
    residuals : (float, float)
        largest force component at each minimum (kJ/mol/nm)
    """

    environment: str
    corrector: np.ndarray
    model: np.ndarray
    overlaps: np.ndarray
    rms: float
    largest: float
    imaginary: tuple[int, int]
    displacement: float
    residuals: tuple[float, float]


def compareFrequencies(subject: CheckSubject, environment: str | None = None) -> FrequencyReport:
    """Minimise on the corrector and, from there, on the model, and compare frequencies.

    Parameters
    ----------
    subject : CheckSubject
    environment : str, optional
        'gas phase': the molecule alone, the model with phi = 0. 'frozen surroundings': in the first structure, where only
        the QM particles move. By default the gas phase, unless the molecule changes its bonds there (as a zwitterion may)

    Raises
    ------
    ValueError
        For an unknown environment.
    OpenMMException
        If a method finds no energy on the way.
    """
    if environment not in (None, "gas phase", "frozen surroundings"):
        raise ValueError(f"Expected the environment 'gas phase' or 'frozen surroundings', found {environment!r}.")
    if environment != "frozen surroundings":
        start, species = subject.molecule(subject.starts[0]), subject.region.species
        masses = np.array([app.Element.getByAtomicNumber(z).mass._value for z in species])
        corrector, model = subject.gasPhase(subject.region.method, _ACCURACY), subject.gasPhase()
        minimum, residual = minimize(corrector, start, subject.region.bonds)
        if environment is not None or findBonds(species, minimum) == findBonds(species, start):
            return _compare(subject, "gas phase", corrector, model, minimum, residual, masses)
    particles = list(subject.region.particles)
    masses = np.array([app.Element.getByAtomicNumber(z).mass._value for z in subject.region.species[: len(particles)]])
    corrector, model = (_frozen(subject, group) for group in (MODEL_GROUP, CORRECTOR_GROUP))
    bonds = [b for b in subject.region.bonds if max(b) < len(particles)]
    minimum, residual = minimize(corrector, subject.starts[0][particles], bonds)
    return _compare(subject, "frozen surroundings", corrector, model, minimum, residual, masses)


def _frozen(subject: CheckSubject, left_out: int) -> Potential:
    """Energy and forces of the QM particles with all others at the first structure, without one force group."""
    context = subject.context(openmm.VerletIntegrator(0.001))
    particles, groups = list(subject.region.particles), 0xFFFFFFFF & ~(1 << left_out)
    everything = subject.starts[0].copy()

    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        everything[particles] = positions
        context.setPositions(everything)
        context.computeVirtualSites()
        energy, forces = energy_and_forces(context, groups)
        return energy, forces[particles]

    return evaluate


def _compare(subject, environment, corrector, model, minimum, residual, masses) -> FrequencyReport:
    free = environment == "gas phase"
    bonds = [b for b in subject.region.bonds if max(b) < len(minimum)]
    other, other_residual = minimize(model, minimum, bonds)
    first, modes = normalModes(corrector, minimum, masses, free)
    second, other_modes = normalModes(model, other, masses, free)
    if free:
        other, turn = _superpose(other, minimum, masses)
        other_modes = np.einsum("ij,ajm->aim", turn, other_modes.reshape(len(masses), 3, -1)).reshape(modes.shape)
    difference = second - first
    return FrequencyReport(
        environment,
        first,
        second,
        np.abs(modes.T @ other_modes).max(axis=1),
        float(np.sqrt((difference**2).mean())),
        float(difference[np.abs(difference).argmax()]),
        (int((first < 0).sum()), int((second < 0).sum())),
        float(np.sqrt(((other - minimum) ** 2).sum(axis=1).mean())),
        (residual, other_residual),
    )


def minimize(potential: Potential, start: np.ndarray, bonds, iterations: int = 400) -> tuple[np.ndarray, float]:
    """Follow the forces to the nearest minimum by BFGS, with springs along the bonds as the first Hessian.

    Parameters
    ----------
    potential : callable
        positions (n, 3) (nm) -> energy (kJ/mol), forces (n, 3)
    start : array of shape (n, 3)
        nm
    bonds : sequence of (int, int)
    iterations : int
        most steps to make

    Returns
    -------
    (array, float)
        positions (n, 3) and the largest force component there (kJ/mol/nm)
    """
    x = np.array(start, dtype=float)
    guess = np.linalg.inv(_spring_hessian(x, bonds))
    inverse = guess
    energy, force = potential(x)
    for _ in range(iterations):
        if np.abs(force).max() < _RESIDUAL:
            break
        step = (inverse @ force.ravel()).reshape(-1, 3)
        step *= min(1.0, _LARGEST_MOVE / np.abs(step).max())
        for _ in range(12):
            new_energy, new_force = potential(x + step)
            if new_energy <= energy + 1e-6:
                break
            step = step / 2
        else:
            if inverse is guess:  # no way down: numerical noise
                break
            inverse = guess
            continue
        s, y = step.ravel(), (force - new_force).ravel()
        if s @ y > 1e-12:
            w = inverse @ y
            rank = 1 / (s @ y)
            inverse = inverse - rank * (np.outer(s, w) + np.outer(w, s)) + (rank**2 * (y @ w) + rank) * np.outer(s, s)
        x, energy, force = x + step, new_energy, new_force
    return x, float(np.abs(force).max())


def _spring_hessian(x: np.ndarray, bonds) -> np.ndarray:
    n = len(x)
    linked = np.zeros((n, n), dtype=int)
    for a, b in bonds:
        linked[a, b] = linked[b, a] = 1
    distance = np.where(linked, 1, np.where((linked @ linked > 0) & ~np.eye(n, dtype=bool), 2, 0))
    hessian = 3000.0 * np.eye(3 * n).reshape(n, 3, n, 3)
    for spring, apart in _GUESS:
        for a, b in zip(*np.nonzero(np.triu(distance == apart)), strict=True):
            u = (x[a] - x[b]) / np.linalg.norm(x[a] - x[b])
            block = spring * np.outer(u, u)
            hessian[a, :, a] += block
            hessian[b, :, b] += block
            hessian[a, :, b] -= block
            hessian[b, :, a] -= block
    return hessian.reshape(3 * n, 3 * n)


def normalModes(
    potential: Potential, positions: np.ndarray, masses: np.ndarray, free: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and modes from central differences of the forces.

    Parameters
    ----------
    potential : callable
        positions (n, 3) (nm) -> energy (kJ/mol), forces (n, 3)
    positions : array of shape (n, 3)
        of a minimum (nm)
    masses : array of shape (n,)
        u
    free : bool
        whether translations and rotations cost nothing; they are left out then

    Returns
    -------
    (array of shape (modes,), array of shape (3n, modes))
        in /cm, rising, imaginary ones negative; orthonormal mass-weighted displacements
    """
    size = positions.size
    hessian = np.zeros((size, size))
    for i in range(size):
        for sign in (1, -1):
            x = positions.copy()
            x.flat[i] += sign * _DISPLACEMENT
            hessian[i] -= sign * potential(x)[1].ravel() / (2 * _DISPLACEMENT)
    root = np.sqrt(np.repeat(masses, 3))
    weighted = (hessian + hessian.T) / 2 / np.outer(root, root)
    basis = _internal_basis(positions, masses) if free else np.eye(size)
    values, vectors = np.linalg.eigh(basis.T @ weighted @ basis)
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) / (2 * np.pi * _SPEED_OF_LIGHT)
    return frequencies, basis @ vectors


def _internal_basis(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted displacements (3n, modes) that neither move nor turn the molecule."""
    root = np.sqrt(masses)[:, None]
    centred = positions - (masses[:, None] * positions).sum(axis=0) / masses.sum()
    rigid = [np.broadcast_to(axis, centred.shape) * root for axis in np.eye(3)]
    rigid += [np.cross(axis, centred) * root for axis in np.eye(3)]
    vectors = np.array(rigid).reshape(6, -1).T
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-12)
    u, sizes, _ = np.linalg.svd(vectors, full_matrices=True)
    return u[:, int((sizes > 1e-3).sum()) :]  # a linear molecule turns in two ways only


def _superpose(x: np.ndarray, target: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x moved and turned onto the target with the smallest mass-weighted distance, and the rotation."""
    weights = masses[:, None] / masses.sum()
    centre, target_centre = (weights * x).sum(axis=0), (weights * target).sum(axis=0)
    u, _, vt = np.linalg.svd((weights * (x - centre)).T @ (target - target_centre))
    turn = (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
    return (x - centre) @ turn.T + target_centre, turn
