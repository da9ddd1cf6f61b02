"""The ASE calculators: all routes on the same geometries, units and signs, point charges, refusals."""

import numpy as np
import openmm
import pytest
from conftest import CHARGES, MOLECULES, energy_forces, make_context, make_xtb, rotation_matrix

pytest.importorskip("ase", reason="ASE is not installed; pip install 'openmmkstep[ase]'")

from ase import Atoms, units
from ase.calculators.calculator import CalculatorSetupError, SCFError
from ase_systems import numerical_forces

from openmmkstep import KStepModelForce
from openmmkstep.ase import KStepModelCalculator, LinkAtoms, OpenMMCalculator, XtbForceCalculator, create_atoms

KJ = units.kJ / units.mol
EV_PER_ANGSTROM = KJ / 10  # of 1 kJ/mol/nm


def atoms_of(name: str, seed: int = 3) -> Atoms:
    """A molecule, turned so that no two of its atoms share a coordinate: xtb's own calculator is wrong there."""
    numbers, positions, charge, multiplicity = MOLECULES[name]
    atoms = Atoms(numbers=numbers, positions=10 * np.array(positions) @ rotation_matrix(seed).T)
    atoms.set_initial_charges([charge] + [0] * (len(atoms) - 1))
    atoms.set_initial_magnetic_moments([multiplicity - 1] + [0] * (len(atoms) - 1))
    return atoms


def assert_same(found, expected, tolerance: float = 1e-6) -> None:
    """Energies, or forces, that differ by less than 1e-6 of their size."""
    assert np.linalg.norm(np.subtract(found, expected)) < tolerance * np.linalg.norm(expected)


def other_route(route: str, method: str):
    if route == "tblite":
        calculators = pytest.importorskip("tblite.ase", reason="tblite is not installed")
        return calculators.TBLite(method=method, accuracy=0.01, verbosity=0)
    calculators = pytest.importorskip("xtb.ase.calculator", reason="the package xtb is not installed")
    return calculators.XTB(method=method, accuracy=0.01)


NAMES = ["bent water", "formaldehyde", "ammonium", "formate"]


# The calculator of the package xtb does not pass on the multiplicity.
@pytest.mark.parametrize("route, name", [(r, n) for r in ("tblite", "xtb") for n in NAMES] + [("tblite", "methyl")])
@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_other_ase_calculators_agree(route, method, name):
    atoms = atoms_of(name)
    other = other_route(route, method)
    ours = XtbForceCalculator(method=method, accuracy=0.01)
    assert_same(ours.get_potential_energy(atoms), other.get_potential_energy(atoms))
    # Forces of a molecule near its minimum are small; 1e-6 is of 5 eV/Angstrom, a bond stretched by some 0.1 Angstrom.
    assert abs(ours.get_forces(atoms) - other.get_forces(atoms)).max() < 5e-6
    np.testing.assert_allclose(ours.get_charges(atoms), other.get_charges(atoms), atol=1e-5)


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB", "GFN-FF"])
def test_same_as_xtb_force(method):
    force, x = make_xtb("formate", method)
    energy, forces = energy_forces(make_context(force, len(x), x))
    atoms = Atoms(numbers=MOLECULES["formate"][0], positions=10 * x)
    calc = XtbForceCalculator(method=method, charge=-1, accuracy=0.01)
    assert_same(calc.get_potential_energy(atoms), energy * KJ, 1e-12)
    assert_same(calc.get_forces(atoms), forces * EV_PER_ANGSTROM, 1e-9)
    assert ("charges" in calc.implemented_properties) == (method != "GFN-FF")


def test_point_charges_against_xtb_force():
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    energy, forces = energy_forces(make_context(force, len(x), x))
    atoms = Atoms("OH2", positions=10 * x[:3])
    calc = XtbForceCalculator(accuracy=0.01)
    alone = calc.get_potential_energy(atoms)
    points = calc.embed([0.0, 0.0, 0.0])
    points.set_positions(10 * x[3:])
    assert_same(calc.get_potential_energy(atoms), alone, 1e-9)
    points.set_charges([q for q, _ in CHARGES])
    assert_same(calc.get_potential_energy(atoms), energy * KJ, 1e-9)
    assert_same(np.vstack([calc.get_forces(atoms), points.get_forces(calc)]), forces * EV_PER_ANGSTROM)
    # Charges that move are noticed though the atoms are the same.
    points.set_positions(10 * x[3:] + 1)
    moved = calc.get_potential_energy(atoms)
    assert abs(moved - energy * KJ) > 1e-3
    assert moved == pytest.approx(calc.get_potential_energy(atoms), abs=0)


def test_forces_on_point_charges_are_the_gradient():
    _, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    atoms = Atoms("OH2", positions=10 * x[:3])
    calc = XtbForceCalculator(accuracy=0.001)
    points = calc.embed([q for q, _ in CHARGES])
    points.set_positions(10 * x[3:])
    atoms.calc = calc
    np.testing.assert_allclose(atoms.get_forces(), numerical_forces(atoms, 3e-4), atol=2e-5)
    forces, h = points.get_forces(calc), 1e-3
    for j, k in ((0, 0), (1, 2), (2, 1)):
        energies = []
        for step in (h, -h):
            y = 10 * x[3:]
            y[j, k] += step
            points.set_positions(y)
            energies.append(atoms.get_potential_energy())
        assert forces[j, k] == pytest.approx((energies[1] - energies[0]) / (2 * h), abs=1e-5)


@pytest.mark.parametrize("name", ["energy", "phi_charges"])
def test_model_against_its_force(models, name):
    path = models(name)
    embedded = name != "energy"
    x = np.array(MOLECULES["bent water"][1] + [p for _, p in CHARGES])
    force = KStepModelForce(path, range(3))
    for j, (q, _) in enumerate(CHARGES if embedded else ()):
        force.addEmbeddingCharge(3 + j, q)
    energy, forces = energy_forces(make_context(force, len(x), x))
    atoms = Atoms("OH2", positions=10 * x[:3])
    calc = KStepModelCalculator(path)
    if embedded:
        points = calc.embed([q for q, _ in CHARGES])
        points.set_positions(10 * x[3:])
        assert_same(points.get_forces(calc) if calc.get_potential_energy(atoms) else 0, forces[3:] * EV_PER_ANGSTROM)
    assert_same(calc.get_potential_energy(atoms), energy * KJ, 1e-9)
    assert_same(calc.get_forces(atoms), forces[:3] * EV_PER_ANGSTROM, 1e-9)


def test_model_of_other_atoms_is_refused(models):
    atoms = Atoms("HOH", positions=[[0, 0, 0], [1, 0, 0], [1, 1, 0]])
    with pytest.raises(CalculatorSetupError, match=r"elements \[8, 1, 1\] in this order, found \[1, 8, 1\]"):
        KStepModelCalculator(models("energy")).get_potential_energy(atoms)


def test_direct_model_is_no_calculator(tmp_path):
    import jumps

    jumps.write_jump(tmp_path / "jump.pt", jumps.Still(), 3, 3, 0.001)
    with pytest.raises(ValueError, match=r"is of the kind 'jump'; give direct models to KStep\(scheme='jump'\)"):
        KStepModelCalculator(tmp_path / "jump.pt")


def test_charge_and_multiplicity():
    atoms = atoms_of("methyl")
    energy = XtbForceCalculator(multiplicity=2).get_potential_energy(Atoms(atoms.numbers, atoms.positions))
    assert XtbForceCalculator().get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)
    calc = XtbForceCalculator(charge=1, multiplicity=1)
    cation = calc.get_potential_energy(atoms)
    assert cation > energy + 5
    calc.set(charge=0, multiplicity=2)
    assert calc.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-6)
    with pytest.raises(CalculatorSetupError, match="multiplicity"):
        XtbForceCalculator(multiplicity=1).get_potential_energy(atoms)
    atoms.set_initial_charges([0.3, 0, 0, 0])
    with pytest.raises(CalculatorSetupError, match="whole number, but the atoms' initial charges add up to 0.3"):
        XtbForceCalculator().get_potential_energy(atoms)


def test_refusals():
    atoms = atoms_of("bent water")
    with pytest.raises(TypeError, match="no parameter 'methd'; it has method, charge"):
        XtbForceCalculator(methd="GFN1-xTB")
    with pytest.raises(CalculatorSetupError, match="GFN-FF cannot see point charges"):
        XtbForceCalculator(method="GFN-FF").embed([1.0])
    calc = XtbForceCalculator()
    calc.embed([1.0])
    with pytest.raises(CalculatorSetupError, match="point charges have no positions"):
        calc.get_potential_energy(atoms)
    with pytest.raises(CalculatorSetupError, match="GFN3"):
        XtbForceCalculator(method="GFN3").get_potential_energy(atoms)
    atoms.set_cell([9, 9, 9])
    atoms.pbc = True
    with pytest.raises(CalculatorSetupError, match="the atoms are periodic"):
        XtbForceCalculator().get_potential_energy(atoms)
    # In a periodic box, but a molecule all the same.
    assert LinkAtoms(XtbForceCalculator(), [0, 1, 2]).get_potential_energy(atoms) < -100


def test_scf_failure_is_ases_own_error():
    atoms = Atoms("OH2", positions=[[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0]])
    with pytest.raises(SCFError, match="failed at the current positions|does not accept the molecule"):
        XtbForceCalculator(max_iterations=1).get_potential_energy(atoms)


def test_openmm_calculator(droplet):
    atoms = create_atoms(droplet.topology, droplet.mm_system, droplet.positions)
    calc = OpenMMCalculator(droplet.system, groups=[0])
    context = openmm.Context(
        droplet.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(droplet.positions)
    energy, forces = energy_forces(context, groups={0})
    assert_same(calc.get_potential_energy(atoms), energy * KJ, 1e-9)
    assert_same(calc.get_forces(atoms), forces * EV_PER_ANGSTROM, 1e-9)
    assert len(atoms.constraints[0].pairs) == 3 * 30 and atoms.pbc.sum() == 0
    np.testing.assert_allclose(atoms.get_masses()[:3], [15.99943, 1.007947, 1.007947])
    np.testing.assert_allclose(calc.get_virtual_charges(atoms)[3:6], [-0.834, 0.417, 0.417])
    with pytest.raises(CalculatorSetupError, match="has 90 particles, but there are 89 atoms"):
        calc.get_potential_energy(atoms[:89])
