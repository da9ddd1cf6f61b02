"""Interpolation between a force-field System and a QM/MM one, by openmm-ml's global parameter."""

from __future__ import annotations

import copy

import openmm

from ..forces import cast
from ..region_force import QMRegionForce

PARAMETER = "lambda_interpolate"
"""openmm-ml's name: 0 is the force field, 1 the mixed system."""


def interpolate_systems(mm: openmm.System, mixed: openmm.System, forceGroup: int) -> openmm.System:
    """A System whose energy is that of ``mm`` times (1-lambda) plus that of ``mixed`` times lambda.

    Forces that both have stay as they are; the others become variables of a CustomCVForce in the given group.

    Parameters
    ----------
    mm : System
        force field
    mixed : System
        made from it: the same forces in the same order, changed or not, and others after them
    forceGroup : int
        of the CustomCVForce

    Returns
    -------
    System
        a copy of ``mixed``, with its particles and constraints
    """
    result = copy.deepcopy(mixed)
    for i in reversed(range(result.getNumForces())):
        result.removeForce(i)
    terms = openmm.CustomCVForce("")
    terms.addGlobalParameter(PARAMETER, 1)
    num = mm.getNumForces()
    changed = [i for i in range(num) if _xml(mm.getForce(i)) != _xml(mixed.getForce(i))]
    # In the CustomCVForce variable n is in force group n; QM forces come first, far from their corrector's group.
    own = sorted(range(num, mixed.getNumForces()), key=lambda i: not isinstance(cast(mixed.getForce(i)), QMRegionForce))
    for kind, system, indices in (("ml", mixed, [*own, *changed]), ("mm", mm, changed)):
        for i in indices:
            terms.addCollectiveVariable(f"{kind}{i}", copy.deepcopy(system.getForce(i)))
    ml = "+".join(f"ml{i}" for i in (*own, *changed))
    terms.setEnergyFunction(f"{PARAMETER}*({ml})+(1-{PARAMETER})*({'+'.join(f'mm{i}' for i in changed) or '0'})")
    terms.setForceGroup(forceGroup)
    for i in range(num):
        if i not in changed:
            result.addForce(copy.deepcopy(mixed.getForce(i)))
    result.addForce(terms)
    return result


def _xml(force: openmm.Force) -> str:
    return openmm.XmlSerializer.serialize(force)
