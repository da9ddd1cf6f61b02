"""The potentials of openmm-ml that this package adds: what XtbForce, KStepModelForce and createQMMMSystem give."""

import generate
import numpy as np
import openmm
import pytest
from conftest import MOLECULES, energy_forces, get_positions, make_context, make_xtb, numerical_forces, run_python
from openmm import app, unit
from small_systems import BOXES, alanine_dipeptide, new_context, nonbonded_of, water_box, wrapped_at_random

from openmmkstep import KStepModelForce, ModelContract, XtbForce, cast, createQMMMSystem, saveModel

pytest.importorskip("openmmml", reason="openmmml is not installed: pip install 'openmmml>=1.8,<2'")
from openmmml import MLPotential
from openmmml.embeddings.utilities import removeBonds

QM = [0, 1, 2]
METHODS = {"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB", "gfn-ff": "GFN-FF"}
RELATIVE = 1e-6
"""Of energies and, relative to the largest, of forces."""
BOX = {"cutoff": 0.7, "switchingDistance": 0.4}
"""What embedding a box of 2 nm allows."""


def topology_of(numbers, bonds=()) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(f"A{i}", app.Element.getByAtomicNumber(n), residue) for i, n in enumerate(numbers)]
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def evaluate(system, x, groups=-1):
    context = new_context(system, np.vstack([x, np.zeros((system.getNumParticles() - len(x), 3))]))
    context.computeVirtualSites()
    energy, forces = energy_forces(context, groups)
    return energy, forces[: len(x)]


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=RELATIVE)
    assert np.abs(found[1] - expected[1]).max() < RELATIVE * np.abs(expected[1]).max()


def force_of(system) -> openmm.Force:
    (force,) = (f for f in map(cast, system.getForces()) if isinstance(f, XtbForce | KStepModelForce))
    return force


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("molecule", ["bent water", "ammonium", "methyl"])
def test_whole_system_by_xtb(name, molecule):
    numbers, x, charge, multiplicity = MOLECULES[molecule]
    system = MLPotential(name).createSystem(topology_of(numbers), charge=charge, multiplicity=multiplicity)
    force, _ = make_xtb(molecule, METHODS[name], accuracy=0.001)
    assert_same(evaluate(system, x), energy_forces(make_context(force, len(x), x)))


def test_settings():
    """They reach the force from either place, the call's before the potential's."""
    numbers = MOLECULES["bent water"][0]
    potential = MLPotential("gfn2-xtb", accuracy=0.3, numThreads=2, electronicTemperature=500 * unit.kelvin, charge=1)
    topology = topology_of(numbers)
    system = potential.createSystem(topology, multiplicity=2, accuracy=0.2, maxIterations=99)
    force = force_of(system)
    found = (force.getCharge(), force.getMultiplicity(), force.getAccuracy(), force.getNumThreads())
    assert found == (1, 2, 0.2, 2)
    assert force.getElectronicTemperature() == 500 * unit.kelvin
    assert force.getMaxIterations() == 99
    system = potential.createSystem(topology, multiplicity=2)
    force = force_of(system)
    assert (force.getAccuracy(), force.getMaxIterations()) == (0.3, 250)
    topology, mm, _ = water_box(2, None)
    system = potential.createMixedSystem(topology, mm, [0, 1, 2], embedding="electrostatic", forceGroup=3, charge=0)
    assert (force_of(system).getAccuracy(), force_of(system).getForceGroup()) == (0.3, 3)


@pytest.mark.parametrize("box", [None, "cubic"])
@pytest.mark.parametrize("name", METHODS)
def test_mechanical_embedding(name, box):
    """Two QM molecules, in different images of the box."""
    topology, mm, x = water_box(12, box)
    qm = range(6)
    if box is not None:
        x = wrapped_at_random(topology, x, BOXES[box], 1)
        assert np.linalg.norm(x[0] - x[3]) > 1
    found = MLPotential(name).createMixedSystem(topology, mm, qm, forceGroup=1)
    expected = createQMMMSystem(topology, mm, qm, METHODS[name], embedding="mechanical")
    assert found.getNumConstraints() == expected.getNumConstraints() == 30
    for groups in ({0}, {1}):
        assert_same(evaluate(found, x, groups), evaluate(expected, x, groups))
    assert found.usesPeriodicBoundaryConditions() == (box is not None)


@pytest.mark.parametrize("box", [None, "cubic"])
@pytest.mark.parametrize("name", ["gfn1-xtb", "gfn2-xtb"])
def test_electrostatic_embedding(name, box):
    topology, mm, x = water_box(40, box)
    options = {} if box is None else BOX
    found = MLPotential(name).createMixedSystem(topology, mm, QM, embedding="electrostatic", forceGroup=1, **options)
    expected = createQMMMSystem(topology, mm, QM, METHODS[name], **options)
    for groups in ({0}, {1}):
        assert_same(evaluate(found, x, groups), evaluate(expected, x, groups))
    mechanical = MLPotential(name).createMixedSystem(topology, mm, QM)
    assert abs(evaluate(found, x)[0] - evaluate(mechanical, x)[0]) > 0.02


def test_charged_region_in_water():
    """Mulliken charges, which need positions, for a region whose charge is not the force field's."""
    topology, mm, x = water_box(8, None)
    args = {"charge": 1, "multiplicity": 2, "positions": x}
    found = MLPotential("gfn2-xtb").createMixedSystem(
        topology, mm, [0, 1, 2], embedding="electrostatic", **args, charges="mulliken"
    )
    expected = createQMMMSystem(topology, mm, [0, 1, 2], charge=1, multiplicity=2, positions=x, charges="mulliken")
    assert_same(evaluate(found, x), evaluate(expected, x))


def test_cut_bond_of_mechanical_embedding():
    """The link atom is a virtual site; nothing else differs from an XtbForce that places its own."""
    topology, mm, x = alanine_dipeptide(2)
    names = [a.name for a in topology.atoms()][:22]
    side, host = [10, 11, 12, 13], 8
    assert [names[i] for i in [*side, host]] == ["CB", "HB1", "HB2", "HB3", "CA"]
    info = MLPotential("gfn2-xtb").createMixedSystem(topology, mm, side, forceGroup=1, returnInfo=True)
    found = info["system"]
    assert found.getNumParticles() == info["topology"].getNumAtoms() == len(x) + 1
    expected = removeBonds(mm, topology, side, True)
    for i in side:
        for j in side[: side.index(i)]:
            nonbonded_of(expected).addException(i, j, 0, 1, 0, True)
    force = XtbForce("GFN2-xTB", side, [6, 1, 1, 1])
    force.addLinkAtom(10, host, 0.107)  # the sum of openmm-ml's covalent radii
    force.setForceGroup(1)
    expected.addForce(force)
    for groups in ({0}, {1}):
        assert_same(evaluate(found, x, groups), evaluate(expected, x, groups))
    context = new_context(found, np.vstack([x, [[0, 0, 0]]]))
    context.computeVirtualSites()
    atoms = [10, host]
    # 2e-3 kJ/mol/nm is xTB's own scatter, see test_xtb_force.py.
    assert np.abs(numerical_forces(context, atoms=atoms) - energy_forces(context)[1])[atoms].max() < 2e-3
    other = MLPotential("gfn2-xtb").createMixedSystem(
        topology, mm, side, forceGroup=1, linkAtomDistances=[(10, host, 0.112 * unit.nanometer)]
    )
    assert evaluate(other, x, {1})[0] != pytest.approx(evaluate(found, x, {1})[0], abs=0.1)


@pytest.mark.parametrize("embedding", ["mechanical", "electrostatic"])
@pytest.mark.parametrize("name", ["gfn2-xtb", "kstep"])
def test_interpolation(name, embedding, models):
    topology, mm, x = water_box(12, None)
    potential = (
        MLPotential(name, accuracy=0.001) if name != "kstep" else MLPotential(name, modelPath=models("phi_charges"))
    )
    mixed = potential.createMixedSystem(topology, mm, QM, embedding=embedding)
    both = potential.createMixedSystem(topology, mm, QM, embedding=embedding, interpolate=True, forceGroup=1)
    ends = evaluate(mm, x), evaluate(mixed, x)
    context = new_context(both, x)
    for value in (0, 0.3, 1):
        context.setParameter("lambda_interpolate", value)
        expected = [(1 - value) * a + value * b for a, b in zip(*ends, strict=True)]
        assert_same(energy_forces(context), expected)


@pytest.mark.parametrize("embedding", ["mechanical", "electrostatic"])
@pytest.mark.parametrize("box", [None, "cubic"])
def test_model(box, embedding, models):
    topology, mm, x = water_box(40, box)
    potential = MLPotential("kstep", modelPath=models("phi_charges"), numThreads=2)
    options = BOX if box is not None and embedding == "electrostatic" else {}
    args = {"positions": x, "charge": 0, "multiplicity": 1, **options}
    found = potential.createMixedSystem(topology, mm, QM, embedding=embedding, forceGroup=1, **args)
    assert force_of(found).getNumThreads() == 2
    expected = createQMMMSystem(topology, mm, QM, embedding=embedding, model=models("phi_charges"), **options)
    assert_same(evaluate(found, x), evaluate(expected, x, {0, 2}))


def test_whole_system_by_model(models):
    numbers, x, _, _ = MOLECULES["bent water"]
    system = MLPotential("kstep", modelPath=models("forces")).createSystem(topology_of(numbers))
    assert_same(evaluate(system, x), energy_forces(make_context(KStepModelForce(models("forces"), [0, 1, 2]), 3, x)))


def test_model_with_link_atom(tmp_path):
    """Its link atom is found among virtual sites, as is each other atom, whatever their order."""
    topology, mm, x = alanine_dipeptide(0)
    host, side = 8, [11, 12, 10, 13]
    arms = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    rest = np.vstack([[[0, 0, 0]], 0.105 * arms[:3], 0.15 * arms[3:]])
    contract = ModelContract(
        (6, 1, 1, 1, 1),
        inputs=("positions", "phi"),
        dampingLengths=(0.07,) * 5,
        hardnessElement=10,
        bonds=tuple((0, i) for i in range(1, 5)),
    )
    saveModel(generate.Molecule(rest, [0.0] * 5), tmp_path / "methane.pt", contract)
    potential = MLPotential("kstep", modelPath=tmp_path / "methane.pt")
    found = potential.createMixedSystem(topology, mm, side, forceGroup=1, positions=x)
    force = KStepModelForce(tmp_path / "methane.pt", [10, 11, 12, 13])
    force.addLinkAtom(10, host, 0.107)
    assert_same(evaluate(found, x, {1}), energy_forces(make_context(force, len(x), x)))
    mixed = evaluate(found, x)
    both = potential.createMixedSystem(topology, mm, side, positions=x, interpolate=True)
    assert_same(evaluate(both, x), mixed)


def test_model_does_not_stand_back(models):
    """Without a corrector there is nobody to make room for, whatever groups the force field is in."""
    topology, mm, x = water_box(4, None)
    for force in mm.getForces():
        force.setForceGroup(1)
    potential = MLPotential("kstep", modelPath=models("forces"))
    system = potential.createMixedSystem(topology, mm, QM)
    assert evaluate(system, x, {0})[0] > 0.1
    assert evaluate(system, x)[0] == pytest.approx(sum(evaluate(system, x, {g})[0] for g in (0, 1)))
    beside = potential.createMixedSystem(topology, mm, QM, forceGroup=2, correctorForceGroup=1)
    assert evaluate(beside, x)[0] == pytest.approx(evaluate(beside, x, {1})[0])


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda t, mm, m: MLPotential("gfn2-xtb").createSystem(t),
            "periodic box, but 'gfn2-xtb' treats its atoms as one",
        ),
        (lambda t, mm, m: MLPotential("gfn2-xtb", chrage=1), "does not know the argument 'chrage'"),
        (
            lambda t, mm, m: MLPotential("gfn2-xtb").createMixedSystem(t, mm, [0, 1, 2], chrage=1),
            "'chrage' here: it takes",
        ),
        (
            lambda t, mm, m: MLPotential("gfn2-xtb").createMixedSystem(t, mm, [0, 1, 2], cutoff=0.4),
            "does not know the argument 'cutoff'",
        ),
        (lambda t, mm, m: MLPotential("kstep"), "needs the file of a k-step model"),
        (
            lambda t, mm, m: MLPotential("kstep", modelPath=m("forces")).createMixedSystem(t, mm, range(6)),
            "does not fit the QM atoms",
        ),
        (
            lambda t, mm, m: MLPotential("kstep", modelPath=m("forces")).createMixedSystem(t, mm, QM, charge=1),
            "Expected a model for charge 1",
        ),
        (
            lambda t, mm, m: MLPotential("gfn-ff").createMixedSystem(t, mm, [0, 1, 2], embedding="electrostatic"),
            "electrostatic",
        ),
    ],
)
def test_errors(call, message, models):
    topology, mm, _ = water_box(2, "cubic")
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        call(topology, mm, models)


def test_no_element():
    topology = topology_of([8, 1, 1])
    topology.addAtom("M", None, next(topology.residues()))
    with pytest.raises(ValueError, match=r"Atom 3 \(M of MOL\) has no element"):
        MLPotential("gfn2-xtb").createSystem(topology)


def test_cut_bonds_without_link_atoms():
    topology, mm, x = alanine_dipeptide(0)
    with pytest.raises(ValueError, match="1 bonds between the atoms of 'gfn2-xtb' and the others are cut"):
        MLPotential("gfn2-xtb")._impl.addForces(topology, mm, [11, 12, 13, 10], 0)


def test_embeddings(models):
    potentials = [MLPotential("gfn1-xtb"), MLPotential("gfn-ff")]
    potentials += [MLPotential("kstep", modelPath=models(m)) for m in ("forces", "phi_energy")]
    assert ["electrostatic" in p.getSupportedEmbeddings() for p in potentials] == [True, False, False, True]


@pytest.mark.parametrize("first", ["openmmml", "openmmkstep.ml.potentials"])
def test_order_of_imports(first):
    """openmm-ml imports this package while it is imported itself."""
    code = f"import {first}\nfrom openmmml import MLPotential\nimport openmmkstep.ml\nprint(MLPotential('gfn-ff')._impl.method)"
    result = run_python(code)
    assert result.stdout == "GFN-FF\n", result.stderr


def test_without_openmm_ml():
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'openmmml':
            raise ImportError('openmmml is hidden')
sys.meta_path.insert(0, Blocker())
import openmmkstep
import openmmkstep.ml
"""
    result = run_python(code)
    assert "openmmkstep.ml needs OpenMM-ML 1.8" in result.stderr and "pip install 'openmmml>=1.8,<2'" in result.stderr


def test_dynamics_of_a_mixed_system():
    """As with XtbForce, plain dynamics conserves energy, virtual sites for link atoms included."""
    topology, mm, x = alanine_dipeptide(2)
    info = MLPotential("gfn2-xtb").createMixedSystem(topology, mm, [10, 11, 12, 13], returnInfo=True)
    integrator = openmm.VerletIntegrator(0.0005)
    simulation = app.Simulation(
        info["topology"], info["system"], integrator, openmm.Platform.getPlatformByName("Reference")
    )
    simulation.context.setPositions(np.vstack([x, [[0, 0, 0]]]))
    simulation.context.computeVirtualSites()
    simulation.minimizeEnergy(maxIterations=5)
    simulation.context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(20):
        simulation.step(5)
        state = simulation.context.getState(energy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole))
    # Verlet at 0.5 fs lets the energy fluctuate by some tenths of kJ/mol; a force left on the site is 100 times more.
    assert np.std(energies) < 0.5
    assert np.linalg.norm(np.diff(get_positions(simulation.context)[[10, -1]], axis=0)) == pytest.approx(0.107)
