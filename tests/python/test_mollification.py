"""The mollified impulse from Python: finding its bonds, and a real QM/MM run."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import energy_of, get_positions
from openmm import app, unit

from openmmkstep import KStepIntegrator, XtbForce, cast, findMollification

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alanine_dipeptide.droplet import PLATFORM, PLATFORM_PROPERTIES, Droplet

BONDS = [(1, 2, 0.109), (6, 7, 0.1013 * unit.nanometer)]


@pytest.fixture(scope="module")
def alanine():
    droplet = Droplet()
    return droplet, droplet.create_system(with_model=True)


def test_settings_survive_copies():
    integrator = KStepIntegrator(0.0005, 8)
    assert integrator.getMollification() == []
    integrator.setMollification(BONDS)
    clone = cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(integrator)))
    for copied in (integrator, copy.deepcopy(integrator), clone):
        assert [(a, b, r.value_in_unit(unit.nanometer)) for a, b, r in copied.getMollification()] == [
            (1, 2, 0.109),
            (6, 7, 0.1013),
        ]
    integrator.setMollifiedAngles([(2, 1, 0, 1.9), (7, 6, 1, 110 * unit.degree)])
    integrator.setAllowResonance(True)
    clone = cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(integrator)))
    for copied in (copy.deepcopy(integrator), clone):
        angles = copied.getMollifiedAngles()
        assert [a[:3] for a in angles] == [(2, 1, 0), (7, 6, 1)]
        assert [a[3].value_in_unit(unit.radian) for a in angles] == pytest.approx([1.9, np.radians(110)])
        assert copied.getAllowResonance()
    with pytest.raises(openmm.OpenMMException, match="positive"):
        integrator.setMollification([(0, 1, -0.1)])


def test_finds_the_bonds_to_hydrogen(alanine):
    droplet, system = alanine
    bonds = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2)
    assert sorted((a, b) for a, b, _ in bonds) == [
        (1, 0), (1, 2), (1, 3), (6, 7), (8, 9), (10, 11), (10, 12), (10, 13), (16, 17), (18, 19), (18, 20), (18, 21),
    ]  # fmt: skip
    lengths = {(a, b): r.value_in_unit(unit.nanometer) for a, b, r in bonds}
    # GFN2's equilibrium lengths are 0.1007 (N-H) and 0.108-0.110 nm (C-H); thermal motion adds less than 0.002.
    for pair, length in lengths.items():
        low, high = (0.0995, 0.1035) if pair[0] in (6, 16) else (0.1070, 0.1120)
        assert low < length < high


def test_finds_all_bonds_and_the_bends(alanine):
    droplet, system = alanine
    bonds, angles = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2, deep=True)
    region = [b for b in droplet.topology.bonds() if max(b.atom1.index, b.atom2.index) < 22]
    assert {frozenset(b[:2]) for b in bonds} == {frozenset((b.atom1.index, b.atom2.index)) for b in region}
    # A tree from its root outwards, the root the alpha carbon in the middle.
    reached = {8}
    for a, b, length in bonds:
        assert a in reached and b not in reached
        reached.add(b)
        assert 0.09 < length.value_in_unit(unit.nanometer) < 0.16
    assert sorted(a[0] for a in angles) == [0, 2, 3, 7, 9, 11, 12, 13, 17, 19, 20, 21]
    parents = {b: a for a, b, _ in bonds}
    for hydrogen, centre, reference, angle in angles:
        assert centre == parents[hydrogen] and reference == parents.get(centre, 6)
        # Tetrahedral at carbon, trigonal at nitrogen.
        assert angle.value_in_unit(unit.degree) == pytest.approx(109 if centre not in (6, 16) else 117, abs=6)


def region_of(elements: str, pairs, positions, constraints=()):
    """A System of one molecule under GFN2-xTB, with its topology."""
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8}
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [topology.addAtom(e, app.Element.getBySymbol(e), residue) for e in elements]
    for a, b in pairs:
        topology.addBond(atoms[a], atoms[b])
    for e in elements:
        system.addParticle(app.Element.getBySymbol(e).mass)
    for constraint in constraints:
        system.addConstraint(*constraint)
    force = XtbForce("GFN2-xTB", range(len(elements)), [numbers[e] for e in elements])
    force.setForceGroup(1)
    system.addForce(force)
    return topology, system, np.array(positions)


def test_ring_straight_bond_and_constraint():
    """Oxirane: one ring bond is left out. HCN: the straight angle is. Water: H against H, a constrained bond keeps its
    length."""
    oxirane = [
        [0.0734, -0.0374, 0], [-0.0734, -0.0374, 0], [0, 0.0860, 0],
        [0.1268, -0.0594, 0.0919], [0.1268, -0.0594, -0.0919], [-0.1268, -0.0594, 0.0919], [-0.1268, -0.0594, -0.0919],
    ]  # fmt: skip
    pairs = [(0, 1), (1, 2), (2, 0), (0, 3), (0, 4), (1, 5), (1, 6)]
    bonds, angles = findMollification(*region_of("CCOHHHH", pairs, oxirane), picoseconds=0.05, deep=True)
    assert len(bonds) == 6 and len(angles) == 4
    KStepIntegrator(0.0005, 8).setMollification(bonds)
    hcn = region_of("HCN", [(0, 1), (1, 2)], [[0, 0, 0], [0.1065, 0, 0], [0.2220, 0, 0.0001]])
    bonds, angles = findMollification(*hcn, picoseconds=0.05, deep=True)
    assert [b[:2] for b in bonds] == [(1, 0), (1, 2)] and angles == []
    water = region_of("OHH", [(0, 1), (0, 2)], [[0, 0, 0], [0.0757, 0.0586, 0], [-0.0757, 0.0586, 0]], [(0, 2, 0.0957)])
    bonds, angles = findMollification(*water, picoseconds=0.05, deep=True)
    assert [b[:2] for b in bonds] == [(0, 1), (0, 2)] and bonds[1][2] == 0.0957 * unit.nanometer
    assert [a[:3] for a in angles] == [(2, 0, 1)]
    assert [b[:2] for b in findMollification(*water, picoseconds=0.05)] == [(0, 1)]


def test_needs_an_xtb_force(alanine):
    droplet, _ = alanine
    with pytest.raises(ValueError, match="Expected a System with an XtbForce"):
        findMollification(droplet.topology, openmm.System(), droplet.positions)


def run_context(droplet, system, integrator):
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(PLATFORM), PLATFORM_PROPERTIES)
    context.setPositions(droplet.positions)
    return context


def test_resonance_is_refused(alanine, capfd):
    """The periods of real X-H bonds: 2 fs is silent, 3 fs warns once, 4 fs is refused unless 3 u, bonds or the opt-out."""
    droplet, system = alanine
    for k, expected in ((4, False), (6, True)):
        integrator = KStepIntegrator(0.0005, k)
        context = run_context(droplet, system, integrator)
        integrator.step(2)
        # One of the two N-H bonds.
        found = re.findall(
            r"is 0\.3[01]\d* of the period of the bond between particles (?:6 and 7|16 and 17) ", capfd.readouterr().err
        )
        assert len(found) == expected
    integrator = KStepIntegrator(0.0005, 8)
    context = run_context(droplet, system, integrator)
    with pytest.raises(
        openmm.OpenMMException, match=r"is 0.41\d* of the period .* setMollification.* smaller k \(5 here\)"
    ):
        integrator.step(1)
    np.testing.assert_array_equal(get_positions(context), droplet.positions.value_in_unit(unit.nanometer))
    integrator.setAllowResonance(True)
    integrator.step(1)
    heavy = KStepIntegrator(0.001, 4)
    context = run_context(droplet, droplet.create_system(with_model=True, heavy_hydrogen=True), heavy)
    heavy.step(1)
    assert capfd.readouterr().err == ""


def test_bias(alanine):
    """b = D(x) - D(A(x)), here from energies at positions that Python resets."""
    droplet, system = alanine
    found = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2, deep=True)
    integrator = KStepIntegrator(0.0005, 8)
    integrator.setMollification(found.bonds)
    integrator.setMollifiedAngles(found.angles)
    context = run_context(droplet, system, integrator)
    context.setVelocitiesToTemperature(300, 2)
    integrator.step(10)
    bias = integrator.computeMollificationBias().value_in_unit(unit.kilojoule_per_mole)

    def d() -> float:
        return energy_of(context, {1}) - energy_of(context, {2})

    x = get_positions(context)
    at_x = d()
    context.setPositions(integrator.mollifyPositions(x * unit.nanometer))
    # Warm and cold xTB calls at accuracy 0.05 differ by less than 1e-4.
    assert bias == pytest.approx(at_x - d(), abs=2e-3)
    assert 1e-3 < abs(bias) < 5


def test_conserves_its_energy_at_4_fs(alanine):
    """0.4 ps of the real droplet at h = 4 fs: K + U_common + U_model(x) + D(A(x)) stays, one xTB call a macro-step."""
    droplet, system = alanine
    bonds = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.2)
    integrator = KStepIntegrator(0.0005, 8)
    integrator.setMollification(bonds)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(PLATFORM), PLATFORM_PROPERTIES)
    context.setPositions(droplet.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 30)
    context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(20):
        integrator.step(5)
        energies.append(integrator.computeConservedEnergy().value_in_unit(unit.kilojoule_per_mole))
    # The step error of velocity Verlet with C-H stretches at 0.5 fs is some 0.3 kJ/mol; the total energy's parts move
    # by a hundred.
    assert np.std(energies) < 1.0
    assert integrator.getStatistics()["correctorCalls"] == 101
    # D at A(x) differs from D at x by what the model gets wrong in the stretches: little, but not nothing.
    state = context.getState(energy=True, groups=integrator.getIntegrationForceGroups())
    total = (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole)
    assert 0 < abs(total - energies[-1]) < 3.0


def test_what_was_found_can_be_set_as_it_is(alanine):
    """setMollification() takes what findMollification() returned: bonds alone, or bonds and angles."""
    droplet, system = alanine
    found = findMollification(droplet.topology, system, droplet.positions, picoseconds=0.05, deep=True)
    integrator = KStepIntegrator(0.0005, 8)
    integrator.setMollification(found)
    assert [a[:3] for a in integrator.getMollifiedAngles()] == [a[:3] for a in found.angles] != []
    assert [b[:2] for b in integrator.getMollification()] == [b[:2] for b in found.bonds]
    integrator.setMollification(type(found)(found.bonds[:1], []))
    assert integrator.getMollifiedAngles() == [] and len(integrator.getMollification()) == 1
