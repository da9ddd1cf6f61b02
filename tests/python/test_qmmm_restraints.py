"""addFlatBottomRestraint() on alanine dipeptide in water, against its formula and finite differences."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of, get_positions, numerical_forces, water_positions, water_system
from openmm import app, unit

from openmmkstep import createQMMMSystem
from openmmkstep.qmmm import addFlatBottomRestraint, selectResidues

DROPLET = Path(__file__).parents[2] / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb"
ALANINE = app.PDBFile(str(DROPLET))
TOPOLOGY = ALANINE.topology
SOLUTE = list(range(22))
OXYGENS = [22, 25, 28, 31]
WATERS = list(range(22, 34))
BOX = np.array([[3.0, 0, 0], [0.9, 2.8, 0], [-1.0, 0.8, 2.7]])
GROUP = 7
R0, K = 0.6, 800.0


def droplet_positions() -> np.ndarray:
    return np.array(ALANINE.positions.value_in_unit(unit.nanometer))


def alanine_system(box=None) -> openmm.System:
    topology = TOPOLOGY
    if box is not None:
        topology = app.Modeller(TOPOLOGY, ALANINE.positions).topology
        topology.setPeriodicBoxVectors(box * unit.nanometer)
    method = app.NoCutoff if box is None else app.CutoffPeriodic
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    return field.createSystem(topology, nonbondedMethod=method, nonbondedCutoff=0.8)


def restrained(system, *arguments, **kwargs) -> openmm.Context:
    """A Context in which the restraint is alone in its group."""
    force = system.getForce(addFlatBottomRestraint(system, TOPOLOGY, *arguments, **kwargs))
    assert force.getForceGroup() == 0
    force.setForceGroup(GROUP)
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def energy_by_formula(x, site, centres, box=None) -> float:
    total = 0.0
    shifts = np.array([[0, 0, 0]]) if box is None else np.array(list(np.ndindex(5, 5, 5))) - 2
    for atoms in centres:
        d = x[atoms].mean(axis=0) - x[site].mean(axis=0) + shifts @ BOX
        total += 0.5 * K * max(0.0, np.linalg.norm(d, axis=1).min() - R0) ** 2
    return total


@pytest.mark.parametrize("box", [None, BOX], ids=["droplet", "triclinic"])
def test_energy_and_forces(box):
    x = droplet_positions()
    # One water inside, three at different distances outside; in a box two of them in other images.
    centre = x[SOLUTE].mean(axis=0)
    for first, place in zip(OXYGENS, [(0, 0.55, 0), (0.62, 0, 0.1), (0.2, -0.8, 0.5), (0.3, 0.3, -1.2)], strict=True):
        x[first : first + 3] += centre + place - x[first]
    if box is not None:
        x[25:28] += BOX[0] - 2 * BOX[2]
        x[31:34] -= BOX[1]
    context = restrained(alanine_system(box), SOLUTE + WATERS, None, R0, K)
    context.setPositions(x)
    energy, forces = energy_forces(context, {GROUP})
    assert energy == pytest.approx(energy_by_formula(x, SOLUTE, [[i] for i in OXYGENS], box), rel=1e-6)
    moved = SOLUTE[:3] + WATERS
    assert forces[moved] == pytest.approx(numerical_forces(context, {GROUP}, moved)[moved], abs=1e-5)
    assert not forces[22].any() and not forces[OXYGENS[0] + 1 : OXYGENS[0] + 3].any()
    assert np.linalg.norm(forces[OXYGENS[1:]], axis=1).min() > 5
    # The solute bears the reaction, in equal shares.
    assert forces[SOLUTE] == pytest.approx(np.tile(-forces[OXYGENS].sum(axis=0) / 22, (22, 1)), abs=1e-8)
    if box is None:
        x[OXYGENS] = centre + 0.999 * R0 * np.eye(3)[[0, 1, 2, 0]]
        context.setPositions(x)
        assert energy_of(context, {GROUP}) == 0.0


def test_units_and_what_is_added():
    system = alanine_system()
    number = system.getNumForces()
    index = addFlatBottomRestraint(
        system, TOPOLOGY, SOLUTE + WATERS, None, 6 * unit.angstrom, 2 * unit.kilocalorie_per_mole / unit.angstrom**2
    )
    assert index == number == system.getNumForces() - 1
    force = system.getForce(index)
    assert force.getName() == "FlatBottomRestraint" and not force.usesPeriodicBoundaryConditions()
    assert force.getNumBonds() == 4
    for i in range(4):
        groups, parameters = force.getBondParameters(i)
        assert parameters == pytest.approx((836.8, 0.6))
        assert force.getGroupParameters(groups[0])[0] == tuple(SOLUTE)
        assert force.getGroupParameters(groups[1])[0] == (OXYGENS[i],)
    with pytest.raises(TypeError):
        addFlatBottomRestraint(system, TOPOLOGY, SOLUTE + WATERS, None, 6 * unit.kelvin, K)
    with pytest.raises(TypeError):
        addFlatBottomRestraint(system, TOPOLOGY, SOLUTE + WATERS, None, R0, K * unit.kilojoule_per_mole)


def test_any_molecules_and_site():
    """Molecules that are MM, and one with several heavy atoms, whose centre is the centroid."""
    x = droplet_positions()
    far = selectResidues(TOPOLOGY, "HOH")[-6:]
    x[far] += 2.0
    x[SOLUTE] -= 0.5
    context = restrained(alanine_system(), range(22, 25), [far[1], far[5], 3], R0, K, siteAtoms=range(22, 25))
    context.setPositions(x)
    site = [22, 23, 24]
    expected = energy_by_formula(x, site, [[far[0]], [far[3]], SOLUTE])
    assert energy_of(context, {GROUP}) == pytest.approx(expected, rel=1e-9)
    assert expected > energy_by_formula(x, site, [[far[0]], [far[3]]]) + 10
    # Without siteAtoms the site is what is left of the QM atoms; waters are no part of it, held or not.
    system = alanine_system()
    force = system.getForce(addFlatBottomRestraint(system, TOPOLOGY, range(28), [25], R0, K))
    assert [force.getGroupParameters(i)[0] for i in range(force.getNumGroups())] == [tuple(SOLUTE), (25,)]


def test_four_site_water():
    topology, system = water_system(3, "amber14/tip4pew.xml")
    index = addFlatBottomRestraint(system, topology, range(8), [7], R0, K, siteAtoms=[0])
    force = system.getForce(index)
    assert [force.getGroupParameters(i)[0] for i in range(force.getNumGroups())] == [(0,), (4,)]


def test_holds_a_water_of_a_qmmm_system():
    """It flies off and comes back; the energy is conserved; OpenMM counts site and molecule as one."""
    topology, mm = water_system(3, rigidWater=False)
    system = createQMMMSystem(topology, mm, range(6), method="GFN2-xTB")
    addFlatBottomRestraint(system, topology, range(6), [3], 0.5, 500, siteAtoms=range(3))
    integrator = openmm.VerletIntegrator(0.00025)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    x = water_positions(3, 2)
    x[3:6] += x[0] + [0.5, 0, 0] - x[3]
    x[6:9] += [0, 4.0, 0]
    context.setPositions(x)
    v = np.zeros((9, 3))
    v[3:6, 0] = 1.0
    context.setVelocities(v)
    assert sorted(map(sorted, context.getMolecules())) == [list(range(6)), [6, 7, 8]]
    start = context.getState(energy=True)
    distances = []
    for _ in range(30):
        integrator.step(40)
        x = get_positions(context)
        distances.append(np.linalg.norm(x[3] - x[:3].mean(axis=0)))
    end = context.getState(energy=True)
    total = [s.getPotentialEnergy()._value + s.getKineticEnergy()._value for s in (start, end)]
    assert 0.55 < max(distances) < 0.8 and distances[-1] < max(distances) - 0.05
    assert total[1] == pytest.approx(total[0], abs=0.1)


def periodic_system(edge):
    system = alanine_system(BOX)
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * [3, 3, edge]))
    return system


@pytest.mark.parametrize(
    "change, message",
    [
        ({"system": water_system(2)[1]}, "topology has 517 atoms but the System has 6 particles"),
        ({"qmAtoms": []}, "qmAtoms is empty"),
        ({"qmAtoms": [600]}, "qmAtoms must be indices from 0 to 516"),
        ({"molecules": [-1]}, "molecules must be indices from 0 to 516"),
        ({"molecules": []}, "molecules is empty"),
        ({"siteAtoms": [517]}, "siteAtoms must be indices from 0 to 516"),
        ({"radius": 0}, "radius above 0 nm, found 0"),
        ({"radius": float("nan")}, "radius above 0 nm, found nan"),
        ({"forceConstant": -1}, "force constant above 0 kJ/mol/nm\\^2, found -1"),
        ({"forceConstant": float("inf")}, "force constant above 0"),
        ({"qmAtoms": SOLUTE}, "no water molecules in qmAtoms"),
        ({"qmAtoms": WATERS}, "no centre; give siteAtoms"),
        ({"qmAtoms": SOLUTE, "molecules": [3]}, "no centre; give siteAtoms"),
        ({"siteAtoms": [3, 23]}, "HOH 2:11 is a molecule to keep and part of the site"),
        ({"system": periodic_system(1.2)}, "below half of the periodic box, 0.600 nm, found 0.600 nm"),
    ],
)
def test_bad_input(change, message):
    arguments = {"system": alanine_system(), "topology": TOPOLOGY, "qmAtoms": SOLUTE + WATERS, "molecules": None}
    arguments |= {"radius": R0, "forceConstant": K} | change
    before = arguments["system"].getNumForces()
    with pytest.raises(ValueError, match=message):
        addFlatBottomRestraint(**arguments)
    assert arguments["system"].getNumForces() == before
