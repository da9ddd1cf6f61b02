"""The fixed charges of the QM atoms: those of the force field, or mean Mulliken charges computed on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import openmm
from openmm import app, unit

from .._units import CHARGE
from ._parts import find_corrector
from .cuts import Cut
from .graph import neighbour_lists

_SAMPLES = 20
_STEPS_BETWEEN = 10
_STEP = 0.0005  # ps
_TEMPERATURE = 300.0  # K


def mulliken_charges(
    topology: app.Topology,
    qm: Sequence[int],
    cuts: Sequence[Cut],
    total: int,
    positions,
    build: Callable[[Sequence[float]], openmm.System],
) -> list[float]:
    """Mean Mulliken charges of the QM atoms in their surroundings.

    The charges of a first calculation at the given positions make a QM/MM System, in which 0.1 ps of Langevin dynamics
    at 300 K give 20 more. The charge of a link hydrogen goes to its QM host, and atoms that the bonds do not tell apart
    have the same charge.

    Parameters
    ----------
    topology : Topology
        of the whole system
    qm : sequence of int
        indices of the QM atoms
    cuts : sequence of Cut
        the cut bonds, in the order of the link atoms
    total : int
        charge of the QM region
    positions : array or Quantity
        of all particles (nm), a reasonable structure
    build : function
        makes the QM/MM System from the fixed charges of the QM atoms

    Returns
    -------
    list of float
        a charge (e) for each QM atom; they add up to ``total``

    Raises
    ------
    ValueError
        If xTB or the dynamics fail at these positions.
    """
    classes = _equivalence_classes(topology, qm, cuts)
    start = [total / len(qm)] * len(qm)
    try:
        with _Run(build(start), positions) as run:
            charges = _fold(run.charges(), qm, cuts, classes, total)
        with _Run(build(charges), positions) as run:
            run.context.setVelocitiesToTemperature(_TEMPERATURE, 1)
            sampled = []
            for _ in range(_SAMPLES):
                run.integrator.step(_STEPS_BETWEEN)
                sampled.append(run.charges())
    except openmm.OpenMMException as e:
        raise ValueError(
            f"Mulliken charges could not be computed from a short run that starts at the given positions: {e} "
            "Minimize and equilibrate them with the force field first, or give the charges of the QM atoms as a list."
        ) from e
    return _fold(np.mean(sampled, axis=0), qm, cuts, classes, total)


class _Run:
    """A Context on the fastest platform for the CPU, gone at the end of the with statement."""

    def __init__(self, system: openmm.System, positions):
        for i in reversed(range(system.getNumForces())):
            # The box stays as it is.
            if "Barostat" in type(system.getForce(i)).__name__:
                system.removeForce(i)
        self.xtb = find_corrector(system)
        self.integrator = openmm.LangevinMiddleIntegrator(_TEMPERATURE, 5.0, _STEP)
        self.integrator.setRandomNumberSeed(1)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, self.integrator, platform, {"DeterministicForces": "true"})
        self.context.setPositions(positions)
        self.context.computeVirtualSites()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_) -> None:
        del self.context

    def charges(self) -> np.ndarray:
        return np.array(self.xtb.getPartialCharges(self.context).value_in_unit(CHARGE))


def _fold(charges: np.ndarray, qm: Sequence[int], cuts: Sequence[Cut], classes: list[int], total: int) -> list[float]:
    """Charges of the QM atoms from those of QM and link atoms."""
    result = np.array(charges[: len(qm)])
    place = {atom: k for k, atom in enumerate(qm)}
    for cut, charge in zip(cuts, charges[len(qm) :], strict=True):
        result[place[cut.qm]] += charge
    labels = np.array(classes)
    for label in set(classes):
        result[labels == label] = result[labels == label].mean()
    return list(result + (total - result.sum()) / len(result))


def _equivalence_classes(topology: app.Topology, qm: Sequence[int], cuts: Sequence[Cut]) -> list[int]:
    """A number for each QM atom, the same for atoms that cannot be told apart by their bonds (colour refinement)."""
    region = set(qm)
    atoms = list(topology.atoms())
    neighbours = neighbour_lists(topology)
    cut_at = [c.qm for c in cuts]
    labels = {i: (atoms[i].element.atomic_number, cut_at.count(i)) for i in qm}
    for _ in range(len(qm)):
        refined = {i: (labels[i], sorted(labels[j] for j in neighbours[i] if j in region)) for i in qm}
        order = {key: n for n, key in enumerate(sorted({repr(v) for v in refined.values()}))}
        new = {i: order[repr(refined[i])] for i in qm}
        if len(order) == len(set(map(repr, labels.values()))):
            return [new[i] for i in qm]
        labels = new
    return [labels[i] for i in qm]


def given_charges(charges: Sequence, num: int, total: int) -> list[float]:
    """Check charges that the user gave.

    Raises
    ------
    ValueError
        If their number or their sum is not that of the QM region.
    """
    values = [float(q.value_in_unit(CHARGE)) if unit.is_quantity(q) else float(q) for q in charges]
    if len(values) != num:
        raise ValueError(f"Expected {num} charges, one for each QM atom, found {len(values)}.")
    if abs(sum(values) - total) > 1e-4:
        raise ValueError(
            f"The given charges add up to {sum(values):.4f} e, but the charge of the QM region is {total} e; they must be equal."
        )
    return values
