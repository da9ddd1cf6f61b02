"""Errors of a model against the corrector: along runs on the model, on labelled frames, and in the gas phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import openmm
from openmm import app

from ..data.frames import Frames
from ._statistics import Estimate, moments, root_mean_square
from .evaluator import ModelEvaluator
from .runs import ModelRun
from .subject import CheckSubject

_SCATTER = 3000
"""Pairs of force components that are kept for a plot."""


@dataclass
class ErrorReport:
    """Errors on one set of structures.

    Attributes
    ----------
    source : str
        which structures and what is compared
    frames : int
    force : Estimate
        RMSE over the components of the forces on the QM atoms (kJ/mol/nm), at fixed MM charges
    forceSize : float
        rms of the reference itself (kJ/mol/nm)
    byElement : dict of str to Estimate
        the force RMSE for each element's atoms
    energySd : Estimate
        standard deviation of the energy's error (kJ/mol); a constant does not count
    charges : Estimate
        RMSE of dE/dphi (e)
    nearAtoms : Estimate
        RMSE over the components of the forces on near MM atoms (kJ/mol/nm)
    nearSize : float
        rms of the corrector's forces on them (kJ/mol/nm)
    scatter : array of shape (pairs, 2)
        some force components, reference and model (kJ/mol/nm)
    """

    source: str
    frames: int
    force: Estimate
    forceSize: float
    byElement: dict[str, Estimate]
    energySd: Estimate
    charges: Estimate = Estimate(np.nan, np.nan)
    nearAtoms: Estimate = Estimate(np.nan, np.nan)
    nearSize: float = float("nan")
    scatter: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass
class GasFrames:
    """Structures of the molecule alone, labelled by the corrector's method.

    Attributes
    ----------
    positions, forces : lists of arrays of shape (frames, n, 3)
        one array for each run (nm, kJ/mol/nm)
    energies : list of arrays of shape (frames,)
        kJ/mol
    charges : list of arrays of shape (frames, n)
        Mulliken charges (e)
    failures : int
        structures for which there was no label
    """

    positions: list[np.ndarray]
    energies: list[np.ndarray]
    forces: list[np.ndarray]
    charges: list[np.ndarray]
    failures: int = 0

    def __len__(self) -> int:
        return sum(len(e) for e in self.energies)


def measureRunErrors(subject: CheckSubject, runs: Sequence[ModelRun]) -> ErrorReport:
    """The errors along runs on the model: what its dynamics really meets.

    Forces are those of the two force groups on particles: link hydrogens have passed theirs on.
    """
    species = subject.region.species[: len(subject.region.particles)]
    report = _compare(
        "along runs on the model, embedded",
        species,
        [r.correctorForces for r in runs],
        [r.modelForces for r in runs],
        [r.D for r in runs],
    )
    report.nearAtoms = root_mean_square([r.nearErrors for r in runs], [r.nearCounts for r in runs])
    report.nearSize = root_mean_square([r.nearForces for r in runs], [r.nearCounts for r in runs]).value
    return report


def measureFrameErrors(subject: CheckSubject, frames: Frames, name: str = "frames that were given") -> ErrorReport:
    """The errors on labelled frames, such as a data set's held-out ones.

    Parameters
    ----------
    subject : CheckSubject
    frames : Frames
        of the same region, atoms in the order of the System's XtbForce
    name : str
        what to call them

    Raises
    ------
    ValueError
        If the frames are of another number of atoms, or there are none.
    """
    if not len(frames) or frames.positions.shape[1] != subject.region.numAtoms:
        raise ValueError(
            f"Expected frames of {subject.region.numAtoms} atoms, found {len(frames)} frames of {frames.positions.shape[1]}."
        )
    frames = subject.inModelOrder(frames)
    evaluate = ModelEvaluator(subject)
    numbers = sorted(set(frames.trajectories.tolist()))
    parts = [frames[frames.trajectories == number] for number in numbers]
    forces, differences, charges = [], [], []
    for part in parts:
        labels = [evaluate(x, phi) for x, phi in zip(part.positions, part.potentials, strict=True)]
        q = np.array([label[2] for label in labels])
        at_fixed_charges = np.array([label[1] for label in labels]) - q[..., None] * part.potentialGradients
        forces.append(at_fixed_charges)
        differences.append(part.energies - np.array([label[0] for label in labels]))
        charges.append(q - part.charges)
    report = _compare(name, subject.region.species, [p.forces for p in parts], forces, differences)
    if "phi" in subject.contract.inputs:
        report.charges = _rmse(charges)
    return report


def labelGasPhase(subject: CheckSubject, runs: Sequence[ModelRun], frames: int = 200) -> GasFrames:
    """Label the molecules of runs by the corrector's method without anything around them."""
    reference = subject.gasPhase(subject.region.method)
    result = GasFrames([], [], [], [])
    for run in runs:
        wanted = min(len(run.positions), max(1, frames // len(runs)))
        chosen = run.positions[np.unique(np.linspace(0, len(run.positions) - 1, wanted).astype(int))] if wanted else []
        labels = []
        for x in chosen:
            try:
                energy, force = reference(x)
                labels.append((x, energy, force, reference.charges()))
            except openmm.OpenMMException:
                result.failures += 1
        if labels:
            columns = [np.array(column) for column in zip(*labels, strict=True)]
            lists = (result.positions, result.energies, result.forces, result.charges)
            for target, column in zip(lists, columns, strict=True):
                target.append(column)
    return result


def measureGasErrors(subject: CheckSubject, gas: GasFrames) -> ErrorReport:
    """The intramolecular errors: the molecule alone, the model with phi = 0."""
    model = subject.gasPhase()
    labels = [[model(x) for x in part] for part in gas.positions]
    report = _compare(
        "the same molecules in the gas phase",
        subject.region.species,
        gas.forces,
        [np.array([force for _, force in part]) for part in labels],
        [e - np.array([energy for energy, _ in part]) for e, part in zip(gas.energies, labels, strict=True)],
    )
    if "phi" in subject.contract.inputs:
        evaluate = ModelEvaluator(subject)
        phi = np.zeros(subject.region.numAtoms)
        report.charges = _rmse(
            [np.array([evaluate(x, phi)[2] for x in xs]) - q for xs, q in zip(gas.positions, gas.charges, strict=True)]
        )
    return report


def measureBaseline(subject: CheckSubject, gas: GasFrames, method: str = "GFN-FF") -> ErrorReport:
    """The errors of a method that needs no training, on the same gas-phase structures.

    Parameters
    ----------
    subject : CheckSubject
    gas : GasFrames
    method : str
        of XtbForce

    Raises
    ------
    OpenMMException
        If the method cannot describe the molecule.
    """
    other = subject.gasPhase(method)
    other(subject.molecule(subject.starts[0]))  # GFN-FF takes its topology from the first structure
    labels = [[other(x) for x in part] for part in gas.positions]
    return _compare(
        f"{method}, gas phase, same structures",
        subject.region.species,
        gas.forces,
        [np.array([force for _, force in part]) for part in labels],
        [e - np.array([energy for energy, _ in part]) for e, part in zip(gas.energies, labels, strict=True)],
    )


def _compare(source: str, species: Sequence[int], reference, model, differences) -> ErrorReport:
    """Errors from lists over runs: forces (frames, atoms, 3), differences of energies (frames,)."""
    squares = [((a - b) ** 2).sum(axis=2) for a, b in zip(reference, model, strict=True)]
    numbers = np.asarray(species)
    by_element = {}
    for number in sorted(set(species)):
        of_element = numbers == number
        by_element[app.Element.getByAtomicNumber(number).symbol] = root_mean_square(
            [s[:, of_element].sum(axis=1) for s in squares], [np.full(len(s), 3 * of_element.sum()) for s in squares]
        )
    count = [np.full(len(s), 3 * len(numbers)) for s in squares]
    pairs = np.column_stack(
        [np.concatenate([np.ravel(f) for f in forces]) if len(forces) else [] for forces in (reference, model)]
    )
    kept = np.linspace(0, len(pairs) - 1, min(_SCATTER, len(pairs))).astype(int)
    return ErrorReport(
        source,
        sum(len(s) for s in squares),
        root_mean_square([s.sum(axis=1) for s in squares], count),
        root_mean_square([(f**2).sum(axis=(1, 2)) for f in reference], count).value,
        by_element,
        moments(list(differences))[1],
        scatter=pairs[kept],
    )


def _rmse(differences: Sequence[np.ndarray]) -> Estimate:
    """Of arrays (frames, atoms), one for each run."""
    return root_mean_square(
        [(d**2).sum(axis=1) for d in differences], [np.full(len(d), d.shape[1]) for d in differences]
    )
