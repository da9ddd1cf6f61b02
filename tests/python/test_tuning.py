"""tuneMetropolis: what it measures, and that it chooses the best of what it measured."""

import numpy as np
import openmm
import pytest

from openmmkstep import KStepIntegrator, tuneMetropolis
from openmmkstep.tuning import FLIP_TIME, _fit_costs

KS = (2, 8, 32)


def make(stiffness: float = 1.7e5, seed: int = 3) -> openmm.Context:
    """Sixteen oscillators; the model is softer than the corrector's 2e5."""
    system = openmm.System()
    for _ in range(32):
        system.addParticle(12)
    for k, group in ((2.0e5, 1), (stiffness, 2)):
        force = openmm.HarmonicBondForce()
        for i in range(16):
            force.addBond(2 * i, 2 * i + 1, 0.12, k)
        force.setForceGroup(group)
        system.addForce(force)
    integrator = KStepIntegrator(0.001, 4, "metropolis", 300, 2)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([(0.12 * (i % 2), i // 2, 0) for i in range(32)])
    context.setVelocitiesToTemperature(300, seed)
    integrator.step(200)
    return context


@pytest.mark.parametrize(("call", "step"), [(1.0, 1e-3), (1e-3, 1e-3), (1e-2, 1e-3)])
def test_choice_follows_from_the_measured_acceptance(call, step):
    """The table is recomputed from the run itself, the choice from the table."""
    context = make(1.5e5)
    integrator = context.getIntegrator()
    report = tuneMetropolis(context, 2.0, KS, 8, costs=(call, step), progress=False)
    assert (integrator.getK(), integrator.getExtraChances()) == (report.best.k, report.best.chances)
    assert integrator.getStatistics()["macroSteps"] == 0
    assert [(r.k, r.chances) for r in report.rows] == [(k, m) for k in KS for m in range(1, 9)]
    assert report.best.chances < 8  # more would not show that the number is set
    # The same run, followed by hand.
    twinContext = make(1.5e5)
    twin = twinContext.getIntegrator()
    twin.setExtraChances(8)
    best = None
    for k in KS:
        twin.setK(k)
        twin.step(1)
        tests = []
        for _ in range(max(50, int(np.ceil(2.0 / (k * 0.001))))):
            before = twin.getStatistics()
            twin.step(1)
            after = twin.getStatistics()
            tests.append(np.inf if after["flips"] > before["flips"] else after["chances"] - before["chances"])
        tests = np.array(tests)
        for m in range(1, 9):
            row = next(r for r in report.rows if (r.k, r.chances) == (k, m))
            passed = tests <= m
            kept = tests[passed].sum() * k * 0.001
            flips = ((~passed).sum() + 0.5) * len(tests) / (len(tests) + 1)
            assert row.firstAcceptance == pytest.approx((tests == 1).mean())
            assert row.acceptance == pytest.approx(passed.mean())
            assert row.flipRate == pytest.approx(flips / kept)
            assert row.diffusionRatio == pytest.approx(1 / (1 + 0.39 * flips / kept))
            calls = np.minimum(tests, m).sum()
            assert row.callsPerPs == pytest.approx(calls / kept)
            speed = kept * row.diffusionRatio / (calls * (call + k * step))
            assert row.psPerSecond == pytest.approx(speed)
            if best is None or speed > best[0]:
                best = (speed, k, m)
    assert (report.best.k, report.best.chances) == best[1:]
    assert "<- chosen" in str(report) and len(str(report).splitlines()) == 2 + len(KS)


def test_an_expensive_corrector_asks_for_longer_macro_steps():
    cheap = tuneMetropolis(make(), 1.0, KS, 8, costs=(1e-6, 1e-3), progress=False).best
    expensive = tuneMetropolis(make(), 1.0, KS, 8, costs=(1.0, 1e-6), progress=False).best
    assert expensive.k == 32
    assert expensive.callsPerPs <= cheap.callsPerPs


def test_a_perfect_model_keeps_all_chances():
    """Nothing fails, so all numbers of chances are equal: extra ones cost nothing."""
    report = tuneMetropolis(make(2.0e5), 0.1, (4,), 3, costs=(1, 1), progress=False)
    assert report.best.firstAcceptance == 1 and report.best.chances == 3
    assert report.best.flipRate == pytest.approx(0.5 / 51 / 0.004)  # half a flip is always assumed


def test_costs_from_the_clock():
    """A clock that runs by calls and steps: the fit finds what they take. Equal seeds give equal choices."""
    reports = []
    for _ in range(2):
        context = make()
        integrator = context.getIntegrator()
        state = {"calls": 0, "steps": 0}

        def clock(integrator=integrator, state=state):
            calls = integrator.getStatistics()["correctorCalls"]
            new = calls - state["calls"]
            state["calls"], state["steps"] = calls, state["steps"] + new * integrator.getK()
            return calls * 3e-3 + state["steps"] * 2e-4

        reports.append(tuneMetropolis(context, 1.0, KS, 4, clock=clock, progress=False))
    assert reports[0] == reports[1]
    assert reports[0].callSeconds == pytest.approx(3e-3)
    assert reports[0].stepSeconds == pytest.approx(2e-4)


def test_costs_are_not_negative():
    assert _fit_costs([(10, 100, 1.0), (10, 1000, 20.0)]) == (0.0, pytest.approx(21 / 1100))
    assert _fit_costs([(10, 100, 1.0), (10, 1000, 0.9)]) == (pytest.approx(1.9 / 20), 0.0)
    assert FLIP_TIME == 0.39


def test_refusals():
    context = make()
    with pytest.raises(ValueError, match="values of k"):
        tuneMetropolis(context, 1.0, ())
    integrator = context.getIntegrator()
    # A model that puts the bonds elsewhere: nothing is ever accepted, and the settings stay.
    wrong = make(2.0e3)
    with pytest.raises(ValueError, match="no path was accepted"):
        tuneMetropolis(wrong, 0.1, (200,), 2, costs=(1, 1), progress=False)
    assert (wrong.getIntegrator().getK(), wrong.getIntegrator().getExtraChances()) == (4, 4)
    assert integrator.getK() == 4
    impulse = KStepIntegrator(0.001, 4)
    system = context.getSystem()
    other = openmm.Context(system, impulse, openmm.Platform.getPlatformByName("Reference"))
    with pytest.raises(ValueError, match="scheme 'metropolis'"):
        tuneMetropolis(other)
