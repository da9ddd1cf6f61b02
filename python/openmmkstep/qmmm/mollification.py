"""The bonds and angles that a mollified impulse resets, found from the topology and a short run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from .._units import KELVIN, NANOMETER, RADIAN, strip
from ..contract import readContract
from ..covalent import findReactivePairs
from ..forces import KStepModelForce, cast
from ._geometry import minimum_image
from ._parts import find_corrector
from .box import box_vectors
from .terms import CORRECTOR_GROUP

_STEP = 0.0005  # ps
_SAMPLE_STEPS = 8
_STRAIGHT = np.radians(160)


class Mollification(NamedTuple):
    """What deep mollification resets, for KStepIntegrator.setMollification() and setMollifiedAngles().

    Attributes
    ----------
    bonds : list of (int, int, Quantity)
        end that stays, end that moves, mean length of each bond of a tree over the QM region, from its root outwards
    angles : list of (int, int, int, Quantity)
        hydrogen, centre, neighbour of the centre, mean angle
    """

    bonds: list[tuple[int, int, unit.Quantity]]
    angles: list[tuple[int, int, int, unit.Quantity]]


def findMollification(
    topology: app.Topology,
    system: openmm.System,
    positions,
    temperature=300 * unit.kelvin,
    picoseconds: float = 2.0,
    deep: bool = False,
    qmAtoms: Iterable[int] | None = None,
) -> list[tuple[int, int, unit.Quantity]] | Mollification:
    """Find what a mollified impulse resets, for KStepIntegrator.setMollification() and setMollifiedAngles().

    The bonds to hydrogen make h = 4 fs possible (5 fs with hydrogens of 3 u). Deep mollification, which resets all bonds
    and the bends of hydrogens, allows 6 to 8 fs, at the price of a larger bias; see
    KStepIntegrator.computeMollificationBias().

    Lengths and angles are averages over a short Langevin run on the model, or on xTB itself if the System has no model.
    They need not be exact: another value changes the model's share of the dynamics, never what is sampled by more than
    the difference between model and xTB along the stretch.

    A bond that a reaction makes or breaks has no fixed length: bonds that do so in the training data of the System's model
    (findReactivePairs()), and those of a hydrogen with several heavy neighbours, are left out. The integrator's check for
    resonances then says what the hydrogen in question allows.

    Parameters
    ----------
    topology : Topology
        says which bonds there are
    system : System
        what createQMMMSystem() returned
    positions : array of Vec3 or Quantity
        a reasonable structure (nm)
    temperature : float or Quantity
        of the run (K)
    picoseconds : float
        its length
    deep : bool
        whether to find all bonds and the angles of hydrogens instead of the bonds to hydrogen alone
    qmAtoms : iterable of int, optional
        the QM region, where the corrector is another force than XtbForce; by default the particles of the XtbForce

    Returns
    -------
    list of (int, int, Quantity)
        without ``deep``: heavy atom, hydrogen, mean length of each X-H bond in the QM region; constrained bonds are
        left out, since they have their length already
    Mollification
        with ``deep``: the bonds of a spanning tree of each QM molecule, from its most central heavy atom outwards
        (bonds that close rings are left out, constrained bonds keep their length), and one angle for each hydrogen,
        against the centre's neighbour on the way to the root; nearly straight angles (above 160 degrees) and angles
        between constrained bonds are left out

    Raises
    ------
    ValueError
        If the System has no XtbForce, and no qmAtoms are given.
    """
    if qmAtoms is None:
        try:
            qmAtoms = find_corrector(system).getParticles()
        except ValueError as e:
            raise ValueError(f"{e} Where the corrector is another force, give qmAtoms.") from e
    region = set(qmAtoms)
    atoms = {a.index: a for a in topology.atoms() if a.index in region}
    hydrogens = {i for i, a in atoms.items() if a.element is app.element.hydrogen}
    neighbours: dict[int, list[int]] = {i: [] for i in sorted(region)}
    pairs = {frozenset((b.atom1.index, b.atom2.index)) for b in topology.bonds()}
    pairs = {p for p in pairs if p <= region}
    shared = [h for h in hydrogens if sum(h in p and not p <= hydrogens for p in pairs) > 1]
    changing = _reactive_bonds(system) | {p for p in pairs if p.intersection(shared)}
    for bond in topology.bonds():
        a, b = bond.atom1.index, bond.atom2.index
        if a in region and b in region and frozenset((a, b)) not in changing:
            neighbours[a].append(b)
            neighbours[b].append(a)
    constraints = {}
    for i in range(system.getNumConstraints()):
        a, b, length = system.getConstraintParameters(i)
        constraints[frozenset((a, b))] = length.value_in_unit(NANOMETER)

    if deep:
        bonds = _spanning_trees(neighbours, hydrogens)
        angles = _hydrogen_angles(bonds, neighbours, hydrogens)
        angles = [a for a in angles if frozenset((a[0], a[2])) not in constraints]
    else:
        bonds = [
            (heavy, light)
            for light in sorted(hydrogens)
            for heavy in neighbours[light]
            if heavy not in hydrogens and frozenset((heavy, light)) not in constraints
        ]
        angles = []
    if not bonds:
        return Mollification([], []) if deep else []

    lengths, mean_angles, widest = _mean_geometry(system, positions, temperature, picoseconds, bonds, angles)
    lengths = [constraints.get(frozenset(pair), r) for pair, r in zip(bonds, lengths, strict=True)]
    result = [(a, b, float(r) * NANOMETER) for (a, b), r in zip(bonds, lengths, strict=True)]
    if not deep:
        return result
    found = zip(angles, mean_angles, widest, strict=True)
    return Mollification(result, [(*atoms, float(mean) * RADIAN) for atoms, mean, wide in found if wide < _STRAIGHT])


def _reactive_bonds(system: openmm.System) -> set[frozenset[int]]:
    """The pairs of particles that are bonded in a part of the training data of the System's models."""
    found = set()
    for force in map(cast, system.getForces()):
        if isinstance(force, KStepModelForce):
            contract, particles = readContract(force.getModelData()), force.getParticles()
            pairs = findReactivePairs(contract.species, contract.bonds, contract.distanceRanges)
            found |= {frozenset(particles[i] for i in p) for p in pairs if max(p) < len(particles)}
    return found


def _spanning_trees(neighbours: dict[int, list[int]], hydrogens: set[int]) -> list[tuple[int, int]]:
    """The bonds (nearer to the root, further) of a breadth-first tree over each molecule, in tree order."""
    bonds, seen = [], set()
    for start in neighbours:
        if start in seen:
            continue
        molecule = [start, *(child for _, child in _tree(neighbours, start))]
        seen.update(molecule)
        # A root in the middle keeps subtrees small: what is reset far out moves little else.
        candidates = [i for i in molecule if i not in hydrogens] or molecule
        root = min(candidates, key=lambda i: (_depth(neighbours, i), i))
        bonds += _tree(neighbours, root)
    return bonds


def _tree(neighbours: dict[int, list[int]], root: int) -> list[tuple[int, int]]:
    bonds, seen, queue = [], {root}, deque([root])
    while queue:
        atom = queue.popleft()
        for other in neighbours[atom]:
            if other not in seen:
                seen.add(other)
                bonds.append((atom, other))
                queue.append(other)
    return bonds


def _depth(neighbours: dict[int, list[int]], root: int) -> int:
    depths = {root: 0}
    for parent, child in _tree(neighbours, root):
        depths[child] = depths[parent] + 1
    return max(depths.values())


def _hydrogen_angles(
    bonds: list[tuple[int, int]], neighbours: dict[int, list[int]], hydrogens: set[int]
) -> list[tuple[int, int, int]]:
    """(hydrogen, centre, reference) for each terminal hydrogen whose centre has another neighbour."""
    parents = {child: parent for parent, child in bonds}
    angles = []
    for hydrogen, centre in parents.items():
        if hydrogen not in hydrogens or len(neighbours[hydrogen]) != 1:
            continue
        if centre in parents:
            reference = parents[centre]
        else:
            # At the root: a heavy neighbour, or else (water, methane) the first hydrogen.
            reference = min(neighbours[centre], key=lambda i: (i in hydrogens, i))
        if reference != hydrogen:
            angles.append((hydrogen, centre, reference))
    return angles


def _mean_geometry(system, positions, temperature, picoseconds, bonds, angles):
    """Mean bond lengths (nm), mean angles (rad) and the largest value of each angle in a short Langevin run."""
    integrator = openmm.LangevinMiddleIntegrator(strip(temperature, KELVIN), 5.0, _STEP)
    integrator.setRandomNumberSeed(1)
    has_model = any(f.getForceGroup() not in (0, CORRECTOR_GROUP) for f in system.getForces())
    if has_model:
        integrator.setIntegrationForceGroups(0xFFFFFFFF & ~(1 << CORRECTOR_GROUP))
    context = openmm.Context(system, integrator)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(temperature, 1)
    fixed, moving = np.array(bonds).T
    hydrogen, centre, reference = np.array(angles, dtype=int).reshape(-1, 3).T
    samples = max(2, round(strip(picoseconds, unit.picosecond) / (_STEP * _SAMPLE_STEPS)))
    box = box_vectors(system) if system.usesPeriodicBoundaryConditions() else None
    lengths, means, widest = np.zeros(len(bonds)), np.zeros(len(angles)), np.zeros(len(angles))
    for i in range(samples):
        integrator.step(_SAMPLE_STEPS)
        if i >= samples // 2:  # the first half equilibrates
            x = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
            lengths += np.linalg.norm(minimum_image(x[moving] - x[fixed], box), axis=1)
            arm = minimum_image(x[hydrogen] - x[centre], box)
            other = minimum_image(x[reference] - x[centre], box)
            cosine = (arm * other).sum(axis=1) / np.linalg.norm(arm, axis=1) / np.linalg.norm(other, axis=1)
            found = np.arccos(np.clip(cosine, -1, 1))
            means += found
            widest = np.maximum(widest, found)
    return lengths / (samples - samples // 2), means / (samples - samples // 2), widest
