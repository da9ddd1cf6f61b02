"""Periodic embedding: energies by the independent reference, forces by differences, identities.

Energies carry the error of OpenMM's Ewald sum or mesh against the reference's, 2e-4 kJ/mol at most
(test_qmmm_reference.py); what the QM region adds (group 1) is compared to 1e-6 kJ/mol, xTB's SCF at accuracy 0.001.
"""

import generate
import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of, get_positions, numerical_forces
from openmm import app
from qmmm_reference import QMMMReference, springs_and_charges, xtb_energy
from small_systems import BOXES, new_context, nonbonded_of, water_box, wrapped_at_random

from openmmkstep import createQMMMSystem

RADII = {"switchingDistance": 0.40, "cutoff": 0.70}
"""Short enough for groups inside, between and outside in a box of 2 nm."""
COMMON, CORRECTOR, MODEL = {0}, {1}, {2}
ENERGY_TOLERANCE = 2e-4  # kJ/mol, of Ewald's sum
REGION_TOLERANCE = 1e-6  # kJ/mol
FORCE_TOLERANCE = 2e-3  # kJ/mol/nm; see test_xtb_force.py
QM = [0, 1, 2]


def reference_of(topology, mm, qm=QM, qm_energy=None, **kwargs):
    return QMMMReference(
        topology, mm, qm, qm_energy, switching=RADII["switchingDistance"], cutoff=RADII["cutoff"], **kwargs
    )


def make(num=40, box="cubic", force_field="amber14/tip3p.xml", qm=QM, radii=RADII, options=None, **kwargs):
    """Topology, force-field System, QM/MM System, positions."""
    topology, mm, x = water_box(num, box, force_field, **(options or {}))
    return topology, mm, createQMMMSystem(topology, mm, qm, **radii, **kwargs), x


def smooth(mm: openmm.System) -> None:
    """Let Lennard-Jones end smoothly and the mesh be coarser, for differences of energies."""
    nonbonded = nonbonded_of(mm)
    nonbonded.setUseSwitchingFunction(True)
    nonbonded.setSwitchingDistance(0.7)
    nonbonded.setPMEParameters(4.2, 40, 40, 40)


def test_groups_of_all_kinds():
    """The systems below have what they are meant to have."""
    topology, mm, x = water_box(40, "cubic")
    reference = reference_of(topology, mm)
    s = reference.switches(reference.images(x, BOXES["cubic"]))
    assert sum(s == 1) >= 3 and sum((0.01 < s) & (s < 0.99)) >= 5 and sum(s == 0) >= 5


@pytest.mark.parametrize("place", ["middle", "edge", "wrapped"])
@pytest.mark.parametrize("box", BOXES)
def test_energy(box, place):
    topology, mm, system, x = make(box=box)
    vectors = BOXES[box]
    if place == "edge":
        x = x + vectors.sum(axis=0) / 2 + [0.02, 0.03, -0.04]
        inside = x[0::3] @ np.linalg.inv(vectors)
        x -= np.repeat(np.floor(inside) @ vectors, 3, axis=0)
    elif place == "wrapped":
        x = wrapped_at_random(topology, x, vectors, 1)
    expected = reference_of(topology, mm).energies(x, vectors)
    context = new_context(system, x)
    assert energy_of(context, CORRECTOR) == pytest.approx(expected["region"], abs=REGION_TOLERANCE)
    if box != "tilted":
        assert energy_of(context) == pytest.approx(sum(expected.values()), abs=ENERGY_TOLERANCE)


@pytest.mark.parametrize("kind", ["GFN1-xTB", "two molecules", "PME", "four sites", "ions", "CPU", "all pairs"])
def test_energy_of_other_systems(kind):
    """Another method, several QM molecules, a mesh, virtual sites, a charged MM group, another platform, no box."""
    box = None if kind == "all pairs" else "cubic"
    qm = QM if kind != "two molecules" else [5, 3, 4, 0, 1, 2]
    force_field = "tip4pew.xml" if kind == "four sites" else "amber14/tip3p.xml"
    method = "GFN1-xTB" if kind == "GFN1-xTB" else "GFN2-xTB"
    options = {"nonbondedMethod": app.PME} if kind == "PME" else {}
    topology, mm, x = water_box(40, box, force_field, **options)
    if kind == "ions":
        # A hydronium and a hydroxide in charges only: groups of +1 and -1 within the switching zone.
        nonbonded = nonbonded_of(mm)
        for first, charge in ((24, 1), (33, -1)):
            q, sigma, epsilon = nonbonded.getParticleParameters(first)
            nonbonded.setParticleParameters(first, q._value + charge, sigma, epsilon)
    reference = reference_of(topology, mm, qm, xtb_energy(method))
    vectors = None if box is None else BOXES[box]
    expected = reference.energies(x, vectors)
    if kind == "ions":
        s = reference.switches(reference.images(x, vectors))
        assert 0.1 < s[[7, 10]].min() and s[[7, 10]].max() < 1
    context = new_context(
        createQMMMSystem(topology, mm, qm, method, **RADII), x, "CPU" if kind == "CPU" else "Reference"
    )
    assert energy_of(context, CORRECTOR) == pytest.approx(expected["region"], abs=REGION_TOLERANCE)
    # Single precision of the CPU platform's NonbondedForce: some 1e-6 of hundreds of kJ/mol.
    tolerance = 1e-2 if kind == "CPU" else ENERGY_TOLERANCE
    assert energy_of(context) == pytest.approx(sum(expected.values()), abs=tolerance)


def write_water_model(folder):
    """A model of a QM water that sees the MM potential, and its energy for the reference."""
    rest, q0 = [[0, 0, 0], [0.097, 0, 0], [-0.024, 0.093, 0]], [-0.7, 0.34, 0.36]
    generate.write_molecule(folder / "water.pt", [8, 1, 1], rest, q0)
    constants = generate.SPRING, generate.ALPHA, generate.MOLECULE_DAMPING
    return folder / "water.pt", springs_and_charges(np.array(rest), q0, *constants)


@pytest.mark.parametrize("box", ["cubic", "triclinic"])
def test_energy_with_a_model(box, tmp_path):
    """The model sees the same charges at the same images, and the same sum is subtracted."""
    model, energy = write_water_model(tmp_path)
    topology, mm, system, x = make(box=box, model=model)
    x = wrapped_at_random(topology, x, BOXES[box], 2)
    expected = reference_of(topology, mm, QM, energy).energies(x, BOXES[box])
    context = new_context(system, x)
    assert energy_of(context, MODEL) == pytest.approx(expected["region"], abs=1e-8)
    assert energy_of(context, COMMON | MODEL) == pytest.approx(sum(expected.values()), abs=ENERGY_TOLERANCE)


def particles_of_all_kinds(reference, x, box) -> dict[str, list[int]]:
    """QM atoms, atoms of a group in full, two in the switching zone, one outside, one whose image is another's."""
    images = reference.images(x, box)
    s = reference.switches(images)
    groups = [atoms for atoms, _, _ in reference.groups]
    moved = [n for n, atoms in enumerate(groups) if np.abs(images[atoms[0]] - x[atoms[0]]).max() > 0.1 and s[n] > 0.02]
    between = np.flatnonzero((s > 0.05) & (s < 0.95))
    return {
        "QM": reference.qm,
        "full": groups[np.flatnonzero(s == 1)[0]],
        "switched": [i for n in between[:2] for i in groups[n]],
        "outside": groups[np.flatnonzero(s == 0)[0]][:1],
        "across the edge": groups[moved[0]] if moved else [],
    }


@pytest.mark.parametrize("kind", ["cubic", "triclinic", "four sites", "model"])
def test_forces_are_minus_the_gradient(kind, tmp_path):
    box = "triclinic" if kind in ("triclinic", "model") else "cubic"
    options = {"model": write_water_model(tmp_path)[0]} if kind == "model" else {}
    topology, mm, x = water_box(40, box, "tip4pew.xml" if kind == "four sites" else "amber14/tip3p.xml")
    smooth(mm)
    system = createQMMMSystem(topology, mm, QM, **RADII, **options)
    # The QM molecule's hydrogens reach over the edge of the box, and half of its neighbours are beyond it.
    x = wrapped_at_random(topology, x + BOXES[box][0] / 2, BOXES[box], 3)
    kinds = particles_of_all_kinds(reference_of(topology, mm), x, BOXES[box])
    assert all(kinds.values())
    atoms = sorted({i for particles in kinds.values() for i in particles if not system.isVirtualSite(i)})
    context = new_context(system, x)
    for groups in [CORRECTOR, -1] if kind != "model" else [MODEL, COMMON | MODEL]:
        forces = energy_forces(context, groups)[1]
        differences = numerical_forces(context, groups, atoms)
        np.testing.assert_allclose(forces[atoms], differences[atoms], atol=FORCE_TOLERANCE, rtol=0)
        assert np.abs(forces[kinds["switched"]]).max() > 1
        if groups == CORRECTOR:
            assert np.abs(forces[kinds["outside"]]).max() == 0
            # What acts on a virtual site has been passed on to its atoms.
            real = [i for i in range(len(x)) if not system.isVirtualSite(i)]
            np.testing.assert_allclose(forces[real].sum(axis=0), 0, atol=FORCE_TOLERANCE)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("qm", [QM, [0, 1, 2, 15, 16, 17]], ids=["one", "two"])
def test_images_do_not_matter(box, qm):
    """The same energy and forces after a translation of all, and with each molecule at another image."""
    # The second QM molecule makes the region wider.
    radii = RADII if len(qm) == 3 else {"switchingDistance": 0.40, "cutoff": 0.65}
    topology, _, system, x = make(box=box, qm=qm, radii=radii)
    context = new_context(system, x)
    before = {groups: energy_forces(context, {groups}) for groups in (1, 0)}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        context.setPositions(wrapped_at_random(topology, x, BOXES[box], seed) + rng.uniform(-4, 4, 3))
        energy, forces = energy_forces(context, CORRECTOR)
        assert energy == pytest.approx(before[1][0], abs=REGION_TOLERANCE)
        np.testing.assert_allclose(forces, before[1][1], atol=FORCE_TOLERANCE, rtol=0)
        if box != "tilted":
            energy, forces = energy_forces(context, COMMON)
            assert energy == pytest.approx(before[0][0], abs=ENERGY_TOLERANCE)
            # A translation moves the atoms against the mesh of PME.
            np.testing.assert_allclose(forces, before[0][1], atol=5e-3, rtol=0)


def test_nothing_in_range_is_mechanical():
    topology, mm, x = water_box(40, "cubic")
    reference = reference_of(topology, mm)
    reference.r_on, reference.r_off = 0.2, 0.3
    assert not reference.switches(x).any()
    energies = []
    for options in ({"cutoff": 0.3, "switchingDistance": 0.2}, {"embedding": "mechanical"}):
        context = new_context(createQMMMSystem(topology, mm, QM, **options), x)
        energies.append(energy_forces(context))
    assert energies[0][0] == pytest.approx(energies[1][0], abs=1e-7)
    np.testing.assert_allclose(energies[0][1], energies[1][1], atol=1e-4, rtol=0)
    mechanical = QMMMReference(topology, mm, QM, embedding="mechanical").energy(x, BOXES["cubic"])
    assert energies[1][0] == pytest.approx(mechanical, abs=ENERGY_TOLERANCE)


def test_empty_region_is_the_force_field():
    topology, mm, _ = water_box(6, "cubic")
    with pytest.warns(UserWarning, match="qmAtoms is empty"):
        system = createQMMMSystem(topology, mm, [])
    assert openmm.XmlSerializer.serialize(system) == openmm.XmlSerializer.serialize(mm)


def test_size_of_the_box_does_not_matter():
    """What the QM region adds is a sum over what is in range: the same in this box, in twice it, and without a box."""
    topology, _, system, x = make()
    context = new_context(system, x)
    energy = energy_of(context, CORRECTOR)
    context.setPeriodicBoxVectors(*(2 * BOXES["cubic"]))
    assert energy_of(context, CORRECTOR) == pytest.approx(energy, abs=1e-7)
    topology, mm, x = water_box(40, None)
    context = new_context(createQMMMSystem(topology, mm, QM, **RADII), x)
    assert energy_of(context, CORRECTOR) == pytest.approx(energy, abs=1e-7)


def test_converges_with_the_radius():
    """The fixed charges carry the long range: what a cutoff leaves out gets small."""
    topology, mm, x = water_box(300, None, spacing=0.40)
    energies = []
    for cutoff in (0.6, 1.0, 1.4, None):
        radii = {"cutoff": cutoff, "switchingDistance": cutoff - 0.2} if cutoff else {}
        energies.append(energy_of(new_context(createQMMMSystem(topology, mm, QM, **radii), x), CORRECTOR))
    errors = np.abs(np.array(energies[:-1]) - energies[-1])
    # The QM water's dipole by xTB differs from TIP3P's by about 0.05 e nm; that dipole's field on random dipoles.
    # 1.4, 1.1 and 0.18 kJ/mol at this structure, whose molecules are turned at random as no liquid's are.
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.3


@pytest.mark.parametrize("box", ["orthorhombic", "triclinic"])
def test_other_box(box):
    """Box and positions scaled, as a barostat does it, and a box of another shape."""
    topology, mm, system, x = make(box=box)
    context = new_context(system, x)
    reference = reference_of(topology, mm)
    vectors = BOXES[box]
    for scale in (1.03, np.array([1.0, 1.05, 0.99])):
        shift = np.repeat(x[0::3] * scale - x[0::3], 3, axis=0)
        new = vectors * scale
        context.setPeriodicBoxVectors(*new)
        context.setPositions(x + shift)
        assert energy_of(context) == pytest.approx(reference.energy(x + shift, new), abs=ENERGY_TOLERANCE)


def test_barostat():
    """Energies after trial moves of the box, accepted and rejected ones, are those of the state."""
    topology, mm, x = water_box(60, "cubic", spacing=0.45)
    mm.addForce(openmm.MonteCarloBarostat(300, 300, 1))
    system = createQMMMSystem(topology, mm, QM, **RADII)
    context = new_context(system, x)
    context.setVelocitiesToTemperature(300, 1)
    volumes, reference = set(), reference_of(topology, mm)
    for _ in range(4):
        context.getIntegrator().step(3)
        state = context.getState(getPositions=True, getEnergy=True)
        box = state.getPeriodicBoxVectors(asNumpy=True)._value
        volumes.add(np.linalg.det(box))
        energy = reference.energy(get_positions(context), box)
        assert state.getPotentialEnergy()._value == pytest.approx(energy, abs=5 * ENERGY_TOLERANCE)
    assert len(volumes) > 1


def test_box_too_small():
    """Refused at the start with 5 % to spare; later only where it is broken, and a trial move is rejected."""
    topology, mm, x = water_box(40, "cubic")
    reach = np.linalg.norm(x[QM] - x[QM].mean(axis=0), axis=1).max()
    with pytest.raises(ValueError, match="box is too small for the embedding: at most 0.87 nm"):
        createQMMMSystem(topology, mm, QM, cutoff=0.97 - reach, switchingDistance=0.7, positions=x)
    system = createQMMMSystem(topology, mm, QM, cutoff=0.94 - reach, switchingDistance=0.7)
    context = new_context(system, x)
    energy_of(context)
    context.setPeriodicBoxVectors(*(0.965 * BOXES["cubic"]))  # half of it is 0.965: little to spare, but enough
    assert np.isfinite(energy_forces(context)[0])
    context.setPeriodicBoxVectors(*(0.935 * BOXES["cubic"]))
    assert energy_of(context) == np.inf
    with pytest.raises(openmm.OpenMMException, match="box is too small for the embedding"):
        context.getState(getForces=True)
    with pytest.raises(openmm.OpenMMException, match="box is too small for the embedding"):
        context.getIntegrator().step(1)
    context.setPeriodicBoxVectors(*BOXES["cubic"])
    assert np.isfinite(energy_forces(context)[0])
    context = new_context(system, x)
    context.setPeriodicBoxVectors(*(0.935 * BOXES["cubic"]))
    with pytest.raises(openmm.OpenMMException, match="box is too small for the embedding"):
        energy_of(context)  # at the start there is no trial


def test_barostat_cannot_break_the_box():
    """A pressure that wants a smaller box than the radius allows: trials are rejected, the run goes on."""
    topology, mm, x = water_box(40, "cubic")
    barostat = openmm.MonteCarloBarostat(30000, 300, 1)
    barostat.setRandomNumberSeed(1)  # one seed in twenty takes more than 60 steps
    mm.addForce(barostat)
    reach = np.linalg.norm(x[QM] - x[QM].mean(axis=0), axis=1).max()
    cutoff = 0.94 - reach
    context = new_context(createQMMMSystem(topology, mm, QM, cutoff=cutoff, switchingDistance=0.7), x)
    context.setVelocitiesToTemperature(300, 1)
    sides = []
    for _ in range(60):
        context.getIntegrator().step(1)
        sides.append(context.getState().getPeriodicBoxVectors(asNumpy=True)._value[0, 0])
    assert min(sides) < 1.93  # it did shrink, to where 2 % of half the box are left for vibrations
    assert min(sides) / 2 > cutoff + reach + 0.01


def long_molecule(num: int = 16):
    """A QM water and a chain of neutral pairs of charges, bonded to one another, that is longer than the box."""
    topology, mm, x = water_box(1, "cubic")
    chain = topology.addChain()
    system, nonbonded, bonds = mm, nonbonded_of(mm), openmm.HarmonicBondForce()
    direction = np.array([0.6, 0.64, 0.48])
    first = system.getNumParticles()
    places, last = [], None
    for n in range(num):
        residue = topology.addResidue("PAIR", chain)
        pair = [topology.addAtom(name, app.element.carbon, residue) for name in ("C1", "C2")]
        topology.addBond(*pair)
        if last is not None:
            topology.addBond(last, pair[0])
        last = pair[1]
        for k, charge in enumerate((0.3, -0.3)):
            places.append((2 * n + k) * 0.12 * direction + [0.03 * (-1) ** k, 0.33, 0.02 * (-1) ** n])
            system.addParticle(12)
            nonbonded.addParticle(charge, 0.2, 0.3)
    for i in range(first, first + 2 * num - 1):
        bonds.addBond(i, i + 1, 0.14, 1000)
        nonbonded.addException(i, i + 1, 0, 1, 0)
    system.addForce(bonds)
    return topology, system, np.vstack([x, places])


def test_long_molecule():
    """A molecule longer than the box: its residues are at images of their own."""
    topology, mm, x = long_molecule()
    smooth(mm)
    assert np.linalg.norm(x[-1] - x[3]) > 3
    reference = reference_of(topology, mm)
    images = reference.images(x, BOXES["cubic"])
    s = reference.switches(images)
    shifts = {
        tuple(np.round((images[atoms[0]] - x[atoms[0]]) / 2))
        for (atoms, _, _), s in zip(reference.groups, s, strict=True)
        if s > 0
    }
    assert len(shifts) > 1
    system = createQMMMSystem(topology, mm, QM, **RADII)
    context = new_context(system, x)
    expected = reference.energies(x, BOXES["cubic"])
    assert energy_of(context, CORRECTOR) == pytest.approx(expected["region"], abs=REGION_TOLERANCE)
    assert energy_of(context) == pytest.approx(sum(expected.values()), abs=ENERGY_TOLERANCE)
    forces = energy_forces(context)[1]
    atoms = [0, 1, *range(3, len(x), 5)]
    np.testing.assert_allclose(forces[atoms], numerical_forces(context, atoms=atoms)[atoms], atol=FORCE_TOLERANCE)
