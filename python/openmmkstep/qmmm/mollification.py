"""The bonds that a mollified impulse resets, found from the topology and a short run."""

from __future__ import annotations

import numpy as np
import openmm
from openmm import app, unit

from .._units import KELVIN, NANOMETER, strip
from ..forces import XtbForce, cast
from .system import CORRECTOR_GROUP

_STEP = 0.0005  # ps
_SAMPLE_STEPS = 8


def findMollification(
    topology: app.Topology, system: openmm.System, positions, temperature=300 * unit.kelvin, picoseconds: float = 2.0
) -> list[tuple[int, int, unit.Quantity]]:
    """Find the X-H bonds of the QM region and their mean lengths, for KStepIntegrator.setMollification().

    The lengths are averages over a short Langevin run on the model, or on xTB itself if the System has no model. They
    need not be exact: another length changes the model's share of the dynamics, never what is sampled by more than
    the difference between model and xTB along the stretch.

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

    Returns
    -------
    list of (int, int, Quantity)
        heavy atom, hydrogen, mean length of each X-H bond in the QM region; constrained bonds are left out, since
        they have their length already

    Raises
    ------
    ValueError
        If the System has no XtbForce.
    """
    xtb = next((f for f in map(cast, system.getForces()) if isinstance(f, XtbForce)), None)
    if xtb is None:
        raise ValueError("Expected a System with an XtbForce, as createQMMMSystem() makes, found none.")
    region = set(xtb.getParticles())
    constrained = {tuple(sorted(system.getConstraintParameters(i)[:2])) for i in range(system.getNumConstraints())}
    bonds = []
    for bond in topology.bonds():
        heavy, light = sorted((bond.atom1, bond.atom2), key=lambda a: a.element is app.element.hydrogen)
        pair = (heavy.index, light.index)
        if light.element is app.element.hydrogen and heavy.element is not app.element.hydrogen:
            if region.issuperset(pair) and tuple(sorted(pair)) not in constrained:
                bonds.append(pair)
    if not bonds:
        return []

    integrator = openmm.LangevinMiddleIntegrator(strip(temperature, KELVIN), 5.0, _STEP)
    has_model = any(f.getForceGroup() not in (0, CORRECTOR_GROUP) for f in system.getForces())
    if has_model:
        integrator.setIntegrationForceGroups(0xFFFFFFFF & ~(1 << CORRECTOR_GROUP))
    context = openmm.Context(system, integrator)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(temperature)
    heavy, light = np.array(bonds).T
    samples = max(2, round(strip(picoseconds, unit.picosecond) / (_STEP * _SAMPLE_STEPS)))
    lengths = np.zeros(len(bonds))
    for i in range(samples):
        integrator.step(_SAMPLE_STEPS)
        if i >= samples // 2:  # the first half equilibrates
            x = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
            lengths += np.linalg.norm(x[light] - x[heavy], axis=1)
    lengths /= samples - samples // 2
    return [(a, b, float(r) * NANOMETER) for (a, b), r in zip(bonds, lengths, strict=True)]
