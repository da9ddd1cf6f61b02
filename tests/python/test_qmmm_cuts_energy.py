"""Cuts through bonds: energies by the independent reference, forces by differences.

Alanine dipeptide, atoms (hosts of the cuts below in capitals):
ACE 0 H1, 1 CH3, 2 H2, 3 H3, 4 C, 5 O; ALA 6 N, 7 H, 8 CA, 9 HA, 10 CB, 11-13 HB, 14 C, 15 O; NME 16 N, 17 H, 18 C, 19-21 H.
Tolerances as in test_qmmm_periodic.py.
"""

import generate
import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of, numerical_forces
from qmmm_reference import QMMMReference, springs_and_charges
from small_systems import BOXES, alanine_dipeptide, new_context, nonbonded_of, wrapped_at_random

from openmmkstep import createQMMMSystem

COMMON, CORRECTOR, MODEL = {0}, {1}, {2}
ENERGY_TOLERANCE = 2e-4  # kJ/mol, of Ewald's sum
REGION_TOLERANCE = 1e-6  # kJ/mol
FORCE_TOLERANCE = 2e-3  # kJ/mol/nm
RADII = {"switchingDistance": 0.30, "cutoff": 0.55}
REGIONS = {
    "side chain": [10, 11, 12, 13],  # 10-8
    "acetyl": [0, 1, 2, 3, 4, 5],  # 4-6, an amide bond
    "peptide group": [4, 5, 6, 7],  # 4-1 and 6-8
    "alpha carbon": [8, 9, 10, 11, 12, 13],  # 8-6 and 8-14: two link hydrogens on one atom
    "up to the alpha carbon": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],  # 8-14
    "three cuts": [12, 10, 11, 13, 8, 9, 1, 0, 2, 3],  # 8-6, 8-14 and 1-4, out of order
}
BOUNDARIES = ["rcd", "charge-shift", "none"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of polar cuts


def make(region, boundary, box, waters=12, protein="amber14/protein.ff14SB.xml", smooth=False, model=None):
    """The QM/MM System, positions, and what makes its reference."""
    topology, mm, x = alanine_dipeptide(waters, box, protein)
    if smooth and box:
        nonbonded = nonbonded_of(mm)
        nonbonded.setUseSwitchingFunction(True)
        nonbonded.setSwitchingDistance(0.7)
        nonbonded.setPMEParameters(4.2, 40, 40, 40)
    qm = REGIONS[region]
    radii = RADII if box else {}
    system = createQMMMSystem(topology, mm, qm, boundary=boundary, charges="forcefield", model=model, **radii)

    def reference(qm_energy=None):
        return QMMMReference(
            topology,
            mm,
            qm,
            qm_energy,
            cutoff=radii.get("cutoff"),
            switching=radii.get("switchingDistance"),
            boundary=boundary,
        )

    return system, x, reference


@pytest.mark.parametrize("box", [None, "cubic", "triclinic"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("region", REGIONS)
def test_energy(region, boundary, box):
    system, x, reference = make(region, boundary, box)
    vectors = BOXES.get(box)
    expected = reference().energies(x, vectors)
    context = new_context(system, x)
    assert energy_of(context, COMMON) == pytest.approx(expected["common"], abs=ENERGY_TOLERANCE)
    assert energy_of(context, CORRECTOR) == pytest.approx(expected["region"], abs=REGION_TOLERANCE)


@pytest.mark.parametrize("region", ["side chain", "peptide group", "up to the alpha carbon"])
def test_energy_with_correction_maps(region):
    """ff19SB has a CMAP term over N, CA and C of the alanine; its torsions have 1 and 1, 2 and 1, or 3 and 2 QM atoms."""
    system, x, reference = make(region, "rcd", None, protein="amber19/protein.ff19SB.xml")
    assert len(reference().force_field.cmaps) == (0 if region == "up to the alpha carbon" else 1)
    assert energy_of(new_context(system, x)) == pytest.approx(reference().energy(x), abs=REGION_TOLERANCE)


def write_model(path, reference, x):
    """A model of the QM atoms and link hydrogens of this reference, and its energy for the reference."""
    numbers, rest, _, _ = reference.qm_input(x)
    q0 = 0.1 * np.sin(np.arange(len(numbers)))
    generate.write_molecule(path, numbers, rest.tolist(), q0.tolist())
    return springs_and_charges(rest, q0, generate.SPRING, generate.ALPHA, generate.MOLECULE_DAMPING)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("region", ["side chain", "three cuts"])
def test_energy_with_a_model(region, boundary, tmp_path):
    reference = make(region, boundary, "triclinic")[2]
    path = tmp_path / "model.pt"
    system, x, _ = make(region, boundary, None)
    energy = write_model(path, reference(), x)
    rng = np.random.default_rng(4)
    for box in (None, "triclinic"):
        system, x, reference = make(region, boundary, box, model=path)
        y = x + rng.normal(scale=0.003, size=x.shape)
        context = new_context(system, y)
        expected = reference(energy).energies(y, BOXES.get(box))
        assert energy_of(context, MODEL) == pytest.approx(expected["region"], abs=1e-8)
        assert energy_of(context, COMMON | MODEL) == pytest.approx(sum(expected.values()), abs=ENERGY_TOLERANCE)


def atoms_of_all_kinds(reference, x, box):
    """QM and MM hosts, their neighbours within three bonds on either side, and two waters."""
    near = reference.bonds.within([q for q, _ in reference.cuts], 3, reference.mm)
    inside = reference.bonds.within([m for _, m in reference.cuts], 2, reference.region)
    s = reference.switches(reference.images(x, box))
    waters = [n for n, (atoms, _, _) in enumerate(reference.groups) if atoms[0] >= 22]
    some = [min(waters, key=lambda n: abs(s[n] - 0.5)), max(waters, key=lambda n: s[n])]
    return sorted(near | inside | {i for n in some for i in reference.groups[n][0][:2]})


@pytest.mark.parametrize("box", [None, "triclinic"])
@pytest.mark.parametrize(
    "region, boundary",
    [("side chain", "rcd"), ("side chain", "charge-shift"), ("side chain", "none"), ("peptide group", "rcd")]
    + [("alpha carbon", "charge-shift"), ("three cuts", "rcd")],
)
def test_forces_are_minus_the_gradient(region, boundary, box):
    system, x, reference = make(region, boundary, box, smooth=True)
    atoms = atoms_of_all_kinds(reference(), x, BOXES.get(box))
    context = new_context(system, x)
    forces = energy_forces(context, CORRECTOR)[1]
    np.testing.assert_allclose(forces[atoms], numerical_forces(context, CORRECTOR, atoms)[atoms], atol=FORCE_TOLERANCE)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=FORCE_TOLERANCE)
    hosts = sorted({i for cut in reference().cuts for i in cut})
    assert np.abs(forces[hosts]).max(axis=1).min() > 10
    # All forces together, on the hosts: nothing of the classical terms near a cut is lost.
    forces = energy_forces(context)[1]
    np.testing.assert_allclose(forces[hosts], numerical_forces(context, -1, hosts)[hosts], atol=FORCE_TOLERANCE)


@pytest.mark.parametrize("region, boundary", [("side chain", "rcd"), ("three cuts", "charge-shift")])
def test_model_forces_are_minus_the_gradient(region, boundary, tmp_path):
    path = tmp_path / "model.pt"
    _, x, reference = make(region, boundary, None)
    write_model(path, reference(), x)
    system, x, reference = make(region, boundary, "triclinic", smooth=True, model=path)
    x = x + np.random.default_rng(5).normal(scale=0.003, size=x.shape)
    atoms = atoms_of_all_kinds(reference(), x, BOXES["triclinic"])
    context = new_context(system, x)
    forces = energy_forces(context, MODEL)[1]
    np.testing.assert_allclose(forces[atoms], numerical_forces(context, MODEL, atoms)[atoms], atol=FORCE_TOLERANCE)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("region", ["side chain", "three cuts"])
def test_images_do_not_matter(region):
    topology = alanine_dipeptide(12, "cubic")[0]
    system, x, _ = make(region, "rcd", "cubic")
    context = new_context(system, x)
    energy, forces = energy_forces(context)
    for seed in range(2):
        shift = np.random.default_rng(seed).uniform(-4, 4, 3)
        context.setPositions(wrapped_at_random(topology, x, BOXES["cubic"], seed) + shift)
        energy2, forces2 = energy_forces(context)
        assert energy2 == pytest.approx(energy, abs=ENERGY_TOLERANCE)
        np.testing.assert_allclose(forces2, forces, atol=FORCE_TOLERANCE, rtol=0)


def test_forgotten_exceptions_would_be_seen():
    """Products of charges where NonbondedForce has exceptions are wrong by tens of kJ/mol: the tests above see it."""
    _, x, reference = make("side chain", "rcd", None)
    right, wrong = reference(), reference()
    exceptions = wrong.force_field.exceptions
    wrong.force_field.exceptions = {
        (i, j): (right.charges[i] * right.charges[j], *rest) for (i, j), (_, *rest) in exceptions.items()
    }
    assert abs(right._subtracted(x, None) - wrong._subtracted(x, None)) > 10


def test_total_charge_is_kept():
    """The charges of NonbondedForce: whole for the QM region, the same in total, the same as the reference's."""
    for region in REGIONS:
        system, _, reference = make(region, "rcd", None)
        nonbonded = nonbonded_of(system)
        charges = np.array([nonbonded.getParticleParameters(i)[0]._value for i in range(nonbonded.getNumParticles())])
        np.testing.assert_allclose(charges, reference().charges, atol=1e-12)
        assert charges[REGIONS[region]].sum() == pytest.approx(0, abs=1e-10)
        assert charges.sum() == pytest.approx(0, abs=1e-6)


def test_input_is_not_changed():
    topology, mm, _ = alanine_dipeptide(2)
    before = openmm.XmlSerializer.serialize(mm)
    createQMMMSystem(topology, mm, REGIONS["side chain"])
    assert openmm.XmlSerializer.serialize(mm) == before
