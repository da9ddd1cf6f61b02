"""createQMMMSystem: the energy by an independent sum, and every input that it must refuse."""

import numpy as np
import openmm
import pytest
from conftest import (
    K_E,
    energy_forces,
    energy_of,
    make_context,
    numerical_forces,
    rotation_matrix,
    water_positions,
    water_system,
)
from openmm import app, unit

import openmmkstep
from openmmkstep import KStepModelForce, XtbForce, cast, createQMMMSystem

NUM = 4
X = water_positions(NUM, 3, spacing=0.29)
LJ = {"O": (0.31507524065751241, 0.635968), "H": (1.0, 0.0)}  # TIP3P
CHARGE = {"O": -0.834, "H": 0.417}


def new_context(system, positions=X, platform="Reference"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName(platform))
    context.setPositions(positions)
    return context


def make(
    num: int = NUM, qm=range(3), accuracy: float | None = 0.01, force_field="amber14/tip3p.xml", options=None, **kwargs
):
    topology, mm = water_system(num, force_field, **(options or {}))
    system = createQMMMSystem(topology, mm, qm, **kwargs)
    if accuracy:
        cast(system.getForce(system.getNumForces() - 1 - ("model" in kwargs))).setAccuracy(accuracy)
    return system


def mm_energy_between(x: np.ndarray, pairs) -> float:
    """Lennard-Jones and Coulomb energy of pairs of TIP3P atoms."""
    energy = 0.0
    for i, j in pairs:
        a, b = ("O" if i % 3 == 0 else "H"), ("O" if j % 3 == 0 else "H")
        r = np.linalg.norm(x[i] - x[j])
        sigma, epsilon = (LJ[a][0] + LJ[b][0]) / 2, np.sqrt(LJ[a][1] * LJ[b][1])
        energy += 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) + K_E * CHARGE[a] * CHARGE[b] / r
    return energy


def lennard_jones_energy(x: np.ndarray, pairs) -> float:
    return mm_energy_between(x, pairs) - sum(
        K_E * CHARGE["O" if i % 3 == 0 else "H"] * CHARGE["O" if j % 3 == 0 else "H"] / np.linalg.norm(x[i] - x[j])
        for i, j in pairs
    )


def embedded_xtb(method: str, qm, x: np.ndarray) -> float:
    """xTB of the QM atoms in the field of bare charges: a System of its own, built by hand, no subtraction."""
    numbers = [8 if i % 3 == 0 else 1 for i in qm]
    force = XtbForce(method, qm, numbers)
    force.setAccuracy(0.01)
    for j in range(len(x)):
        if j not in qm:
            force.addEmbeddingCharge(j, CHARGE["O" if j % 3 == 0 else "H"], {"GFN1-xTB": 2, "GFN2-xTB": 10}[method])
    return energy_of(make_context(force, len(x), x))


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
@pytest.mark.parametrize("qm", [[0, 1, 2], [5, 3, 4], [0, 1, 2, 9, 10, 11]], ids=["first", "second", "two"])
def test_energy_by_an_independent_sum(qm, method, platform):
    """E = xTB in the field of the MM charges + Lennard-Jones between the regions + MM."""
    context = new_context(make(qm=qm, method=method), platform=platform)
    region = set(qm)
    between = [(i, j) for i in qm for j in range(len(X)) if j not in region]
    mm = [(i, j) for i in range(len(X)) for j in range(i) if i // 3 != j // 3 and i not in region and j not in region]
    expected = embedded_xtb(method, qm, X) + lennard_jones_energy(X, between) + mm_energy_between(X, mm)
    assert abs(lennard_jones_energy(X, between)) > 0.3 and len(mm) > 8
    # Single precision of the CPU platform's NonbondedForce: 1e-7 of terms of some 100 kJ/mol, and small differences.
    assert energy_of(context) == pytest.approx(expected, abs=1e-6 if platform == "Reference" else 1e-2)


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
def test_forces_are_minus_the_gradient(method):
    context = new_context(make(method=method))
    forces = energy_forces(context)[1]
    # SCF accuracy 0.01: see test_xtb_force.
    np.testing.assert_allclose(forces, numerical_forces(context), atol=2e-3, rtol=0)
    assert np.abs(forces[3:]).max() > 100


def test_four_site_water_as_mm():
    """TIP4P-Ew: the charges sit on virtual sites, the forces on which OpenMM passes on to the atoms."""
    topology, mm = water_system(NUM, "tip4pew.xml")
    qm = [0, 1, 2]
    x = water_positions(NUM, 3, spacing=0.29, virtual_sites=True)
    x = np.delete(x, 3, axis=0)  # the first molecule is the QM one: three-site, by hand
    modeller = app.Modeller(topology, np.insert(x, 3, 0, axis=0) * unit.nanometer)
    modeller.delete([atom for atom in modeller.topology.atoms() if atom.index == 3])
    topology = modeller.topology
    system = openmm.System()
    nonbonded = openmm.NonbondedForce()
    old = next(f for f in mm.getForces() if isinstance(f, openmm.NonbondedForce))
    for i in range(mm.getNumParticles()):
        if i == 3:
            continue
        system.addParticle(mm.getParticleMass(i))
        q, sigma, epsilon = old.getParticleParameters(i)
        nonbonded.addParticle({0: -0.834, 1: 0.417, 2: 0.417}.get(i, q), sigma, epsilon)
    for molecule in range(1, NUM):
        first = 4 * molecule - 1
        site = mm.getVirtualSite(4 * molecule + 3)
        weights = [site.getWeight(k) for k in range(3)]
        system.setVirtualSite(first + 3, openmm.ThreeParticleAverageSite(first, first + 1, first + 2, *weights))
        for a in range(4):
            for b in range(a):
                nonbonded.addException(first + a, first + b, 0, 1, 0)
    for a in range(3):
        for b in range(a):
            nonbonded.addException(a, b, 0, 1, 0)
    system.addForce(nonbonded)
    made = createQMMMSystem(topology, system, qm)
    xtb = cast(made.getForce(made.getNumForces() - 1))
    xtb.setAccuracy(0.01)
    # Hydrogens and M sites carry charges, the oxygens none.
    assert [xtb.getEmbeddingChargeParameters(i)[0] for i in range(xtb.getNumEmbeddingCharges())] == [
        4,
        5,
        6,
        8,
        9,
        10,
        12,
        13,
        14,
    ]
    context = new_context(made, x)
    context.computeVirtualSites()
    forces = energy_forces(context)[1]
    real = [i for i in range(len(x)) if not made.isVirtualSite(i)]
    numerical = numerical_forces(context, atoms=real)
    np.testing.assert_allclose(forces[real], numerical[real], atol=2e-3, rtol=0)
    assert np.abs(forces[3:]).max() > 100
    # And in dynamics, with the model-free integrator.
    integrator = openmmkstep.KStepIntegrator(0.0005, 1)
    moving = openmm.Context(made, integrator, openmm.Platform.getPlatformByName("Reference"))
    moving.setPositions(x)
    moving.computeVirtualSites()
    energies = []
    for _ in range(20):
        integrator.step(2)
        state = moving.getState(getEnergy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    assert state.getKineticEnergy()._value > 5
    # Velocity Verlet at 0.5 fs from a strained start; forces lost on M sites would show as tens of kJ/mol.
    assert np.std(energies) < 0.5


def test_four_site_water_as_qm():
    topology, mm = water_system(NUM, "tip4pew.xml")
    with pytest.raises(ValueError, match=r"QM atom 3 \(M\) has no element"):
        createQMMMSystem(topology, mm, range(4))
    with pytest.raises(ValueError, match=r"Particle 3 \(M of HOH\) is a virtual site that depends on QM atoms"):
        createQMMMSystem(topology, mm, range(3))


def test_moving_everything_changes_nothing():
    context = new_context(make())
    energy, forces = energy_forces(context)
    R = rotation_matrix(8)
    context.setPositions(X @ R.T + [2.0, -1.0, 0.5])
    energy2, forces2 = energy_forces(context)
    assert energy2 == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(forces2, forces @ R.T, atol=2e-3, rtol=0)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=2e-3)


def test_far_away_the_regions_do_not_see_each_other():
    x = X.copy()
    x[:3] += [1000, 0, 0]
    gas = XtbForce("GFN2-xTB", range(3), [8, 1, 1])
    gas.setAccuracy(0.01)
    topology, mm = water_system(NUM - 1)
    expected = energy_of(make_context(gas, 3, X[:3])) + energy_of(new_context(mm, X[3:]))
    # Two dipoles of 0.06 e nm at 1000 nm: 139*0.06^2/1e9. Coulomb sums over 1/1000 nm cancel to rounding.
    assert energy_of(new_context(make(), x)) == pytest.approx(expected, abs=1e-6)


def test_input_is_not_changed_and_output_is_what_it_says():
    topology, mm = water_system(NUM, rigidWater=False)
    mm.addForce(openmm.CMMotionRemover(10))
    before = openmm.XmlSerializer.serialize(mm)
    atoms, bonds = topology.getNumAtoms(), topology.getNumBonds()
    system = createQMMMSystem(topology, mm, range(3))
    assert openmm.XmlSerializer.serialize(mm) == before
    assert (topology.getNumAtoms(), topology.getNumBonds()) == (atoms, bonds)
    forces = {type(cast(f)).__name__: cast(f) for f in system.getForces()}
    assert set(forces) == {"HarmonicBondForce", "NonbondedForce", "HarmonicAngleForce", "CMMotionRemover", "XtbForce"}
    assert system.getNumForces() == 5
    bonded = [
        forces["HarmonicBondForce"].getBondParameters(i)[:2] for i in range(forces["HarmonicBondForce"].getNumBonds())
    ]
    assert len(bonded) == 2 * (NUM - 1) and min(min(b) for b in bonded) == 3
    assert forces["HarmonicAngleForce"].getNumAngles() == NUM - 1
    nonbonded = forces["NonbondedForce"]
    exceptions = {
        tuple(sorted(e[:2])): e
        for e in (nonbonded.getExceptionParameters(i) for i in range(nonbonded.getNumExceptions()))
    }
    assert len(exceptions) == 3 * NUM  # as before: all pairs within molecules
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert exceptions[pair][2]._value == 0 and exceptions[pair][4]._value == 0
    assert nonbonded.getParticleParameters(0) == next(
        f for f in mm.getForces() if isinstance(f, openmm.NonbondedForce)
    ).getParticleParameters(0)
    xtb = forces["XtbForce"]
    assert (xtb.getParticles(), xtb.getAtomicNumbers(), xtb.getForceGroup()) == ([0, 1, 2], [8, 1, 1], 1)
    assert xtb.getNumEmbeddingCharges() == 3 * (NUM - 1)
    assert [xtb.getFixedCharge(a)._value for a in range(3)] == [-0.834, 0.417, 0.417]
    assert {xtb.getEmbeddingChargeParameters(i)[2] for i in range(9)} == {10}


def test_rigid_qm_water_becomes_flexible():
    system = make()
    constrained = [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())]
    assert len(constrained) == 3 * (NUM - 1) and min(min(c) for c in constrained) == 3


def test_qm_water_pair_interacts_by_xtb_alone():
    """Two QM molecules: neither Lennard-Jones nor Coulomb of the force field between them."""
    gas = XtbForce("GFN2-xTB", range(6), [8, 1, 1, 8, 1, 1])
    gas.setAccuracy(0.01)
    assert energy_of(new_context(make(2, range(6)), X[:6])) == pytest.approx(
        energy_of(make_context(gas, 6, X[:6])), abs=1e-6
    )


def test_custom_nonbonded_force_loses_qm_pairs():
    topology, mm = water_system(NUM)
    custom = openmm.CustomNonbondedForce("1/r")
    for _ in range(mm.getNumParticles()):
        custom.addParticle([])
    custom.addExclusion(1, 0)
    custom.setForceGroup(5)
    mm.addForce(custom)
    context = new_context(createQMMMSystem(topology, mm, range(3)))
    expected = sum(1 / np.linalg.norm(X[i] - X[j]) for i in range(len(X)) for j in range(i) if i > 2)
    assert energy_of(context, {5}) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["phi_charges", "energy"])
def test_with_a_model(name, models):
    system = make(model=models(name))
    stand_in = cast(system.getForce(system.getNumForces() - 1))
    assert type(stand_in) is KStepModelForce and stand_in.getForceGroup() == 2
    context, plain = new_context(system), new_context(make())
    assert energy_of(context) == pytest.approx(energy_of(plain), abs=1e-6)  # the stand-in stands back
    fast = energy_of(context, {0, 2})
    alone = KStepModelForce(models(name), range(3))
    coulomb = 0.0
    if name == "phi_charges":
        for j in range(3, len(X)):
            alone.addEmbeddingCharge(j, CHARGE["O" if j % 3 == 0 else "H"], 10)
            coulomb += sum(
                K_E * CHARGE["O" if a == 0 else "H"] * CHARGE["O" if j % 3 == 0 else "H"] / np.linalg.norm(X[a] - X[j])
                for a in range(3)
            )
    expected = energy_of(plain, {0}) + energy_of(make_context(alone, len(X), X)) - coulomb
    assert fast == pytest.approx(expected, abs=1e-6)
    if name == "phi_charges":
        # With phi the fixed-charge Coulomb interaction cancels, as in xTB's case.
        np.testing.assert_allclose(
            energy_forces(context, {0, 2})[1], numerical_forces(context, {0, 2}), atol=2e-3, rtol=0
        )
