"""KStepModelForce: values and derivatives of TorchScript models, and the stand-in rule."""

import concurrent.futures
import copy
import io
import pickle

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import CHARGES, K_E, energy_forces, energy_of, get_positions, make_context, make_xtb, numerical_forces
from openmm import app, unit

import openmmkstep

X = np.array([[0.01, -0.02, 0.03], [0.0900, 0.0356, 0.0111], [-0.0657, 0.0386, -0.0212]])
X_ALL = np.vstack([X, [p for _, p in CHARGES]])
FIXED = [-0.8, 0.5, 0.3]


def make_model(path, charges=(), fixed=(), particles=(0, 1, 2), group=2):
    force = openmmkstep.KStepModelForce(path, particles)
    for j, (q, _) in enumerate(charges):
        force.addEmbeddingCharge(3 + j, q)
    for a, q in enumerate(fixed):
        force.setFixedCharge(a, q)
    force.setForceGroup(group)
    return force


def damped_potential(x: np.ndarray) -> np.ndarray:
    d2 = np.square(generate.DAMPING)
    return np.array(
        [
            sum(K_E * q / np.sqrt(np.sum((x[a] - x[3 + j]) ** 2) + d2[a]) for j, (q, _) in enumerate(CHARGES))
            for a in range(3)
        ]
    )


def coulomb(x: np.ndarray) -> float:
    return sum(
        K_E * FIXED[a] * q / np.linalg.norm(x[a] - x[3 + j]) for a in range(3) for j, (q, _) in enumerate(CHARGES)
    )


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("name", ["energy", "forces", "float32"])
def test_same_as_torch(name, platform, models):
    """What torch gives in Python for the same file: the same operations on the same numbers."""
    context = make_context(make_model(models(name)), 3, X, platform=platform)
    energy, forces = energy_forces(context)
    module = torch.jit.load(str(models(name)))
    positions = torch.tensor(X, requires_grad=True)
    result = module(positions)
    expected = result[0] if isinstance(result, tuple) else result
    (gradient,) = torch.autograd.grad(expected, positions)
    # Freezing may fuse operations: rounding, of float32 (1e-7 of numbers near 100 and their slopes) where it is used.
    tolerance = 1e-3 if name == "float32" else 1e-9
    assert abs(expected.item()) > 1
    assert energy == pytest.approx(expected.item(), abs=tolerance)
    np.testing.assert_allclose(forces, -gradient.numpy(), atol=tolerance, rtol=1e-5 if name == "float32" else 1e-12)


@pytest.mark.parametrize("fixed", [(), FIXED])
@pytest.mark.parametrize("name", ["phi_energy", "phi_charges"])
def test_embedded_model(name, fixed, models):
    """Energy by numpy, forces on QM atoms and charges by differences, dE/dphi_a exact."""
    context = make_context(make_model(models(name), CHARGES, fixed), 6, X_ALL)
    energy, forces = energy_forces(context)
    phi = damped_potential(X_ALL)
    pairs = zip(generate.PAIRS, generate.K, generate.R0, strict=True)
    expected = sum(0.5 * k * (np.linalg.norm(X[i] - X[j]) - r0) ** 2 for (i, j), k, r0 in pairs)
    expected += np.dot(generate.Q0, phi) - 0.5 * generate.ALPHA * phi @ phi - (coulomb(X_ALL) if fixed else 0)
    assert abs(generate.ALPHA * phi @ phi) > 1
    # Both sides in double precision; sums of terms of up to 1e3.
    assert energy == pytest.approx(expected, abs=1e-9)
    # Differences over 2e-4 nm of energies that are right to 1e-12: 1e-7 from rounding, 1e-5 from the formula.
    np.testing.assert_allclose(forces, numerical_forces(context), atol=1e-4, rtol=0)
    assert np.abs(forces[3:]).max() > 1
    # The force on a charge is -Q_j sum_a (dE/dphi_a) dphi_a/dx_j, so dE/dphi is seen there directly.
    if not fixed:
        q = np.array(generate.Q0) - generate.ALPHA * phi
        for j, (Q, _) in enumerate(CHARGES):
            r = X_ALL[3 + j] - X
            d3 = (np.sum(r * r, axis=1) + np.square(generate.DAMPING)) ** 1.5
            np.testing.assert_allclose(forces[3 + j], K_E * Q * ((q / d3)[:, None] * r).sum(axis=0), atol=1e-9, rtol=0)


def test_energy_only_and_explicit_models_agree(models):
    a = energy_forces(make_context(make_model(models("phi_energy"), CHARGES, FIXED), 6, X_ALL))
    b = energy_forces(make_context(make_model(models("phi_charges"), CHARGES, FIXED), 6, X_ALL))
    assert a[0] == pytest.approx(b[0], abs=1e-9)
    np.testing.assert_allclose(a[1], b[1], atol=1e-9, rtol=0)


def test_model_that_ignores_phi(models):
    """The gradient by phi is then zero: charges feel the subtractive term alone."""
    context = make_context(make_model(models("ignores_phi"), CHARGES, FIXED), 6, X_ALL)
    energy, forces = energy_forces(context)
    plain = energy_of(make_context(make_model(models("energy")), 3, X))
    assert energy == pytest.approx(plain - coulomb(X_ALL), abs=1e-9)
    np.testing.assert_allclose(forces, numerical_forces(context), atol=1e-4, rtol=0)


def test_phi_without_charges(models):
    energy = energy_of(make_context(make_model(models("phi_charges")), 3, X))
    assert energy == pytest.approx(energy_of(make_context(make_model(models("forces")), 3, X)), abs=1e-9)


def test_update_parameters_in_context(models):
    force = make_model(models("phi_charges"), CHARGES, FIXED)
    context = make_context(force, 6, X_ALL)
    energy_of(context)
    force.setEmbeddingChargeParameters(1, 4, 0.25, 10)
    force.setFixedCharge(0, -0.1)
    force.updateParametersInContext(context)
    other = [CHARGES[0], (0.25, CHARGES[1][1]), CHARGES[2]]
    expected = energy_of(make_context(make_model(models("phi_charges"), other, [-0.1, 0.5, 0.3]), 6, X_ALL))
    assert energy_of(context) == pytest.approx(expected, abs=1e-9)


def test_particles_in_any_order(models):
    order = [5, 0, 3]
    positions = np.full((6, 3), 4.0)
    positions[order] = X
    energy, forces = energy_forces(make_context(make_model(models("energy"), particles=order), 6, positions))
    expected, expected_forces = energy_forces(make_context(make_model(models("energy")), 3, X))
    assert energy == expected
    np.testing.assert_array_equal(forces[order], expected_forces)
    np.testing.assert_array_equal(forces[[1, 2, 4]], 0)


def test_qm_atoms_are_one_molecule(models):
    context = make_context(make_model(models("energy"), particles=[3, 1, 4]), 6)
    assert sorted(sorted(m) for m in context.getMolecules()) == [[0], [1, 3, 4], [2], [5]]


def test_threads(models):
    """Contexts in threads of their own (step() releases the GIL) give bit for bit what they give alone."""
    names = ["energy", "forces", "float32", "phi_energy", "phi_charges"]

    def run(name):
        charges = CHARGES if name.startswith("phi") else ()
        context = make_context(make_model(models(name), charges), 6, X_ALL)
        context.getIntegrator().step(50)
        return get_positions(context)

    expected = [run(name) for name in names]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        found = list(pool.map(run, names))
    for a, b in zip(expected, found, strict=True):
        assert np.abs(a - X_ALL).max() > 1e-3
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "meta"])
def test_unknown_device(device, models):
    force = make_model(models("energy"))
    force.setDevice(device)
    with pytest.raises(openmm.OpenMMException, match=f"expected the device .* found '{device}'"):
        make_context(force, 3, X)


@pytest.mark.parametrize("device", ["cuda", "cuda:77"])
def test_missing_device(device, models):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("torch finds a CUDA device")
    force = make_model(models("energy"))
    force.setDevice(device)
    found = torch.cuda.device_count()
    with pytest.raises(openmm.OpenMMException, match=f"'{device}', but torch .* finds {found} CUDA devices"):
        make_context(force, 3, X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("name", ["energy", "forces", "float32", "phi_energy", "phi_charges"])
def test_model_on_a_gpu(name, models):
    """The same energies and forces as on the host, and the CPU platform's Context is not disturbed."""
    found = []
    for device in ("cpu", "cuda"):
        force = make_model(models(name), CHARGES if name.startswith("phi") else ())
        force.setDevice(device)
        context = make_context(force, 6, X_ALL)
        context.getIntegrator().step(20)
        found.append((*energy_forces(context), get_positions(context)))
    for expected, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, expected, atol=1e-3 if name == "float32" else 1e-8, rtol=1e-6)


# The stand-in rule. Common: a harmonic restraint in group 0 and one in group 5.


def restraint(group: int) -> openmm.Force:
    force = openmm.CustomExternalForce("50*(x^2+y^2+z^2)")
    for i in range(6):
        force.addParticle(i)
    force.setForceGroup(group)
    return force


def stand_in_forces(models, corrector=True, model=True, corrector_group=1):
    forces = [restraint(0), restraint(5)]
    if corrector:
        xtb, _ = make_xtb("bent water", "GFN2-xTB", CHARGES, FIXED)
        xtb.setForceGroup(corrector_group)
        forces.append(xtb)
    if model:
        stand_in = make_model(models("phi_charges"), CHARGES, FIXED)
        stand_in.setCorrectorForceGroup(corrector_group)
        forces.append(stand_in)
    return forces


@pytest.mark.parametrize("corrector_group", [1, 7])
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_stand_in_rule(corrector_group, platform, models):
    def context_with(**kwargs):
        return make_context(stand_in_forces(models, **kwargs), 6, X_ALL, platform=platform)

    both = context_with(corrector_group=corrector_group)
    true = energy_forces(context_with(model=False))
    fast = energy_forces(context_with(corrector=False))
    model = energy_forces(make_context(make_model(models("phi_charges"), CHARGES, FIXED), 6, X_ALL))
    assert abs(true[0] - fast[0]) > 1000
    c = 1 << corrector_group
    # Accuracy 0.01 and two cold starts of one input: 1e-6 kJ/mol and 2e-3 kJ/mol/nm leave room. Each evaluation twice,
    # in turn, since one must not change the next.
    for _ in range(2):
        for groups, (energy, forces) in {
            -1: true,
            (1 << 0) | (1 << 5) | (1 << 2): fast,
            1 << 2: model,
            ~c: fast,
            c | 0b100001: true,
        }.items():
            found = energy_forces(both, groups)
            assert found[0] == pytest.approx(energy, abs=1e-6)
            np.testing.assert_allclose(found[1], forces, atol=2e-3, rtol=0)
    # Asking for corrector and model gives the corrector alone.
    assert energy_of(both, c | 4) == energy_of(both, c)


def test_any_force_in_the_corrector_group_is_a_corrector(models):
    """Not only an XtbForce: the rule goes by group."""
    other = restraint(1)
    context = make_context([other, make_model(models("energy"))], 6, X_ALL)
    assert energy_of(context) == pytest.approx(50 * np.sum(X_ALL**2), abs=1e-9)


def test_model_in_the_corrector_group(models):
    with pytest.raises(openmm.OpenMMException, match=r"in the corrector's force group \(1\)"):
        make_context(make_model(models("energy"), group=1), 3)


def test_integrators_of_openmm_see_the_true_energy(models):
    """The same trajectory with and without a model in the System, bit for bit."""
    results = []
    for model in (False, True):
        for integrator in (openmm.VerletIntegrator(0.0005), openmm.LangevinMiddleIntegrator(300, 5, 0.0005)):
            if hasattr(integrator, "setRandomNumberSeed"):
                integrator.setRandomNumberSeed(3)
            context = make_context(stand_in_forces(models, model=model), 6, X_ALL, integrator)
            integrator.step(40)
            results.append(get_positions(context))
    assert np.abs(results[0] - X_ALL).max() > 1e-3
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])


@pytest.mark.parametrize("integrator", ["Verlet", "KStep"])
def test_minimizer_finds_the_true_minimum(integrator, models):
    """The corrector's minimum is at bonds of 0.100, 0.102 and 0.160 nm, the model's at 0.0960, 0.0965 and 0.1540."""
    lengths = (0.100, 0.102, 0.160)
    corrector = openmm.HarmonicBondForce()
    for (i, j), r0 in zip(generate.PAIRS, lengths, strict=True):
        corrector.addBond(i, j, r0, 3e5)
    corrector.setForceGroup(1)
    made = openmm.VerletIntegrator(0.001) if integrator == "Verlet" else openmmkstep.KStepIntegrator(0.0005, 4)
    context = make_context([corrector, make_model(models("energy"))], 3, X, made)
    openmm.LocalEnergyMinimizer.minimize(context, 0.1)
    found = get_positions(context)
    # A remaining force of 0.1 kJ/mol/nm is 1e-6 nm.
    for (i, j), r0 in zip(generate.PAIRS, lengths, strict=True):
        assert np.linalg.norm(found[i] - found[j]) == pytest.approx(r0, abs=1e-5)


@pytest.mark.parametrize("integrator", ["Verlet", "KStep"])
def test_reporter_shows_the_true_energy(integrator, models):
    made = openmm.VerletIntegrator(1e-9) if integrator == "Verlet" else openmmkstep.KStepIntegrator(1e-9, 2)
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(6):
        topology.addAtom("X", app.element.carbon, residue)
    system = openmm.System()
    for _ in range(6):
        system.addParticle(12)
    for force in stand_in_forces(models):
        system.addForce(force)
    simulation = app.Simulation(topology, system, made, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(X_ALL)
    output = io.StringIO()
    simulation.reporters.append(app.StateDataReporter(output, 1, potentialEnergy=True))
    simulation.step(2)
    expected = energy_of(make_context(stand_in_forces(models, model=False), 6, X_ALL))
    lines = output.getvalue().split()
    # 2e-9 ps move nothing by more than 1e-12 nm.
    for line in lines[-2:]:
        assert float(line) == pytest.approx(expected, abs=1e-6)


# Serialization: the model travels inside.


def through_xml(force):
    return openmmkstep.cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(force)))


@pytest.mark.parametrize("way", [through_xml, copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_the_model_travels_with_the_force(way, tmp_path):
    path = tmp_path / "model.pt"
    generate.write("phi_charges", path)
    data = path.read_bytes()
    force = make_model(path, CHARGES, FIXED)
    force.setCorrectorForceGroup(9)
    force.setName("my model")
    path.unlink()
    other = way(force)
    assert type(other) is openmmkstep.KStepModelForce
    assert other.getModelData() == data == force.getModelData()
    assert (other.getCorrectorForceGroup(), other.getForceGroup(), other.getName()) == (9, 2, "my model")
    assert other.getParticles() == [0, 1, 2]
    for j in range(3):
        assert other.getEmbeddingChargeParameters(j) == (3 + j, CHARGES[j][0] * unit.elementary_charge, 10)
        assert other.getFixedCharge(j) == FIXED[j] * unit.elementary_charge
    expected = energy_forces(make_context(force, 6, X_ALL))
    found = energy_forces(make_context(other, 6, X_ALL))
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_model_may_be_the_corrector(models):
    """A better model in the corrector's group; k-step dynamics between two models."""
    with pytest.raises(openmm.OpenMMException, match="in the corrector's force group"):
        make_context(make_model(models("phi_energy"), group=1), 3, X)  # it would stand in for itself
    better, cheap = make_model(models("phi_energy"), group=1), make_model(models("energy"))
    better.setCorrectorForceGroup(31)
    integrator = openmmkstep.KStepIntegrator(0.0005, 2)
    context = make_context([better, cheap], 3, X, integrator)
    integrator.step(3)
    difference = energy_of(context, {1}) - energy_of(context, {2})
    assert integrator.computeD()._value == pytest.approx(difference, abs=1e-9)
    assert energy_of(context) == pytest.approx(energy_of(context, {1}), abs=1e-9)


def test_region_of_validity_in_a_context(tmp_path):
    contract = openmmkstep.ModelContract(species=generate.SPECIES, distanceRanges=[(0, 1, 0.08, 0.11)])
    openmmkstep.saveModel(generate.Energy(), tmp_path / "model.pt", contract)
    force = make_model(tmp_path / "model.pt")
    context = make_context(force, 3, X)
    assert not force.isOutsideTrainingRegion(context)
    context.setPositions(1.3 * X)
    assert force.isOutsideTrainingRegion(context)
