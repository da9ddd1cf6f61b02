"""Many calls, many Contexts, many threads; XtbForce as an object of Python."""

import copy
import pickle

import numpy as np
import openmm
import pytest
from conftest import CHARGES, MOLECULES, energy_forces, energy_of, in_threads, make_context, make_xtb, memory
from openmm import unit

import openmmkstep


def grow(method: str, calls: int, **kwargs) -> float:
    """Growth of resident memory in MB over calls, after a warm-up."""
    force, x = make_xtb("bent water", method, accuracy=1, **kwargs)
    # 1e-5 ps: positions change at every step, so that every one is an SCF, but the molecule stays where it is.
    context = make_context(force, len(x), x, openmm.VerletIntegrator(1e-5))
    context.getIntegrator().step(1000)
    start = memory()
    context.getIntegrator().step(calls)
    return memory() - start


@pytest.mark.parametrize("method, charges", [("GFN2-xTB", CHARGES), ("GFN1-xTB", ()), ("GFN-FF", ())])
def test_no_growth(method, charges):
    # A leak of one list of coordinates (72 bytes) in each of the 5000 calls is 0.4 MB, one of libxtb's molecules or
    # results (more than 2 kB) 10 MB. The allocator itself is seen to move by up to about 0.3 MB.
    assert grow(method, 5000, charges=charges) < 2


@pytest.mark.slow
def test_no_growth_over_many_calls():
    assert grow("GFN2-xTB", 100000, charges=CHARGES) < 3


def test_no_growth_over_many_contexts():
    def cycle(times):
        for _ in range(times):
            force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
            energy_of(make_context(force, 6, x))

    cycle(100)
    start = memory()
    cycle(400)
    # A molecule's handles of libxtb are more than 10 kB (basis, overlap, parameters): a leak would show as 4 MB.
    assert memory() - start < 2


def trajectory(name: str, method: str, steps: int = 150) -> np.ndarray:
    force, x = make_xtb(name, method, [] if method == "GFN-FF" else CHARGES)
    context = make_context(force, len(x), x)
    context.getIntegrator().step(steps)
    return energy_forces(context)[1]


CASES = [
    ("water", "GFN2-xTB"),
    ("formaldehyde", "GFN1-xTB"),
    ("bent water", "GFN-FF"),
    ("HCN", "GFN2-xTB"),
    ("formate", "GFN1-xTB"),
]


def test_contexts_do_not_disturb_each_other():
    """Several molecules and methods in turn give bit for bit what each gives alone."""
    expected = [trajectory(*case, steps=20) for case in CASES]
    contexts = []
    for name, method in CASES:
        force, x = make_xtb(name, method, [] if method == "GFN-FF" else CHARGES)
        contexts.append(make_context(force, len(x), x))
    for _ in range(20):
        for context in contexts:
            context.getIntegrator().step(1)
    for context, forces in zip(contexts, expected, strict=True):
        np.testing.assert_array_equal(energy_forces(context)[1], forces)


def test_threads():
    """Contexts in threads of their own (step() releases the GIL) give bit for bit what they give alone."""
    expected = [trajectory(*case) for case in CASES]
    for result, forces in zip(in_threads(trajectory, CASES), expected, strict=True):
        np.testing.assert_array_equal(result, forces)


def test_qm_atoms_are_one_molecule():
    force = openmmkstep.XtbForce("GFN2-xTB", [3, 1, 4], MOLECULES["water"][0])
    context = make_context(force, 6)
    assert sorted(sorted(m) for m in context.getMolecules()) == [[0], [1, 3, 4], [2], [5]]


def test_particles_in_any_order():
    """Indices of the QM atoms and charges need not be sorted or dense."""
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES, [-0.8, 0.5, 0.3])
    energy, forces = energy_forces(make_context(force, 6, x))
    order = [5, 0, 7, 2, 8, 3]  # particle of each atom and charge
    force = openmmkstep.XtbForce("GFN2-xTB", order[:3], MOLECULES["water"][0])
    force.setAccuracy(0.01)
    for j, (q, _) in enumerate(CHARGES):
        force.addEmbeddingCharge(order[3 + j], q)
    for a, q in enumerate([-0.8, 0.5, 0.3]):
        force.setFixedCharge(a, q)
    positions = np.full((9, 3), 4.0)
    positions[order] = x
    energy2, forces2 = energy_forces(make_context(force, 9, positions))
    assert energy2 == energy
    np.testing.assert_array_equal(forces2[order], forces)
    np.testing.assert_array_equal(forces2[[1, 4, 6]], 0)


def through_xml(force):
    return openmmkstep.cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(force)))


@pytest.mark.parametrize("way", [through_xml, copy.copy, copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_copies_of_the_force(way):
    """Every setting, each at a value other than its default."""
    force, x = make_xtb("formate", "GFN1-xTB", CHARGES, [0.1, -0.2, 0.3, -0.4], number=2, accuracy=0.05)
    force.setElectronicTemperature(400 * unit.kelvin)
    force.setMaxIterations(99)
    force.setNumThreads(2)
    force.setEngine("libxtb")
    force.setForceGroup(7)
    force.setName("my xTB")
    other = way(force)
    assert type(other) is openmmkstep.XtbForce
    assert (other.getMethod(), other.getParticles(), other.getAtomicNumbers()) == (
        "GFN1-xTB",
        [0, 1, 2, 3],
        [6, 8, 8, 1],
    )
    assert (other.getCharge(), other.getMultiplicity(), other.getAccuracy()) == (-1, 1, 0.05)
    assert (other.getMaxIterations(), other.getNumThreads(), other.getEngine()) == (99, 2, "libxtb")
    assert other.getElectronicTemperature() == 400 * unit.kelvin
    assert (other.getForceGroup(), other.getName(), other.getNumParticles()) == (7, "my xTB", 4)
    assert other.getNumEmbeddingCharges() == 3
    for j, (q, _) in enumerate(CHARGES):
        assert other.getEmbeddingChargeParameters(j) == (4 + j, q * unit.elementary_charge, 2)
    for a, q in enumerate([0.1, -0.2, 0.3, -0.4]):
        assert other.getFixedCharge(a) == q * unit.elementary_charge
    assert energy_of(make_context(other, 7, x)) == energy_of(make_context(force, 7, x))
    triplet = way(make_xtb("O2", "GFN2-xTB")[0])
    assert triplet.getMultiplicity() == 3


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
def test_number_of_threads(method):
    """Two threads give the same as one up to the order of sums."""
    results = []
    for threads in (1, 2):
        force, x = make_xtb("formaldehyde", method, CHARGES)
        force.setNumThreads(threads)
        results.append(energy_forces(make_context(force, 7, x)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-3, rtol=0)


def test_partial_charges_follow_the_positions():
    force, x = make_xtb("formaldehyde", "GFN2-xTB", CHARGES)
    context = make_context(force, 7, x)

    def charges():
        return [q.value_in_unit(unit.elementary_charge) for q in force.getPartialCharges(context)]

    first = charges()  # without an energy asked for before
    x[0] += [0, 0, 0.01]
    context.setPositions(x)
    second = charges()
    assert abs(second[0] - first[0]) > 1e-3
    fresh, _ = make_xtb("formaldehyde", "GFN2-xTB", CHARGES)
    other = make_context(fresh, 7, x)
    energy_of(other)
    np.testing.assert_allclose(second, [q._value for q in fresh.getPartialCharges(other)], atol=1e-6)
    with pytest.raises(openmm.OpenMMException, match="not part of the Context|does not belong|not.*in.*Context"):
        force.getPartialCharges(other)
