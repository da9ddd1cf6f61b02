"""createQMMMSystem refuses what it cannot do, with a sentence that says what is wrong."""

import copy

import openmm
import pytest
from conftest import water_system, water_topology

from openmmkstep import XtbForce, createQMMMSystem

NUM = 4


# Bad input. Each entry changes one thing of a good call.


def nonbonded_of(system):
    return next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))


def small_box(call):
    nonbonded_of(call["mmSystem"]).setNonbondedMethod(openmm.NonbondedForce.PME)


def second_region(call):
    call["mmSystem"] = createQMMMSystem(call["topology"], call["mmSystem"], range(3))


def cutoff(call):
    nonbonded_of(call["mmSystem"]).setNonbondedMethod(openmm.NonbondedForce.CutoffNonPeriodic)


def offsets(call):
    nonbonded = nonbonded_of(call["mmSystem"])
    nonbonded.addGlobalParameter("s", 1)
    nonbonded.addParticleParameterOffset("s", 3, 0.1, 0, 0)


def bond_across(call):
    atoms = list(call["topology"].atoms())
    call["topology"].addBond(atoms[2], atoms[3])


def term_across(call):
    force = openmm.HarmonicBondForce()
    force.addBond(2, 3, 0.1, 100)
    call["mmSystem"].addForce(force)


def constraint_across(call):
    call["mmSystem"].addConstraint(2, 3, 0.1)


def exception_across(call):
    nonbonded_of(call["mmSystem"]).addException(2, 3, 0, 1, 0)


def force_in_group(group):
    def change(call):
        nonbonded_of(call["mmSystem"]).setForceGroup(group)

    return change


def add(force):
    return lambda call: call["mmSystem"].addForce(copy.deepcopy(force))


def virtual_site(call):
    call["mmSystem"].setParticleMass(2, 0)
    for i in reversed(range(call["mmSystem"].getNumConstraints())):
        call["mmSystem"].removeConstraint(i)
    call["mmSystem"].setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))


def no_element(call):
    next(call["topology"].atoms()).element = None


def without_nonbonded(call):
    system = call["mmSystem"]
    for i in reversed(range(system.getNumForces())):
        if isinstance(system.getForce(i), openmm.NonbondedForce):
            system.removeForce(i)


def setting(**kwargs):
    return lambda call: call.update(kwargs)


BAD = [
    (small_box, "box is too small for the embedding: a cutoff of 1 nm .* needs a wider one; this one allows 0.45 nm"),
    (cutoff, "uses a cutoff for the Coulomb interaction"),
    (offsets, "parameter offsets"),
    (bond_across, r"bond between the QM atom H2 of HOH 1 \(atom 2\) and .* cannot be cut: H2 is a hydrogen"),
    (term_across, r"term of HarmonicBondForce connects QM and MM atoms \(\[2, 3\]\)"),
    (constraint_across, "constraint connects QM and MM atoms"),
    (exception_across, r"exception between QM and MM atoms \(2, 3\)"),
    (force_in_group(1), "NonbondedForce is in force group 1"),
    (force_in_group(2), "NonbondedForce is in force group 2"),
    (add(openmm.GBSAOBCForce()), "GBSAOBCForce cannot be part .* implicit solvent"),
    (add(openmm.CustomGBForce()), "CustomGBForce cannot be part"),
    (add(openmm.DrudeForce()), "DrudeForce cannot be part .* polarizable"),
    (add(openmm.AmoebaMultipoleForce()), "AmoebaMultipoleForce cannot be part .* polarizable"),
    (add(openmm.CustomManyParticleForce(2, "0")), "does not know what to do with a CustomManyParticleForce"),
    (add(openmm.NonbondedForce()), "Expected one NonbondedForce in the System, found 2"),
    (add(XtbForce("GFN2-xTB", [0], [2])), "has a QM region already"),
    (second_region, "has a QM region already"),
    (without_nonbonded, "Expected one NonbondedForce in the System, found 0"),
    (virtual_site, r"QM atom 2 \(H2\) is a virtual site"),
    (no_element, r"QM atom 0 \(O\) has no element"),
    (setting(qmAtoms=[0, 1, 2, 2]), "occurs twice"),
    (setting(qmAtoms=[0, 1, 12]), "indices from 0 to 11, found 0 to 12"),
    (setting(qmAtoms=[-1, 0, 1]), "indices from 0 to 11, found -1"),
    (setting(qmAtoms=[0, 1]), r"MM atom H2 of HOH 1 \(atom 2\) cannot be cut"),
    (setting(topology=water_topology(3)), "topology has 9 atoms but the System has 12"),
    (setting(charge=2), "add up to .*0.0000 e, but the charge of the QM region is 2 e"),
    (setting(charge=1), "9 electrons .* cannot have multiplicity 1"),
    (setting(multiplicity=2), "10 electrons .* cannot have multiplicity 2"),
    (setting(method="PM6"), "Expected one of the methods GFN1-xTB, GFN2-xTB"),
    (setting(method="GFN-FF"), "Expected one of the methods .* found 'GFN-FF'"),
    (setting(embedding="polarizable"), "Expected one of the embeddings .* found 'polarizable'"),
    (
        setting(embedding="mechanical", cutoff=1.0),
        "A cutoff of the embedding was given, but the embedding is 'mechanical'",
    ),
    (setting(boundary="Z1"), "'Z1' deletes charges"),
    (setting(boundary="RCD2"), "Expected one of the boundary schemes"),
    (setting(charges="esp"), "Expected the charges 'auto', 'forcefield', 'mulliken' or a list, found 'esp'"),
    (setting(charges=[0.1, 0.2]), "Expected 3 charges, one for each QM atom, found 2"),
    (setting(charges=[0.1, 0.2, 0.3]), "given charges add up to 0.6000 e"),
    (setting(charges="mulliken"), "Mulliken charges .* there are none. Pass positions="),
    (setting(switchingDistance=0.5), "switching distance was given without a cutoff"),
    (setting(switchingDistance=0.9, cutoff=0.8), "switching distance must be between 0 and the cutoff"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[m[:40] for _, m in BAD])
def test_bad_input(change, message):
    topology, mm = water_system(NUM)
    call = {"topology": topology, "mmSystem": mm, "qmAtoms": range(3)}
    createQMMMSystem(**call)
    change(call)
    before = openmm.XmlSerializer.serialize(call["mmSystem"])
    with pytest.raises(ValueError, match=message):
        createQMMMSystem(**call)
    assert openmm.XmlSerializer.serialize(call["mmSystem"]) == before


def make(model):
    topology, mm = water_system(NUM)
    return createQMMMSystem(topology, mm, range(3), model=model)


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "wrong_species",
            r"does not fit the QM atoms: Expected a model for the elements \[8, 1, 1\], in this order, found one for \[1, 8, 1\]",
        ),
        ("other_count", r"elements \[8, 1, 1\], .* found one for \[8, 1\]"),
        ("charged", "charge 0 and multiplicity 1, found one for 1 and 2"),
        ("triplet", "charge 0 and multiplicity 1, found one for 0 and 3"),
        ("helium_phi", "hardness element"),
    ],
)
def test_wrong_model(name, message, models):
    with pytest.raises(ValueError, match=message):
        make(models(name))


def test_model_file_that_is_none(tmp_path):
    with pytest.raises(OSError):
        make(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"bad")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        make(tmp_path / "bad.pt")
