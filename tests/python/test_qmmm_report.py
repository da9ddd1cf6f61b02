"""describe(), embeddingConvergence(), and the charges that createQMMMSystem computes."""

import numpy as np
import openmm
import pytest
from conftest import energy_of, water_system
from small_systems import BOXES, alanine_dipeptide, new_context, nonbonded_of, water_box

from openmmkstep import XtbForce, cast, createQMMMSystem
from openmmkstep.qmmm import describe, embeddingConvergence

SIDE_CHAIN = [10, 11, 12, 13]
RADII = {"switchingDistance": 0.40, "cutoff": 0.70}


def xtb_of(system):
    return next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))


def test_describes_a_cut_in_a_periodic_box():
    topology, mm, x = alanine_dipeptide(40, "cubic")
    system = createQMMMSystem(topology, mm, SIDE_CHAIN, **RADII)
    text = describe(topology, system, x)
    assert "QM region: 4 of 142 particles, GFN2-xTB by libxtb 6" in text and ", charge 0, multiplicity 1" in text
    assert "residues (QM atoms): ALA 2 (4)" in text
    assert "CB of ALA 2 (atom 10) - CA of ALA 2 (atom 8), link hydrogen at 0.109 nm" in text
    host = nonbonded_of(system).getParticleParameters(8)[0]._value
    assert f"{host:.4f} e from atom 8" in text
    assert "periodic, 138 charges, switched off from 0.40 to 0.70 nm" in text
    assert "groups (molecules, ions, residues): 43, of which 3 at the cuts are always seen" in text
    assert "Cost of one evaluation here: xTB" in text and "model: none" in text
    assert "Warning: The embedding ends at 0.70 nm" in text
    # What is seen, counted by C++ as the charges whose force is not zero.
    context = new_context(system, x)
    forces = context.getState(getForces=True, groups={1}).getForces(asNumpy=True)._value
    seen = sum(np.abs(f).max() > 0 for i, f in enumerate(forces) if i not in SIDE_CHAIN)
    assert f"{seen} particles in all" in text


def test_describes_other_embeddings(models):
    topology, mm = water_system(4)
    assert "Embedding: mechanical" in describe(
        topology, createQMMMSystem(topology, mm, range(3), embedding="mechanical")
    )
    assert "Embedding: none" in describe(topology, createQMMMSystem(topology, mm, range(3), embedding="none"))
    system = createQMMMSystem(topology, mm, range(3), model=models("phi_charges"))
    text = describe(topology, system)
    assert "not periodic, 9 charges, all of them, at any distance" in text
    assert "model: yes" in text and "Warning" not in text and "Cost" not in text
    with pytest.raises(ValueError, match="Expected a System with an XtbForce"):
        describe(topology, mm)


def test_convergence_is_that_of_the_force():
    topology, mm, x = water_box(40, "cubic")
    system = createQMMMSystem(topology, mm, range(3), **RADII)
    points = embeddingConvergence(system, x, [0.5, 0.7, 0.9])
    assert [p.cutoff for p in points] == [0.5, 0.7, 0.9]
    for point in points:
        radii = {"cutoff": point.cutoff, "switchingDistance": point.cutoff - 0.3}
        context = new_context(createQMMMSystem(topology, mm, range(3), **radii), x)
        # SCF accuracy 0.05 against 0.001.
        assert point.energy == pytest.approx(energy_of(context, {1}), abs=1e-3)
        assert point.forces.shape == x.shape
    assert abs(points[0].energy - points[2].energy) > 0.01
    with pytest.raises(openmm.OpenMMException, match="box is too small"):
        embeddingConvergence(system, x, [1.2])
    topology, mm = water_system(4)
    with pytest.raises(ValueError, match="Expected a QM/MM System with a cutoff"):
        embeddingConvergence(createQMMMSystem(topology, mm, range(3)), x[:12], [0.5])


def test_mulliken_charges():
    """The mean of a short run: whole, alike for alike atoms, the same each time, the link hydrogen's with its host."""
    topology, mm, x = alanine_dipeptide(40, "cubic")
    systems = [createQMMMSystem(topology, mm, SIDE_CHAIN, charges="mulliken", positions=x, **RADII) for _ in range(2)]
    charges = [[nonbonded_of(s).getParticleParameters(i)[0]._value for i in SIDE_CHAIN] for s in systems]
    # On the CPU platform the order of sums is not always the same.
    assert charges[0] == pytest.approx(charges[1], abs=1e-6)
    assert sum(charges[0]) == pytest.approx(0, abs=1e-12)
    assert charges[0][1] == charges[0][2] == charges[0][3]
    # A methyl group by GFN2-xTB in water: hydrogens of 0.03 to 0.08 e. Its force-field charges are others.
    assert 0.02 < charges[0][1] < 0.10
    assert charges[0][1] != nonbonded_of(mm).getParticleParameters(11)[0]._value
    assert [xtb_of(systems[0]).getFixedCharge(a)._value for a in range(4)] == charges[0]
    # All that is MM is as with force-field charges.
    other = nonbonded_of(createQMMMSystem(topology, mm, SIDE_CHAIN, **RADII))
    for i in range(14, topology.getNumAtoms()):
        assert other.getParticleParameters(i) == nonbonded_of(systems[0]).getParticleParameters(i)


def test_given_charges():
    topology, mm, x = water_box(6, None)
    system = createQMMMSystem(topology, mm, range(3), charges=[-0.6, 0.25, 0.35])
    assert [nonbonded_of(system).getParticleParameters(i)[0]._value for i in range(3)] == [-0.6, 0.25, 0.35]
    # They cancel: the QM region sees the same surroundings.
    energies = [energy_of(new_context(s, x)) for s in (system, createQMMMSystem(topology, mm, range(3)))]
    assert energies[0] == pytest.approx(energies[1], abs=1e-8)


def test_unparametrised_molecule_gets_mulliken_charges():
    topology, mm, x = water_box(40, "cubic")
    nonbonded = nonbonded_of(mm)
    for i in range(3):
        _, sigma, epsilon = nonbonded.getParticleParameters(i)
        nonbonded.setParticleParameters(i, 0, sigma, epsilon)
    with pytest.raises(ValueError, match="Pass positions="):
        createQMMMSystem(topology, mm, range(3), **RADII)
    system = createQMMMSystem(topology, mm, range(3), positions=x, **RADII)
    oxygen, *hydrogens = (xtb_of(system).getFixedCharge(a)._value for a in range(3))
    assert hydrogens[0] == hydrogens[1] and -0.8 < oxygen < -0.5  # GFN2-xTB's water in water


def test_box_of_the_tests_is_too_small_for_the_default():
    topology, mm, x = water_box(6, "cubic")
    assert BOXES["cubic"][0, 0] == 2
    with pytest.raises(ValueError, match="a cutoff of 1 nm .* this one allows 0.87 nm"):
        createQMMMSystem(topology, mm, range(3), positions=x)
