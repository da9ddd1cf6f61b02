"""The parts of a model's check on a water molecule with analytic corrector and model."""

import dataclasses

import generate
import numpy as np
import openmm
import pytest
from conftest import make_context

from openmmkstep import readContract
from openmmkstep.data import Frames, Region
from openmmkstep.validation import (
    CheckSubject,
    Costs,
    DriftPrediction,
    ModelEvaluator,
    compareFrequencies,
    judge,
    measureCosts,
    measureFrameErrors,
    measureRunErrors,
    measureSampling,
    measureStability,
    predictSpeed,
    predictSteps,
    runOnModel,
)
from openmmkstep.validation._statistics import Estimate
from openmmkstep.validation.steps import StepReport, tabulate
from openmmkstep.validation.subject import reordered

KT = 8.31446261815324e-3 * 300
START = np.array([[0, 0, 0], [0.096, 0, 0], [-0.024, 0.0935, 0]])
STIFFER = 0.02
"""How much stiffer the perturbed corrector's first bond is."""


def subject_with(models, name="forces", first_bond: float = 1.0, neighbours=(), **contract) -> CheckSubject:
    """A water whose corrector is the model's potential, but for the stiffness of the first bond."""
    system = openmm.System()
    for mass in (16.0, 1.0, 1.0):
        system.addParticle(mass)
    force = openmm.CustomBondForce("0.5*k*(r-r0)^2")
    force.addPerBondParameter("k")
    force.addPerBondParameter("r0")
    for i, (pair, k, r0) in enumerate(zip(generate.PAIRS, generate.K, generate.R0, strict=True)):
        force.addBond(*pair, [k * (first_bond if i == 0 else 1), r0])
    force.setForceGroup(1)
    system.addForce(force)
    path = models(name)
    import openmmkstep

    model = openmmkstep.KStepModelForce(path, range(3))
    model.setForceGroup(2)
    system.addForce(model)
    region = Region(generate.SPECIES, (0, 1, 2), ((0, 1), (0, 2)))
    return CheckSubject(
        system,
        START[None],
        region,
        dataclasses.replace(readContract(path), **contract),
        path.read_bytes(),
        platform=openmm.Platform.getPlatformByName("Reference"),
    )


def runs_of(subject, picoseconds=2.0, starts=2, **options):
    """Short steps: the bonds are stiff and the hydrogens light."""
    options = {"baseStepSize": 0.0005, "interval": 0.004, "equilibration": 0.5} | options
    return runOnModel(subject, picoseconds=picoseconds, starts=starts, **options)


def test_a_perfect_model(models):
    """Corrector and model are one potential: no errors, all accepted, no drift, equal frequencies."""
    subject = subject_with(models)
    runs = runs_of(subject, 1.0)
    assert [len(r.D) for r in runs] == [250, 250] and not any(r.fault for r in runs)
    errors = measureRunErrors(subject, runs)
    assert errors.frames == 2 * 32 and errors.forceSize > 100
    assert errors.force.value < 1e-6 and errors.energySd.value < 1e-8
    assert all(e.value < 1e-6 for e in errors.byElement.values()) and set(errors.byElement) == {"H", "O"}
    sampling = measureSampling(runs)
    assert sampling.sd.value < 1e-8 and sampling.effectiveFraction.value == pytest.approx(1)
    assert all(a.first.value == pytest.approx(1) and a.flipRate.value < 1e-6 for a in sampling.acceptance)
    steps = predictSteps(subject, kinds=["impulse"], pieces=2, picoseconds=0.05, equilibration=0.1)
    assert steps.rows[0].largest == pytest.approx(0.012) and all(d.value < 1e-12 for d in steps.rows[0].drifts)
    frequencies = compareFrequencies(subject, "frozen surroundings")
    np.testing.assert_allclose(frequencies.model, frequencies.corrector, atol=1e-2)
    np.testing.assert_allclose(frequencies.overlaps[-3:], 1, atol=1e-6)
    stability = measureStability(subject, runs)
    assert stability.stable and stability.differenceRange == pytest.approx((0, 0), abs=1e-8)
    verdict = judge(sampling, steps, stability, errors, frequencies=frequencies)
    assert [s.split()[0] for s in verdict] == ["The", "Stable:", "Fit", "Fit", "Fit", "Force", "Harmonic"]
    assert verdict[2].startswith("Fit for impulse up to h = 12 fs (3 u): predicted drift ")


def test_a_model_with_a_known_error(models):
    """One bond is 2 % too soft. x = r - r0 is nearly normal with the variance kT/k, so that all averages are known.

    sd(D) = e kT/sqrt(2), the rms of the force's difference e k |x| is e sqrt(k kT), over 3 components of O, 6 of H.
    With a friction of 50/ps the bond's energy correlates over some 0.04 ps: 4 x 5 ps hold 500 values.
    """
    subject = subject_with(models, first_bond=1 + STIFFER)
    runs = runs_of(subject, 5.0, 4, interval=0.008, samplesPerForces=2, friction=50)
    sampling, errors = measureSampling(runs), measureRunErrors(subject, runs)
    size = STIFFER * np.sqrt(generate.K[0] * KT)
    expected = [
        (sampling.sd, STIFFER * KT / np.sqrt(2)),
        (sampling.mean, STIFFER * KT / 2),
        (errors.energySd, STIFFER * KT / np.sqrt(2)),
        (errors.force, size * np.sqrt(2 / 9)),
        (errors.byElement["O"], size / np.sqrt(3)),
        (errors.byElement["H"], size / np.sqrt(6)),
    ]
    for found, value in expected:
        assert 0 < found.error < 0.1 * value
        assert found.value == pytest.approx(value, abs=4 * found.error)
    # And exactly, in every frame.
    for run in runs:
        bond = np.linalg.norm(run.positions[:, 1] - run.positions[:, 0], axis=1) - generate.R0[0]
        np.testing.assert_allclose(run.D, 0.5 * STIFFER * generate.K[0] * bond**2, atol=1e-6)
        difference = run.correctorForces - run.modelForces
        along = STIFFER * generate.K[0] * np.abs(bond[run.forceSamples])
        np.testing.assert_allclose(np.linalg.norm(difference, axis=2)[:, :2], along[:, None] * [1, 1], atol=1e-5)
    frequencies = compareFrequencies(subject, "frozen surroundings")
    assert -40 < frequencies.largest < -5 and 3 < frequencies.rms < 40


def test_the_environment_of_near_atoms(models):
    """Particles near to the QM region count, others do not; a virtual site does not either."""
    subject = subject_with(models)
    system = subject.system
    for mass in (20.0, 20.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(5, openmm.TwoParticleAverageSite(0, 3, 0.5, 0.5))
    pull = openmm.CustomExternalForce("3*x+4*y")
    for i in (3, 4):
        pull.addParticle(i)
    pull.setForceGroup(1)
    system.addForce(pull)
    hold = openmm.CustomExternalForce("500*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("x0", "y0", "z0"):
        hold.addPerParticleParameter(name)
    places = [[0, 0, 0.25], [0, 0, 0.8], [0, 0, 0.12]]
    for i in (3, 4):
        hold.addParticle(i, places[i - 3])
    hold.addParticle(0, [0, 0, 0])
    system.addForce(hold)
    subject = dataclasses.replace(subject, starts=np.vstack([START, places])[None])
    (run,) = runs_of(subject, 0.2, 1)
    np.testing.assert_array_equal(run.nearCounts, 3)
    errors = measureRunErrors(subject, [run])
    assert errors.nearAtoms.value == pytest.approx(5 / np.sqrt(3)) == pytest.approx(errors.nearSize)


def test_stability(models):
    """Time outside of the contract's ranges, as counted from the positions; a model that gives NaN ends its run."""
    limit = generate.R0[0] + 0.003
    subject = subject_with(models, distanceRanges=((0, 1, 0.05, limit), (1, 2, 0.1, 0.2)))
    runs = runs_of(subject, 0.5, interval=0.001)  # several samples in each excursion
    report = measureStability(subject, runs)
    outside = [np.linalg.norm(r.positions[:, 1] - r.positions[:, 0], axis=1) > limit for r in runs]
    assert 0.02 < np.mean(outside) < 0.5 and report.outside.value == pytest.approx(np.mean(outside))
    assert report.excursions == sum(int(o[0]) + int((o[1:] & ~o[:-1]).sum()) for o in outside)
    assert report.worst.startswith("O0 - H1: 0.1") and not report.stable and not report.faults
    assert report.bondRanges["H-O"][1] == max(
        np.linalg.norm(r.positions[:, i] - r.positions[:, 0], axis=1).max() for r in runs for i in (1, 2)
    )
    assert judge(stability=report)[0].startswith("Caution: the runs on the model left the region it was trained for")

    subject = subject_with(models, "not_a_number")
    subject = dataclasses.replace(subject, starts=(START + [[0, 0, 0], [0.029, 0, 0], [0, 0, 0]])[None])
    runs = runs_of(subject, 1.0, equilibration=0)
    report = measureStability(subject, runs)
    assert len(report.faults) == 2 and "run 1, 0" in report.faults[0] and "of 1 ps: " in report.faults[0]
    assert judge(stability=report)[0].startswith("Not fit: 2 of 2 runs on the model broke down (run 1")
    quiet = DriftPrediction(1e-6 * np.random.default_rng(3).normal(size=(64, 500)), 0.002, 300.0)
    steps = StepReport([tabulate(quiet, "deep")], 0, 3)
    assert judge(steps=steps)[0].startswith("Fit for deeply mollified impulse")
    assert judge(steps=steps, stability=report)[-1].startswith("Only with error recovery fit for deeply mollified")


def test_frames(models):
    """Labels that differ from the model's by known amounts; the model is evaluated by formulas of its own."""
    rng = np.random.default_rng(1)
    n, f = 3, 40
    x = START + rng.normal(scale=0.004, size=(f, n, 3))
    phi, gradient = rng.normal(scale=50, size=(f, n)), rng.normal(scale=200, size=(f, n, 3))
    q = np.array(generate.Q0) - generate.ALPHA * phi
    energies, forces = np.zeros(f), np.zeros((f, n, 3))
    for (a, b), k, r0 in zip(generate.PAIRS, generate.K, generate.R0, strict=True):
        d = x[:, a] - x[:, b]
        r = np.linalg.norm(d, axis=1)
        energies += 0.5 * k * (r - r0) ** 2
        pull = (k * (r - r0) / r)[:, None] * d
        forces[:, a] -= pull
        forces[:, b] += pull
    energies += (np.array(generate.Q0) * phi).sum(1) - 0.5 * generate.ALPHA * (phi**2).sum(1)
    forces -= q[..., None] * gradient
    shift = np.tile([0.3, -0.3], f // 2)
    wrong = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, -4.0]])
    frames = Frames(
        x, energies + 1000 + shift, forces + wrong, q + 0.01, phi, gradient, np.full(f, 300), np.arange(f) // 10
    )
    for name in ("phi_charges", "phi_energy"):
        report = measureFrameErrors(subject_with(models, name), frames)
        assert report.frames == f
        assert report.force.value == pytest.approx(np.sqrt(41 / 9), rel=1e-6)
        assert report.byElement["O"].value == pytest.approx(np.sqrt(3), rel=1e-6)
        assert report.byElement["H"].value == pytest.approx(np.sqrt(32 / 6), rel=1e-6)
        assert report.energySd.value == pytest.approx(0.3, rel=1e-6)
        assert report.charges.value == pytest.approx(0.01, rel=1e-6)
    with pytest.raises(ValueError, match="Expected frames of 3 atoms, found 0 frames of 4"):
        measureFrameErrors(subject_with(models), Frames.empty(4))


def test_evaluator_agrees_with_the_force(models):
    """Energy only, with forces, in float32; phi = 0 against KStepModelForce without charges."""
    import openmmkstep

    x = START + np.random.default_rng(2).normal(scale=0.003, size=(3, 3))
    for name in ("energy", "forces", "phi_energy", "phi_charges", "float32"):
        context = make_context(openmmkstep.KStepModelForce(models(name), range(3)), 3, x)
        state = context.getState(energy=True, forces=True)
        energy, forces, _ = ModelEvaluator(subject_with(models, name))(x, np.zeros(3))
        tolerance = 1e-3 if name == "float32" else 1e-9
        assert energy == pytest.approx(state.getPotentialEnergy()._value, abs=tolerance)
        np.testing.assert_allclose(forces, state.getForces(asNumpy=True)._value, atol=10 * tolerance, rtol=1e-5)


def test_largest_step():
    """The first macro-step above the tolerance decides, whatever comes after it: a line at 6 fs is also at 12 fs only."""
    phases = np.random.default_rng(2).uniform(0, 6, size=(8, 1))
    line = DriftPrediction(np.sin(2 * np.pi / 0.006 * 0.002 * np.arange(500) + phases), 0.002, 300.0)
    row = tabulate(line, "impulse", tolerance=1e-4)
    assert [d.value > 1e-4 for d in row.drifts] == [h in (6, 12) for h in range(4, 13)]
    assert row.largest == pytest.approx(0.005)
    white = np.random.default_rng(3).normal(size=(64, 500))
    prediction = DriftPrediction(white, 0.002, 300.0)
    drifts = [prediction.drift(h)[0] for h in np.arange(4, 13) / 1e3]
    row = tabulate(prediction, "deep", tolerance=(drifts[3] + drifts[4]) / 2)
    assert [d.value for d in row.drifts] == drifts and row.steps[0] == 0.004 and row.steps[-1] == 0.012
    assert row.largest == pytest.approx(0.007)
    assert tabulate(prediction, "deep", 0.0).largest == 0
    assert (
        "Not fit for deeply mollified impulse" in judge(steps=StepReport([tabulate(prediction, "deep", 0.0)], 0, 3))[0]
    )


def test_speed(models):
    """Sums of the costs, and costs that a clock can measure."""
    costs = Costs(*(Estimate(t, 0.0) for t in (8e-3, 1e-3, 0.5e-3)), "Reference")
    rows = {row.name: row for row in predictSpeed(costs).rows}
    plain = rows["plain, 0.5 fs"]
    assert plain.secondsPerPs == pytest.approx(17.0) and plain.overPlain == 1 and plain.callsPerPs == 2000
    deep = rows["deep, h = 8 fs, H = 3 u"]
    assert deep.secondsPerPs == pytest.approx((8e-3 + 8 * 1.5e-3 + 1e-3) / 0.008)
    chain = rows["metropolis, k = 64 at 2 fs, H = 3 u"]
    assert chain.secondsPerPs == pytest.approx((8e-3 + 64 * 1.5e-3) / 0.128)
    assert chain.overPlain == pytest.approx(17.0 / chain.secondsPerPs)
    assert chain.overHeavyPlain == pytest.approx(4.25 / chain.secondsPerPs)
    measured = measureCosts(subject_with(models), repeats=20)
    assert 0 < measured.model.value < 0.1 and measured.common.value < 0.1 and measured.platform == "Reference"


def test_hydrogen_masses(models):
    """The subject itself stays as it is."""
    subject = subject_with(models)
    heavy = subject.withHydrogenMass(3.0)
    assert [heavy.system.getParticleMass(i)._value for i in range(3)] == [12.0, 3.0, 3.0]
    assert subject.system.getParticleMass(1)._value == 1.0


def test_bad_runs(models):
    subject = subject_with(models)
    with pytest.raises(ValueError, match=r"multiple of the step of 0\.002 ps, found 0\.003"):
        runOnModel(subject, interval=0.003)
    with pytest.raises(ValueError, match="found 0 runs of 1250 samples"):
        runOnModel(subject, starts=0)
    with pytest.raises(ValueError, match="Expected some of the kinds impulse, mollified, deep, found shallow"):
        predictSteps(subject, kinds=["shallow"])
    with pytest.raises(ValueError, match="'gas phase' or 'frozen surroundings', found 'vacuum'"):
        compareFrequencies(subject, "vacuum")


def test_order_of_link_hydrogens(models):
    """Everything that is listed by atom follows the model's order, link hydrogens too."""
    region = Region((8, 1, 6, 1, 1), (10, 11, 12), ((0, 1), (0, 2), (1, 3), (2, 4)))
    links = [(11, 20, 0.1), (12, 21, 0.2)]
    subject = dataclasses.replace(subject_with(models), region=region, links=links, order=[0, 1, 2, 3, 4])
    found = reordered(subject, [2, 0, 1, 4, 3])
    assert found.region.species == (6, 8, 1, 1, 1) and found.region.particles == (12, 10, 11)
    assert found.region.bonds == ((0, 1), (0, 3), (1, 2), (2, 4))
    assert found.links == links[::-1] and found.order == [2, 0, 1, 4, 3]
