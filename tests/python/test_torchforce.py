"""The TorchScript that a TorchForce runs, against KStepModelForce. openmm-torch itself: tests/openmm_torch."""

import zipfile
from pathlib import Path

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import energy_forces, run_python, water_positions, water_system
from small_systems import BOXES, alanine_dipeptide, new_context, water_box, wrapped_at_random
from test_qmmm_cuts_energy import RADII as SHORT_RADII
from test_qmmm_cuts_energy import REGIONS
from test_qmmm_periodic import RADII, long_molecule

import openmmkstep
from openmmkstep import KStepModelForce, cast, createQMMMSystem
from openmmkstep.torchforce import createTorchForce, probeOpenMMTorch
from openmmkstep.torchforce._force import create_module

MODEL = {2}
EXAMPLE = Path(__file__).parents[2] / "examples" / "alanine_dipeptide" / "model.pt"
# Both in double precision; what differs is the order of sums and of lattice translations, of coordinates up to 8 nm
# (1e-15 nm) and constants up to 4e5 kJ/mol/nm^2.
ENERGY_TOLERANCE = 1e-9  # kJ/mol
FORCE_TOLERANCE = 2e-9  # kJ/mol/nm
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of polar cuts


def force_of(system: openmm.System) -> KStepModelForce:
    return next(f for f in map(cast, system.getForces()) if isinstance(f, KStepModelForce))


def evaluate(module, force, x, box=None) -> tuple[float, np.ndarray]:
    """Energy and forces of the module, in the way that a TorchForce calls it."""
    positions = torch.tensor(np.array(x), requires_grad=True)
    arguments = [torch.tensor(np.array(box))] if force.usesPeriodicBoundaryConditions() else []
    energy = module(positions, *arguments)
    (gradient,) = torch.autograd.grad(energy, positions)
    return energy.item(), -gradient.numpy()


def compare(system, x, box=None, tolerances=(ENERGY_TOLERANCE, FORCE_TOLERANCE)) -> np.ndarray:
    """Compare with the KStepModelForce in a System; returns the forces."""
    force = force_of(system)
    energy, forces = evaluate(create_module(force.getModelData(), force, None), force, x, box)
    expected, expected_forces = energy_forces(new_context(system, x), MODEL)
    assert energy == pytest.approx(expected, abs=tolerances[0])
    np.testing.assert_allclose(forces, expected_forces, atol=tolerances[1], rtol=0)
    return forces


def write_model(path, numbers, x):
    """A model of these atoms, at rest near these positions, that sees the potential."""
    rng = np.random.default_rng(3)
    generate.write_molecule(path, numbers, x + rng.normal(scale=0.002, size=x.shape), 0.3 * rng.normal(size=len(x)))
    return path


@pytest.mark.parametrize("name", ["energy", "forces", "phi_energy", "phi_charges", "ignores_phi"])
def test_all_kinds_of_models(name, models):
    topology, mm = water_system(12)
    forces = compare(createQMMMSystem(topology, mm, range(3), model=models(name)), water_positions(12, 1))
    assert np.abs(forces[:3]).max() > 100
    assert (np.abs(forces[3:]).max() > 1) == ("phi" in name)


@pytest.mark.parametrize("box", ["cubic", "triclinic", "tilted"])
def test_periodic(box, models):
    """Each particle is moved by lattice vectors of its own: the region and all groups must be made whole."""
    topology, mm, x = water_box(40, box)
    system = createQMMMSystem(topology, mm, range(3), model=models("phi_charges"), **RADII)
    x += np.random.default_rng(1).integers(-2, 3, size=x.shape) @ BOXES[box]
    forces = compare(system, x, BOXES[box])
    seen = np.abs(forces[3:]).max(axis=1) > 0
    assert 20 < sum(seen) < len(seen)


def cut_system(folder, region, boundary, box):
    """Alanine dipeptide with cut bonds among waters, with a model of what is on the QM side: topology, System, positions."""
    topology, mm, x = alanine_dipeptide(12, box)
    qm = REGIONS[region]
    options = {"boundary": boundary, "charges": "forcefield"} | (SHORT_RADII if box else {})
    without = createQMMMSystem(topology, mm, qm, **options)
    xtb = cast(without.getForces()[-1])
    links = []
    for i in range(xtb.getNumLinkAtoms()):
        a, b, distance = xtb.getLinkAtomParameters(i)
        links.append(x[a] + distance._value * (x[b] - x[a]) / np.linalg.norm(x[b] - x[a]))
    model = write_model(folder / "model.pt", [*xtb.getAtomicNumbers(), *[1] * len(links)], np.vstack([x[qm], links]))
    return topology, createQMMMSystem(topology, mm, qm, model=model, **options), x


@pytest.mark.parametrize("box", [None, "triclinic"])
@pytest.mark.parametrize("region, boundary", [("side chain", "rcd"), ("three cuts", "charge-shift")])
def test_link_atoms(region, boundary, box, tmp_path):
    """Link hydrogens, charges at the boundary, exceptions, groups that are always seen."""
    topology, system, x = cut_system(tmp_path, region, boundary, box)
    assert force_of(system).getNumVirtualCharges() > 0 and force_of(system).getNumExceptions() > 0
    if box:
        x = wrapped_at_random(topology, x, BOXES[box], 3)
    compare(system, x, BOXES.get(box))


def test_region_that_is_large_against_the_box(tmp_path):
    """Atoms further than a quarter of the box from the first one are placed next to their neighbours."""
    topology, mm, x = water_box(40, "cubic")
    distance = np.linalg.norm(x[::3] - x[0], axis=1)
    qm = [
        a
        for w in np.flatnonzero((distance < 0.43) | (abs(distance - 0.594) < 0.01))[:4]
        for a in range(3 * w, 3 * w + 3)
    ]
    qm = qm[-3:] + qm[:-3]
    model = write_model(tmp_path / "model.pt", [8, 1, 1] * (len(qm) // 3), x[qm])
    system = createQMMMSystem(topology, mm, qm, model=model, switchingDistance=0.2, cutoff=0.4)
    rng = np.random.default_rng(2)
    assert np.linalg.norm(x[qm] - x[qm[0]], axis=1).max() > 0.5
    compare(system, x + rng.integers(-1, 2, size=x.shape) @ BOXES["cubic"], BOXES["cubic"])


def test_molecule_longer_than_the_box(tmp_path):
    topology, mm, x = long_molecule()
    model = write_model(tmp_path / "model.pt", [8, 1, 1], x[:3])
    compare(createQMMMSystem(topology, mm, range(3), model=model, **RADII), x, BOXES["cubic"])


def test_cutoff_without_a_box(models):
    topology, mm = water_system(40)
    system = createQMMMSystem(topology, mm, range(3), model=models("phi_energy"), **RADII)
    compare(system, water_positions(40, 1))


def test_model_of_the_example():
    topology, mm, x = alanine_dipeptide(20)
    # KStepModelForce sums its networks, which are in single precision, in another order than TorchScript.
    compare(createQMMMSystem(topology, mm, range(22), model=EXAMPLE), x, tolerances=(5e-5, 2e-3))


def test_order(models):
    """Atom i of the model is atom order[i] of the XtbForce."""
    topology, mm = water_system(6)
    x = water_positions(6, 1)
    system = createQMMMSystem(topology, mm, range(3), model=models("phi_charges"))
    expected = compare(system, x)
    other = createQMMMSystem(topology, mm, [1, 0, 2])
    xtb = cast(other.getForces()[-1])
    _, forces = evaluate(create_module(models("phi_charges"), xtb, [1, 0, 2]), xtb, x)
    np.testing.assert_allclose(forces, expected, atol=FORCE_TOLERANCE, rtol=0)
    with pytest.raises(ValueError, match=r"Expected a model for the elements \[1, 8, 1\]"):
        create_module(models("phi_charges"), xtb, None)
    with pytest.raises(ValueError, match="Expected an order of the 3 particles"):
        create_module(models("phi_charges"), xtb, [0, 0, 2])


@pytest.mark.parametrize(
    "name, message",
    [
        ("charged", "Expected a model for charge 0 and multiplicity 1, found one for 1 and 2"),
        ("other_count", "for 2 atoms, but the QM region has 3"),
        ("helium_phi", r"hardness element 2 for the embedding charges, found \[10\]"),
        ("tuple_of_one", "does not return .'energy', 'forces'., as its contract says"),
        ("tuple_where_energy_promised", "does not return .'energy',., as its contract says"),
    ],
)
def test_models_that_do_not_fit(name, message, models):
    topology, mm = water_system(6)
    system = createQMMMSystem(topology, mm, range(3))
    xtb = cast(system.getForces()[-1])
    with pytest.raises(ValueError, match=message):
        create_module(models(name), xtb, None)


@pytest.mark.parametrize("name", ["flat_forces", "too_few_forces", "per_atom_energy"])
def test_models_that_break_their_promise(name, models):
    force = KStepModelForce(models(name), range(3))
    module = create_module(models(name), force, None)
    with pytest.raises(torch.jit.Error, match="Expected the model to return"):
        evaluate(module, force, water_positions(1, 1))


def test_model_that_does_not_see_the_charges(models):
    force = KStepModelForce(models("energy"), range(3))
    force.addEmbeddingCharge(3, 0.5)
    with pytest.raises(ValueError, match="cannot see the 1 embedding charges"):
        create_module(models("energy"), force, None)


def test_box_that_is_too_small(models):
    """Infinity rejects a barostat's trial."""
    topology, mm, x = water_box(40, "cubic")
    system = createQMMMSystem(topology, mm, range(3), model=models("phi_energy"), **RADII)
    force = force_of(system)
    module = create_module(models("phi_energy"), force, None)
    assert np.isfinite(evaluate(module, force, x, BOXES["cubic"])[0])
    assert evaluate(module, force, x, 0.7 * BOXES["cubic"])[0] == np.inf


def test_model_that_fails(models):
    """A frozen module that raises says why, and does not crash."""
    force = KStepModelForce(models("throws"), range(3))
    module = create_module(models("throws"), force, None)
    with pytest.raises(torch.jit.Error, match="this model does not like long bonds"):
        evaluate(module, force, 2 * water_positions(1, 1))


def test_machine_code_is_refused(models, tmp_path):
    package = tmp_path / "model.pt2"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    with pytest.raises(ValueError, match="a TorchForce cannot run"):
        create_module(package, KStepModelForce(models("energy"), range(3)), None)


@pytest.mark.skipif(probeOpenMMTorch().versions["openmmtorch"] is not None, reason="openmm-torch is installed")
def test_openmm_torch_is_not_installed(models):
    probe = probeOpenMMTorch()
    assert not probe.works and "pip install openmmtorch==1.5 'torch>=2.9,<2.10'" in probe.message
    assert probe.message in openmmkstep.check_installation().splitlines()
    with pytest.raises(ImportError, match="openmmtorch is not installed"):
        createTorchForce(models("energy"), KStepModelForce(models("energy"), range(3)))


@pytest.mark.parametrize(
    "code, timeout, message",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "the process ended with SIGSEGV"),
        ("raise ImportError('undefined symbol: _ZN3c10')", 60, "undefined symbol: _ZN3c10"),
        ("import time; time.sleep(60)", 3, "did not finish a trial within 3 s"),
    ],
)
def test_pairs_that_do_not_fit(code, timeout, message, tmp_path):
    """A package that does what broken pairs do when they are loaded: the process that probes survives, and tells."""
    (tmp_path / "openmmtorch.py").write_text(code)
    script = f"from openmmkstep.torchforce import probeOpenMMTorch\nprint(probeOpenMMTorch(timeout={timeout}))"
    result = run_python(script, {"PYTHONPATH": str(tmp_path)})
    assert message in result.stdout and "works=False" in result.stdout
