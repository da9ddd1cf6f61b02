"""Temperatures of parts of a system, with the right number of degrees of freedom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openmm
from openmm import app, unit

from .._units import GAS_CONSTANT, KELVIN, NANOMETER, PICOSECOND
from ..forces import QMRegionForce, cast
from ..integrator import KStepIntegrator


def qmRegions(system: openmm.System) -> dict[str, list[int]]:
    """Divide a System into 'QM', the particles of its XtbForces and KStepModelForces, and 'MM', all others that have mass.

    Parts without particles are left out; without such forces there is only 'MM'.
    """
    masses = _masses(system)
    qm: set[int] = set()
    for force in map(cast, system.getForces()):
        if isinstance(force, QMRegionForce):
            qm.update(i for i in force.getParticles() if masses[i] > 0)
    regions = {"QM": sorted(qm), "MM": [i for i in range(len(masses)) if masses[i] > 0 and i not in qm]}
    return {name: particles for name, particles in regions.items() if particles}


def byElement(topology: app.Topology, particles: Sequence[int], prefix: str = "") -> dict[str, list[int]]:
    """Divide particles by element, for temperatures() and KStepReporter.

    Parameters
    ----------
    topology : Topology
        of the whole system
    particles : sequence of int
        the particles to divide; those without an element (virtual sites) are left out
    prefix : str
        put before each element's symbol: with 'QM' the names are 'QM H', 'QM C'...

    Returns
    -------
    dict of str to list of int
        in the order in which the elements first occur
    """
    atoms = list(topology.atoms())
    result: dict[str, list[int]] = {}
    for i in particles:
        if atoms[i].element is not None:
            result.setdefault(f"{prefix} {atoms[i].element.symbol}".strip(), []).append(int(i))
    return result


def degreesOfFreedom(system: openmm.System, particles: Sequence[int], positions=None) -> float:
    """Count the degrees of freedom of some particles.

    Three for every particle with mass, less the constraints, less three times the particles' share of the mass where a
    CMMotionRemover is in the System. Massless particles and virtual sites have none.

    Parameters
    ----------
    system : System
    particles : sequence of int
    positions : array of shape (particles of the System, 3) or Quantity, optional
        positions (nm) that fulfil the constraints. A constraint within ``particles`` always takes away one degree of
        freedom. Of one that leads out of them, half is counted without positions. With positions it is the exact share
        in the kinetic energy: a light atom bears nearly all of a constraint to a heavy one, so elements of molecules
        with constraints need that.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a particle occurs twice or is not in the System.
    """
    inside, masses = set(map(int, particles)), _masses(system)
    if len(inside) != len(particles) or not inside <= set(range(len(masses))):
        raise ValueError(
            f"Expected different particles with indices from 0 to {len(masses) - 1}; one occurs twice or is out of range."
        )
    result = 3.0 * sum(masses[i] > 0 for i in inside)
    for pairs in _coupled_constraints(system, masses):
        ends = [sum(i in inside for i in pair) for pair in pairs]
        if positions is None or all(n == 2 for n in ends) or not any(ends):
            result -= sum(ends) / 2
        else:
            if unit.is_quantity(positions):
                positions = positions.value_in_unit(NANOMETER)
            result -= _share(pairs, inside, masses, np.asarray(positions))
    if any(isinstance(f, openmm.CMMotionRemover) for f in system.getForces()):
        result -= 3 * sum(masses[i] for i in inside) / masses.sum()
    return result


def countFreedom(context: openmm.Context, regions: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Count the degrees of freedom of each region at the present positions; see degreesOfFreedom().

    Raises
    ------
    ValueError
        If a region has none.
    """
    positions = context.getState(positions=True).getPositions(asNumpy=True)
    freedom = {name: degreesOfFreedom(context.getSystem(), p, positions) for name, p in regions.items()}
    for name, number in freedom.items():
        if not number > 1e-6:
            raise ValueError(f"The region '{name}' has no degrees of freedom, so it has no temperature; leave it out.")
    return freedom


def temperatures(
    context: openmm.Context, regions: Mapping[str, Sequence[int]], freedom: Mapping[str, float] | None = None
) -> dict[str, unit.Quantity]:
    """Compute the temperature of each region from the present velocities.

    With KStepIntegrator these are its half-step velocities, whose kinetic energy is not biased by the step size; with
    other integrators the State's velocities. Costs no xTB call.

    Parameters
    ----------
    context : Context
    regions : dict of str to sequence of int
        a name and the particles of each region; regions may overlap
    freedom : dict of str to float, optional
        the degrees of freedom of each region if they are known already, from countFreedom()

    Returns
    -------
    dict of str to Quantity

    Raises
    ------
    ValueError
        If a region has no degrees of freedom.
    """
    system = context.getSystem()
    freedom = countFreedom(context, regions) if freedom is None else freedom
    integrator = current_integrator(context)
    if isinstance(integrator, KStepIntegrator):
        velocities = integrator.computeHalfStepVelocities()
    else:
        velocities = context.getState(velocities=True).getVelocities(asNumpy=True)
    squares = _masses(system) * (velocities.value_in_unit(NANOMETER / PICOSECOND) ** 2).sum(axis=1)
    result = {}
    for name, particles in regions.items():
        result[name] = squares[list(particles)].sum() / (freedom[name] * GAS_CONSTANT) * KELVIN
    return result


def current_integrator(context: openmm.Context) -> openmm.Integrator:
    """The integrator that moves a Context, of a CompoundIntegrator its current one, as an object of its class."""
    integrator = context.getIntegrator()
    if isinstance(integrator, openmm.CompoundIntegrator):
        integrator = integrator.getIntegrator(integrator.getCurrentIntegrator())
    return cast(integrator)


def _masses(system: openmm.System) -> np.ndarray:
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])


def _coupled_constraints(system: openmm.System, masses: np.ndarray) -> list[list[tuple[int, int]]]:
    """The constraints, in groups that share no particle with one another, without those between frozen particles."""
    parent = list(range(system.getNumParticles()))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    pairs = [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())]
    pairs = [pair for pair in pairs if masses[pair[0]] > 0 and masses[pair[1]] > 0]
    for i, j in pairs:
        parent[root(i)] = root(j)
    groups: dict[int, list[tuple[int, int]]] = {}
    for pair in pairs:
        groups.setdefault(root(pair[0]), []).append(pair)
    return list(groups.values())


def _share(pairs, inside: set[int], masses: np.ndarray, positions: np.ndarray) -> float:
    """How many degrees of freedom coupled constraints take from the particles inside.

    In mass-weighted velocities the constraints span a space with the projector P = A^T (A A^T)^-1 A, A the gradients
    divided by the square root of the mass. A particle loses the trace of its part of P.
    """
    atoms = sorted({i for pair in pairs for i in pair})
    A = np.zeros((len(pairs), len(atoms), 3))
    for row, (i, j) in zip(A, pairs, strict=True):
        d = positions[i] - positions[j]
        row[atoms.index(i)], row[atoms.index(j)] = d, -d
    A *= masses[atoms][:, None] ** -0.5
    A = A.reshape(len(pairs), -1)
    traces = np.diag(np.linalg.pinv(A) @ A).reshape(-1, 3).sum(axis=1)
    return float(sum(t for t, atom in zip(traces, atoms, strict=True) if atom in inside))
