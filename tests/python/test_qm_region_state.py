"""XtbForce.computeQMRegion(): against an independent implementation and its finite differences."""

import numpy as np
import openmm
import pytest
from conftest import K_E, energy_of, make_context, make_xtb
from qmmm_reference import QMMMReference, xtb_energy
from small_systems import BOXES, alanine_dipeptide, new_context, water_box, wrapped_at_random

from openmmkstep import XtbForce, cast, createQMMMSystem

RADII = {"switchingDistance": 0.30, "cutoff": 0.55}
STEP = 2e-4  # nm


def potential(x, charges, places, damping):
    """phi_a of each atom."""
    r2 = ((x[:, None] - places[None]) ** 2).sum(2) + damping[:, None] ** 2
    return K_E * (r2**-0.5) @ charges


def differences(function, x):
    """The derivative of a function by each coordinate, by five-point differences."""
    result = np.zeros((*x.shape, *np.shape(function(x))))
    for place in np.ndindex(x.shape):
        for step, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = x.copy()
            moved[place] += step * STEP
            result[place] += weight * np.asarray(function(moved)) / (12 * STEP)
    return result


def region_of(context, damping):
    force = next(f for f in map(cast, context.getSystem().getForces()) if isinstance(f, XtbForce))
    return force.computeQMRegion(context, damping)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("box", [None, "triclinic"])
@pytest.mark.parametrize("qm", [[0, 1, 2], [10, 11, 12, 13]])
def test_energy_forces_and_potential(qm, box):
    radii = RADII if box else {}
    if qm == [0, 1, 2]:
        topology, mm, x = water_box(12, box) if box else water_box(12, "cubic")
        if box is None:
            topology.setPeriodicBoxVectors(None)
            next(f for f in mm.getForces() if isinstance(f, openmm.NonbondedForce)).setNonbondedMethod(0)
    else:
        topology, mm, x = alanine_dipeptide(12, box)
    if box:
        x = wrapped_at_random(topology, x, BOXES[box], 3)
    system = createQMMMSystem(topology, mm, qm, charges="forcefield", **radii)
    reference = QMMMReference(topology, mm, qm, cutoff=radii.get("cutoff"), switching=radii.get("switchingDistance"))
    numbers, atoms, charges, places = reference.qm_input(x, BOXES.get(box))
    damping = np.linspace(0.06, 0.09, len(numbers))
    found = region_of(new_context(system, x), damping)
    if box:
        switches = reference.switches(reference.images(x, BOXES[box]))
        assert ((switches > 0.01) & (switches < 0.99)).any()  # else switching is not tested
    shift = found.positions[0] - atoms[0]  # another image of the whole
    np.testing.assert_allclose(found.positions - shift, atoms, atol=1e-12)
    xtb = xtb_energy(accuracy=0.001)
    assert found.energy == pytest.approx(xtb(numbers, atoms, charges, places), abs=1e-6)
    forces = -differences(lambda y: xtb(numbers, y, charges, places), atoms)
    np.testing.assert_allclose(found.forces, forces, atol=3e-3)
    np.testing.assert_allclose(found.potentials, potential(atoms, charges, places, damping), atol=1e-9)
    gradients = differences(lambda y: potential(y, charges, places, damping), atoms)
    own = np.array([gradients[a, :, a] for a in range(len(atoms))])
    np.testing.assert_allclose(found.potentialGradients, own, atol=1e-5)
    assert found.charges.sum() == pytest.approx(0, abs=1e-6)


def test_no_second_calculation_and_no_charges_around():
    force, x = make_xtb("water", "GFN2-xTB")
    context = make_context([force], len(x), x)
    energy = energy_of(context)
    state = force.computeQMRegion(context)
    assert state.energy == energy
    assert not state.potentials.any() and not state.potentialGradients.any()
    again = force.computeQMRegion(context)
    np.testing.assert_array_equal(again.forces, state.forces)  # a second SCF, warm, would differ in the last digits
    np.testing.assert_array_equal(state.charges, force.getPartialCharges(context)._value)


def test_refusals():
    force, x = make_xtb("water", "GFN2-xTB", [(0.5, (0.38, 0.0, 0.0))])
    context = make_context([force], len(x), x)
    with pytest.raises(openmm.OpenMMException, match="each of the 3 QM atoms.*found 0"):
        force.computeQMRegion(context)
    with pytest.raises(openmm.OpenMMException, match="must be positive"):
        force.computeQMRegion(context, [0.1, 0.1, 0.0])
    with pytest.raises(openmm.OpenMMException, match="1 to 86"):
        XtbForce.getElementHardness("GFN2-xTB", 99)


def test_gfn_ff_has_no_charges():
    force, x = make_xtb("water", "GFN-FF")
    state = force.computeQMRegion(make_context([force], len(x), x))
    assert not state.charges.any() and np.isfinite(state.forces).all()
