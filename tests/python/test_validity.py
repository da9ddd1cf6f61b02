"""The region of validity that a model's contract declares."""

import numpy as np
import openmm
import pytest
from conftest import energy_of, get_positions, make_context, make_xtb

import openmmkstep
from openmmkstep import KStepIntegrator, KStepModelForce, ModelContract


@pytest.fixture
def guarded(tmp_path):
    """A water model that is valid for O-H from 0.080 to 0.106 nm."""
    import generate

    ranges = [(0, 1, 0.08, 0.106), (2, 0, 0.08, 0.106)]
    contract = ModelContract(species=generate.SPECIES, outputs=("energy", "forces"), distanceRanges=ranges)
    openmmkstep.saveModel(generate.EnergyForces(), tmp_path / "guarded.pt", contract)
    return tmp_path / "guarded.pt"


def start(model, integrator, speed):
    """A QM water whose first hydrogen moves away from the oxygen."""
    xtb, x = make_xtb("water", "GFN2-xTB")
    xtb.setForceGroup(1)
    force = KStepModelForce(model, range(3))
    force.setForceGroup(2)
    context = make_context([xtb, force], 3, x, integrator, mass=10.0)
    bond = (x[1] - x[0]) / np.linalg.norm(x[1] - x[0])
    context.setVelocities([-speed / 2 * bond, speed / 2 * bond, np.zeros(3)])
    return context


def bond_length(context) -> float:
    x = get_positions(context)
    return float(np.linalg.norm(x[1] - x[0]))


def test_inside_the_region_nothing_happens(guarded):
    integrator = KStepIntegrator(0.0005, 4)
    context = start(guarded, integrator, 0.1)
    integrator.step(50)
    assert context.getStepCount() == 50
    statistics = integrator.getStatistics()
    assert (statistics["outsideRegion"], statistics["redone"], statistics["plainMacroSteps"]) == (0, 0, 0)


def test_outside_the_region_the_model_is_not_used(guarded):
    """The macro-step that leaves the region is undone and made on xTB alone, as by a run without the model."""
    integrator = KStepIntegrator(0.0005, 4)
    context = start(guarded, integrator, 5.0)
    while integrator.getStatistics()["plainMacroSteps"] == 0:
        inside = bond_length(context)
        before = context.getState(positions=True, velocities=True)
        integrator.step(1)
        assert context.getStepCount() < 100
    assert inside < 0.106 < bond_length(context)
    events = integrator.getEvents()
    assert {event["kind"] for event in events} == {"outsideRegion"}
    assert [event["toK"] for event in events] == [2, 1, 0]
    statistics = integrator.getStatistics()
    assert (statistics["outsideRegion"], statistics["redone"], statistics["currentK"]) == (3, 1, 0)
    plain = KStepIntegrator(0.0005, 1)
    xtb, x = make_xtb("water", "GFN2-xTB")
    xtb.setForceGroup(1)
    reference = make_context(xtb, 3, x, plain, mass=10.0)
    reference.setState(before)
    plain.step(4)
    np.testing.assert_allclose(get_positions(context), get_positions(reference), atol=1e-8)


def test_without_recovery_it_is_not_looked_at(guarded):
    integrator = KStepIntegrator(0.0005, 4)
    integrator.setErrorRecovery(False)
    context = start(guarded, integrator, 5.0)
    longest = 0.0
    for _ in range(8):
        integrator.step(1)
        longest = max(longest, bond_length(context))
    assert longest > 0.106
    assert integrator.getStatistics()["outsideRegion"] == 0


@pytest.mark.parametrize("bad", [(0, 3, 0.1, 0.2), (1, 1, 0.1, 0.2), (0, 1, 0.2, 0.1), (0, 1, -0.1, 0.1)])
def test_bad_ranges(bad):
    with pytest.raises(ValueError, match="A distance range is"):
        ModelContract(species=(8, 1, 1), distanceRanges=[bad])


def test_bad_ranges_in_a_file(guarded, tmp_path):
    """C++ reads the contract by itself, and refuses what Python would."""
    data = guarded.read_bytes()
    assert data.count(b'atom2="1"') == 1
    (tmp_path / "bad.pt").write_bytes(data.replace(b'atom2="1"', b'atom2="9"'))
    with pytest.raises((ValueError, openmm.OpenMMException)):
        start(tmp_path / "bad.pt", KStepIntegrator(0.0005, 4), 0.1)


def test_undone_states_of_faults(guarded):
    """What left the region is kept: the states after 4, 2 and 1 base steps, with the D that they had."""
    integrator = KStepIntegrator(0.0005, 4)
    integrator.setMaxUndoneStates(10)
    context = start(guarded, integrator, 5.0)
    while integrator.getStatistics()["plainMacroSteps"] == 0:
        integrator.step(1)
    states = integrator.takeUndoneStates()
    assert [s["kind"] for s in states] == ["outsideRegion"] * 3
    assert {s["step"] for s in states} == {context.getStepCount() - 1}
    assert integrator.takeUndoneStates() == []
    for state in states:
        x = state["positions"]
        assert np.linalg.norm(x[1] - x[0]) > 0.106
        context.setPositions(x)
        d = energy_of(context, {1}) - energy_of(context, {2})
        assert state["D"] == pytest.approx(d, abs=1e-4)


def test_undone_states_of_rejected_proposals(models):
    integrator = KStepIntegrator(0.0005, 8, "metropolis", 300, 1.0)
    integrator.setRandomNumberSeed(1)
    integrator.setExtraChances(1)
    xtb, x = make_xtb("water", "GFN2-xTB")
    xtb.setForceGroup(1)
    force = KStepModelForce(models("forces"), range(3))
    force.setForceGroup(2)
    context = make_context([xtb, force], 3, x, integrator, mass=10.0)
    context.setVelocitiesToTemperature(300, 1)
    integrator.step(5)
    assert integrator.takeUndoneStates() == []  # none are kept by default
    integrator.setMaxUndoneStates(4)
    kept, before = [], integrator.getStatistics()["flips"]
    for _ in range(60):
        start, d = get_positions(context), integrator.computeD()._value
        integrator.step(1)
        for state in integrator.takeUndoneStates():
            assert state["kind"] == "rejected" and state["D"] > d
            assert np.array_equal(get_positions(context), start)
            assert not np.array_equal(state["positions"], start)
            assert np.array_equal(state["box"], np.eye(3) * 2)
            kept.append(state)
    assert len(kept) == integrator.getStatistics()["flips"] - before > 2
    with pytest.raises(openmm.OpenMMException, match="0 or more"):
        integrator.setMaxUndoneStates(-1)
