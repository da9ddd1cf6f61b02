"""Any Force, and any potential of openmm-ml, as corrector or model of a KStepIntegrator."""

import copy

import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of, get_positions
from generate import PAIRS, R0, K
from openmm import app, unit
from small_systems import alanine_dipeptide, new_context, nonbonded_of, water_box

from openmmkstep import KStepIntegrator, XtbForce, cast, createQMMMSystem, findMollification
from openmmkstep.analysis import qmRegions

pytest.importorskip("openmmml", reason="openmmml is not installed: pip install 'openmmml>=1.8,<2'")
from openmmml import MLPotential

from openmmkstep.ml import createKStepSystem

QM = [0, 1, 2]
STIFFER = 1.1
"""The corrector's springs are that much stiffer than the model's."""


def springs(state):
    """A water molecule with the springs of generate.py, made stiffer."""
    x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    energy, forces = 0.0, np.zeros_like(x)
    for (i, j), k, r0 in zip(PAIRS, K, R0, strict=True):
        d = x[i] - x[j]
        r = np.linalg.norm(d)
        energy += 0.5 * STIFFER * k * (r - r0) ** 2
        f = -STIFFER * k * (r - r0) / r * d
        forces[i] += f
        forces[j] -= f
    return energy, forces


def springs_force() -> openmm.HarmonicBondForce:
    force = openmm.HarmonicBondForce()
    for (i, j), k, r0 in zip(PAIRS, K, R0, strict=True):
        force.addBond(i, j, r0, STIFFER * k)
    return force


class Failing:
    """The springs, which fail at given calls: by an energy that is no number, or by an exception."""

    def __init__(self, calls, error=None):
        self.calls, self.error, self.count = calls, error, 0

    def __call__(self, state):
        self.count += 1
        energy, forces = springs(state)
        if self.count in self.calls:
            if self.error:
                raise self.error
            return np.nan, forces
        return energy, forces


def simulate(system, scheme, seed=5, k=4, x=None):
    integrator = KStepIntegrator(0.0005, k, scheme, temperature=300 if scheme == "metropolis" else None)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    context.setVelocitiesToTemperature(300, 7)
    return context, integrator


@pytest.fixture
def droplet_parts():
    topology, mm, x = water_box(6, None, spacing=0.31)
    return topology, mm, x


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_python_force_as_corrector(scheme, droplet_parts, models):
    """The trajectory is that of a Force of OpenMM's with the same energy; rejections are the same ones."""
    topology, mm, x = droplet_parts
    ends = []
    for corrector in (openmm.PythonForce(springs), springs_force()):
        system = createKStepSystem(topology, mm, QM, corrector, models("forces"))
        context, integrator = simulate(system, scheme, x=x)
        integrator.step(100)
        ends.append((get_positions(context), integrator.getStatistics()))
    assert np.abs(ends[0][0] - ends[1][0]).max() < 1e-6
    assert np.abs(ends[0][0] - x).max() > 0.01
    if scheme == "metropolis":
        assert ends[0][1]["accepted"] == ends[1][1]["accepted"] > 20
        assert ends[0][1]["firstAccepted"] < 100


@pytest.mark.parametrize("stands_back", [True, False])
def test_who_sees_what(stands_back, droplet_parts, models, tmp_path):
    """A k-step model stands back by itself; another Force in its place counts wherever nobody leaves it out."""
    topology, mm, x = droplet_parts
    plain = createKStepSystem(topology, mm, QM, springs_force())
    model = models("forces") if stands_back else openmm.PythonForce(springs)
    system = createKStepSystem(topology, mm, QM, springs_force(), model)
    truth, context = energy_of(new_context(plain, x)), new_context(system, x)
    alone = energy_of(context, {2})
    assert abs(alone) > 0.1
    assert energy_of(context, {0, 1}) == pytest.approx(truth, rel=1e-9)
    assert energy_of(context) == pytest.approx(truth + (0 if stands_back else alone), rel=1e-9)

    # KStepIntegrator, and with it the minimizer and reporters, leaves the model out.
    def simulation_of(system, integrator):
        simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
        simulation.context.setPositions(x)
        return simulation

    simulation = simulation_of(system, KStepIntegrator(0.0005, 2))
    assert simulation.integrator.getIntegrationForceGroups() & 0b111 == 0b011
    simulation.minimizeEnergy(maxIterations=20)
    reference = simulation_of(plain, openmm.VerletIntegrator(0.0005))
    reference.minimizeEnergy(maxIterations=20)
    assert energy_of(reference.context) < truth - 1
    assert np.abs(get_positions(simulation.context) - get_positions(reference.context)).max() < 1e-6
    log = tmp_path / "log.csv"
    simulation.reporters.append(app.StateDataReporter(str(log), 1, potentialEnergy=True))
    simulation.step(1)
    assert float(log.read_text().splitlines()[1]) == pytest.approx(energy_of(simulation.context, {0, 1}), rel=1e-9)

    # So does another integrator that is told to; a k-step model stands back without that.
    integrator = openmm.VerletIntegrator(0.0005)
    if not stands_back:
        integrator.setIntegrationForceGroups({0, 1})
    ends = []
    for context in (
        simulation_of(system, integrator).context,
        simulation_of(plain, openmm.VerletIntegrator(0.0005)).context,
    ):
        context.getIntegrator().step(10)
        ends.append(get_positions(context))
    assert np.abs(ends[0] - ends[1]).max() < 1e-9


def test_electrostatic_embedding(droplet_parts, models):
    """A k-step model sees the charges that xTB sees: the System is createQMMMSystem's."""
    topology, mm, x = droplet_parts
    system = createKStepSystem(
        topology, mm, QM, MLPotential("gfn2-xtb"), models("phi_charges"), embedding="electrostatic", positions=x
    )
    expected = createQMMMSystem(topology, mm, QM, model=models("phi_charges"))
    for groups in ({0}, {1}, {2}, {0, 1, 2}):
        found, wanted = (energy_forces(new_context(s, x), groups) for s in (system, expected))
        assert found[0] == pytest.approx(wanted[0], rel=1e-9)
        assert np.abs(found[1] - wanted[1]).max() < 1e-6 * np.abs(wanted[1]).max()


def test_cut_bond():
    """A PythonForce is given the link atom after the atoms, and a model of openmm-ml sees the same one."""
    topology, mm, x = alanine_dipeptide(0)
    side, host = [10, 11, 12, 13], 8
    seen = []

    def compute(state):
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        seen.append(positions)
        return 0.0, np.zeros_like(positions)

    info = createKStepSystem(topology, mm, side, openmm.PythonForce(compute), MLPotential("gfn-ff"), returnInfo=True)
    system = info["system"]
    (model,) = (f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))
    assert model.getParticles() == [*side, 22] and model.getAtomicNumbers() == [6, 1, 1, 1, 1]
    assert qmRegions(system)["QM"] == side  # the link atom has no mass
    context, integrator = simulate(system, "impulse", k=1, x=np.vstack([x, [[0, 0, 0]]]))
    context.computeVirtualSites()
    integrator.step(1)
    bond = x[host] - x[10]
    assert seen[0][:4] == pytest.approx(x[side])
    assert seen[0][4] == pytest.approx(x[10] + 0.107 * bond / np.linalg.norm(bond))
    # xTB's own link atoms are nobody else's.
    with pytest.raises(ValueError, match="saturates cut bonds without link atoms of their own"):
        createKStepSystem(
            topology, mm, side, MLPotential("gfn2-xtb"), MLPotential("gfn-ff"), embedding="electrostatic", charge=0
        )


def test_dynamics_with_link_atom():
    """Link atoms that are virtual sites leave the energy conserved: their forces and the model's belong together."""
    topology, mm, x = alanine_dipeptide(0)
    info = createKStepSystem(
        topology, mm, [10, 11, 12, 13], MLPotential("gfn2-xtb"), MLPotential("gfn-ff"), returnInfo=True
    )
    context, integrator = simulate(info["system"], "impulse", k=4, x=np.vstack([x, [[0, 0, 0]]]))
    context.computeVirtualSites()
    energies = []
    for _ in range(25):
        integrator.step(2)
        energies.append(integrator.computeConservedEnergy().value_in_unit(unit.kilojoule_per_mole))
    # 0.2 kJ/mol at h = 2 fs; the link atom's force is 350 kJ/mol/nm, whose loss costs 5 kJ/mol in 0.1 ps.
    assert np.std(energies) < 0.5
    assert integrator.getStatistics()["sdD"].value_in_unit(unit.kilojoule_per_mole) > 0.2
    x = get_positions(context)
    assert np.linalg.norm(x[22] - x[10]) == pytest.approx(0.107)


@pytest.mark.parametrize("scheme", ["impulse", "metropolis"])
def test_corrector_that_fails(scheme, droplet_parts, models):
    """An energy that is not a number is a rejection, or a macro-step that is repeated with a smaller k."""
    topology, mm, x = droplet_parts
    calls = {4, 5, 6, 7} if scheme == "metropolis" else {4}
    system = createKStepSystem(topology, mm, QM, openmm.PythonForce(Failing(calls)), models("forces"))
    context, integrator = simulate(system, scheme, x=x)
    integrator.step(10)
    statistics = integrator.getStatistics()
    assert np.isfinite(get_positions(context)).all() and statistics["macroSteps"] == 10
    if scheme == "metropolis":
        assert statistics["accepted"] < 10
    else:
        assert [e["kind"] for e in integrator.getEvents()][0] == "nonFinite"


def test_corrector_that_raises(droplet_parts, models):
    """The exception comes through, and the Context is as before the macro-step."""
    topology, mm, x = droplet_parts
    force = openmm.PythonForce(Failing({4}, RuntimeError("SCF did not converge")))
    context, integrator = simulate(createKStepSystem(topology, mm, QM, force, models("forces")), "impulse", x=x)
    integrator.step(2)
    before = get_positions(context)
    with pytest.raises(openmm.OpenMMException, match="SCF did not converge"):
        integrator.step(1)
    assert (get_positions(context) == before).all()
    integrator.step(1)


def test_checkpoint(droplet_parts, models):
    """A function that cannot be pickled, and so not be copied, is no obstacle to a restart."""
    topology, mm, x = droplet_parts
    force = openmm.PythonForce(lambda state: springs(state))
    context, integrator = simulate(createKStepSystem(topology, mm, QM, force, models("forces")), "metropolis", x=x)
    with pytest.raises(openmm.OpenMMException, match="pickled"):
        copy.deepcopy(context.getSystem())
    integrator.step(5)
    checkpoint = context.createCheckpoint()
    integrator.step(10)
    expected = get_positions(context)
    context.setPositions(x)
    context.loadCheckpoint(checkpoint)
    integrator.step(10)
    assert (get_positions(context) == expected).all()


def test_molecules(droplet_parts):
    """A region whose bonds are gone stays one molecule to barostats and to whoever makes molecules whole."""
    topology, mm, x = droplet_parts
    system = createKStepSystem(topology, mm, QM, springs_force(), openmm.PythonForce(springs))
    python = createKStepSystem(topology, mm, QM, openmm.PythonForce(springs), openmm.PythonForce(springs))
    for s in (system, python):
        assert (0, 1, 2) in {tuple(m) for m in new_context(s, x).getMolecules()}
    assert energy_of(new_context(python, x), {0}) == pytest.approx(energy_of(new_context(system, x), {0}), rel=1e-12)


def test_without_model(droplet_parts):
    """Then it is RESPA between the corrector and the force field."""
    topology, mm, x = droplet_parts
    system = createKStepSystem(topology, mm, QM, springs_force())
    assert {f.getForceGroup() for f in system.getForces()} == {0, 1}
    context, integrator = simulate(system, "impulse", k=1, x=x)
    start = integrator.computeConservedEnergy()
    integrator.step(50)
    drift = (integrator.computeConservedEnergy() - start).value_in_unit(unit.kilojoule_per_mole)
    assert abs(drift) < 0.5


def test_mollification_of_any_region(droplet_parts, models):
    """The QM atoms must be named where no XtbForce names them."""
    topology, mm, x = droplet_parts
    system = createKStepSystem(topology, mm, QM, openmm.PythonForce(springs), models("forces"))
    bonds = findMollification(topology, system, x, picoseconds=0.05, qmAtoms=QM)
    assert [b[:2] for b in bonds] == [(0, 1), (0, 2)]
    with pytest.raises(ValueError, match="XtbForce.*give qmAtoms"):
        findMollification(topology, system, x)


def test_force_of_another_system(droplet_parts, models):
    topology, mm, x = droplet_parts
    with pytest.raises(ValueError, match="corrector belongs to a System already"):
        createKStepSystem(topology, mm, QM, nonbonded_of(mm), models("forces"))
    with pytest.raises(TypeError, match="Expected an MLPotential or a Force as the corrector, found 'gfn2-xtb'"):
        createKStepSystem(topology, mm, QM, "gfn2-xtb", models("forces"))
    taken = copy.deepcopy(mm)
    nonbonded_of(taken).setForceGroup(2)
    with pytest.raises(ValueError, match="NonbondedForce is in force group 2"):
        createKStepSystem(topology, taken, QM, springs_force(), models("forces"))
