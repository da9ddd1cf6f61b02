"""checkModel on a water molecule by xTB among others, its input, and what it writes."""

import base64
import json
import re
import types

import generate
import numpy as np
import openmm
import pytest
import scipy.optimize
from conftest import energy_forces, water_positions, water_system, water_topology
from openmm import app, unit
from small_systems import alanine_dipeptide

from openmmkstep import ModelContract, XtbForce, createQMMMSystem, saveModel
from openmmkstep.data import Frames, Region
from openmmkstep.validation import (
    ModelEvaluator,
    ModelReport,
    checkModel,
    compareFrequencies,
    measureFrameErrors,
    prepareCheck,
)

MASSES = np.array([15.99943, 1.007947, 1.007947])
REFERENCE = openmm.Platform.getPlatformByName("Reference")
SPEED_OF_LIGHT = 2.99792458e10  # cm/s


@pytest.fixture(scope="module")
def cluster():
    """A QM water among seven others: topology, force-field System, QM/MM System, positions (nm)."""
    topology, mm = water_system(8)
    return topology, mm, createQMMMSystem(topology, mm, range(3)), water_positions(8, 1)


@pytest.fixture(scope="module")
def checked(cluster, models, tmp_path_factory):
    """The report of a quick check and the folder that it was written to."""
    topology, _, system, positions = cluster
    folder = tmp_path_factory.mktemp("check")
    rng = np.random.default_rng(1)
    x = positions[:3] + rng.normal(scale=0.003, size=(6, 3, 3))
    zeros = np.zeros((6, 3))
    phi = np.array([0.0, 0.0, 0.0, 20.0, 30.0, 10.0])[:, None] + zeros
    data = Frames(x, np.zeros(6), np.zeros_like(x), zeros, phi, np.zeros_like(x), np.full(6, 300), np.zeros(6))
    report = checkModel(
        system,
        positions * unit.nanometer,
        models("phi_charges"),
        topology=topology,
        data=data,
        folder=folder,
        starts=2,
        coordinate=lambda x: np.linalg.norm(x[1] - x[0]),
        quick=True,
        platform=REFERENCE,
        progress=False,
    )
    return report, folder


def harmonic(energy, start) -> np.ndarray:
    """The three frequencies (1/cm) of a water: minimum by scipy, Hessian from second differences of energies (nm)."""
    best = scipy.optimize.minimize(
        lambda y: energy(y.reshape(3, 3)), start.ravel(), method="Nelder-Mead", options=SEARCH
    )
    x, h = best.x, 5e-4
    hessian = np.zeros((9, 9))
    for i in range(9):
        for j in range(i + 1):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                y = x.copy()
                y[i] += a * h
                y[j] += b * h
                hessian[i, j] += a * b * energy(y.reshape(3, 3)) / (4 * h * h)
            hessian[j, i] = hessian[i, j]
    root = np.sqrt(np.repeat(MASSES, 3))
    values = np.linalg.eigvalsh(hessian / np.outer(root, root))[-3:]
    return np.sqrt(values) * 1e12 / (2 * np.pi * SPEED_OF_LIGHT)


SEARCH = {"xatol": 1e-7, "fatol": 1e-8, "maxiter": 20000, "maxfev": 20000, "adaptive": True}


def test_frequencies_of_water(cluster, models):
    """xTB and model, each against a minimum and a Hessian that come from energies alone.

    Second differences err by E'''' h^2/6: 0.3/cm; the minimum's residual force by less.
    """
    _, _, system, positions = cluster
    found = checkModel(
        system, positions, models("phi_charges"), parts=["frequencies"], platform=REFERENCE, progress=False
    ).frequencies
    assert found.environment == "gas phase" and found.imaginary == (0, 0) and max(found.residuals) < 0.5
    force = XtbForce("GFN2-xTB", range(3), [8, 1, 1])
    force.setAccuracy(0.01)
    system = openmm.System()
    for mass in MASSES:
        system.addParticle(mass)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)

    def xtb(x):
        context.setPositions(x)
        return context.getState(energy=True).getPotentialEnergy()._value

    def model(x):
        r = [np.linalg.norm(x[a] - x[b]) for a, b in generate.PAIRS]
        return sum(0.5 * k * (d - r0) ** 2 for k, d, r0 in zip(generate.K, r, generate.R0, strict=True))

    start = positions[:3]
    np.testing.assert_allclose(found.corrector, harmonic(xtb, start), atol=1.0)
    np.testing.assert_allclose(found.model, harmonic(model, start), atol=1.0)
    assert found.corrector[0] == pytest.approx(1500, abs=200) and found.corrector[2] > 3400
    difference = found.model - found.corrector
    assert found.rms == pytest.approx(np.sqrt((difference**2).mean()))
    assert found.largest == difference[np.abs(difference).argmax()]


def test_frozen_surroundings(cluster, models):
    """All nine modes of the QM water are bound by its neighbours."""
    _, _, system, positions = cluster
    subject = prepareCheck(system, positions, models("phi_charges"), platform=REFERENCE)
    found = compareFrequencies(subject, "frozen surroundings")
    assert found.corrector.shape == (9,) and found.imaginary[0] == 0
    assert found.corrector[-1] > 3000 and max(found.residuals) < 0.5


def test_report(checked):
    report, _ = checked
    assert not [n for n in report.notes if "came to an end" in n], report.notes
    assert report.stability.runs == 2 and report.errors.force.value > 100  # the model knows nothing of xTB
    assert report.errors.nearAtoms.value > 1 and report.gas.frames == report.baseline.frames == 20
    assert report.gas.charges.value > 0.01 and [d.frames for d in report.data] == [3, 3]
    assert [row.kind for row in report.steps.rows] == ["impulse", "mollified", "deep"]
    assert report.coordinate.frames.sum() == report.sampling.samples == 2 * 62
    # For single frames as for the groups of the Context: GFN-FF is another model for the same labels.
    assert report.baseline.forceSize == pytest.approx(report.gas.forceSize)
    text = str(report)
    for sentence in report.verdict:
        assert sentence in text
    assert "Harmonic frequencies, gas phase" in text and f"{report.frequencies.corrector[2]:.1f}" in text
    assert "along runs on the model, embedded" in text and "GFN-FF, gas phase" in text


def test_written_files(checked):
    """The page holds the numbers and its plots, and points nowhere; the JSON says the same."""
    report, folder = checked
    page = (folder / "check.html").read_text()
    names = {"forces", "elements", "d_histogram", "d_time", "acceptance", "frequencies", "drift", "coordinate"}
    assert {p.stem for p in folder.glob("*.png")} == names
    images = re.findall(r'<img alt="(\w+)" src="data:image/png;base64,([^"]+)">', page)
    assert {name for name, _ in images} == names
    for name, data in images:
        assert base64.b64decode(data) == (folder / f"{name}.png").read_bytes()
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script', page)
    for text in (report.errors.force.text(), report.sampling.sd.text()):
        assert text.replace("+-", "&plusmn;") in page
    assert f"{report.frequencies.model[1]:.1f}" in page and page.count("<li") == len(report.verdict + report.notes)
    content = json.loads((folder / "check.json").read_text())
    assert content["format"] == "kstep-check" and content["verdict"] == report.verdict
    assert content["sampling"]["sd"]["value"] == pytest.approx(report.sampling.sd.value)
    assert content["frequencies"]["corrector"] == pytest.approx(report.frequencies.corrector.tolist())
    assert content["errors"]["byElement"]["O"]["error"] == pytest.approx(report.errors.byElement["O"].error)


def test_page_escapes(tmp_path):
    ModelReport("A <b> & C", 300.0, verdict=["Not fit: 1 < 2"]).write(tmp_path)
    page = (tmp_path / "check.html").read_text()
    assert "A &lt;b&gt; &amp; C" in page and '<li class="bad">Not fit: 1 &lt; 2</li>' in page


@pytest.mark.filterwarnings("ignore::UserWarning")  # of polar cuts
@pytest.mark.parametrize("box", [None, "triclinic"])
def test_model_as_createqmmmsystem_sets_it_up(box, tmp_path):
    """With link hydrogens, redistributed charges and, in a box, switching: the same energy and forces as from there."""
    topology, mm, x = alanine_dipeptide(12, box)
    radii = {"switchingDistance": 0.30, "cutoff": 0.55} if box else {}
    qm = [12, 10, 11, 13, 8, 9]  # two link hydrogens, out of order
    options = {"charges": "forcefield"} | radii
    system = createQMMMSystem(topology, mm, qm, **options)
    species = [1, 6, 1, 1, 6, 1, 1, 1]
    rng = np.random.default_rng(3)
    path = tmp_path / "model.pt"
    generate.write_molecule(path, species, rng.uniform(0, 0.3, size=(8, 3)).tolist(), rng.normal(size=8).tolist())
    subject = prepareCheck(system, x, path, topology, REFERENCE)
    assert subject.region.species == tuple(species)
    held = createQMMMSystem(topology, mm, qm, model=path, **options)
    for made in (subject, prepareCheck(held, x, None, topology, REFERENCE)):
        contexts = [openmm.Context(s, openmm.VerletIntegrator(0.001), REFERENCE) for s in (made.system, held)]
        for context in contexts:
            context.setPositions(x)
        found, expected = (energy_forces(c, {2}) for c in contexts)
        assert found[0] == pytest.approx(expected[0], abs=1e-9) and abs(found[0]) > 1
        np.testing.assert_allclose(found[1], expected[1], atol=1e-7)
    # The molecule's own atoms: link hydrogens lie on the cut bonds at the force's distance.
    molecule = subject.molecule(x)
    for (q, m, d), link in zip(subject.links, molecule[6:], strict=True):
        assert np.linalg.norm(link - x[q]) == pytest.approx(d)
        assert np.linalg.norm(link - x[m]) == pytest.approx(np.linalg.norm(x[q] - x[m]) - d)


def test_model_in_another_order(cluster, tmp_path):
    """A model of H, O, H for the QM water O, H, H: as createQMMMSystem() matches it; frames keep the System's order."""
    topology, mm, system, positions = cluster
    path = tmp_path / "hoh.pt"
    rest, q0 = [[0.097, 0, 0], [0, 0, 0], [-0.024, 0.093, 0]], [0.34, -0.7, 0.36]
    module = generate.Molecule(rest, q0)
    contract = ModelContract(
        (1, 8, 1),
        inputs=("positions", "phi"),
        bonds=((0, 1), (1, 2)),
        dampingLengths=(0.07, 0.05, 0.07),
        hardnessElement=10,
    )
    saveModel(module, path, contract)
    held = createQMMMSystem(topology, mm, range(3), model=path, positions=positions)
    expected = openmm.Context(held, openmm.VerletIntegrator(0.001), REFERENCE)
    expected.setPositions(positions)
    energy, forces = energy_forces(expected, {2})
    for subject in (
        prepareCheck(system, positions, path, topology),
        prepareCheck(system, positions, path),
        prepareCheck(held, positions, None, topology),
    ):
        assert subject.region.species == (1, 8, 1) and subject.region.bonds == ((0, 1), (1, 2))
        assert subject.order[1] == 0 and list(subject.region.particles) == subject.order
        context = openmm.Context(subject.system, openmm.VerletIntegrator(0.001), REFERENCE)
        context.setPositions(positions)
        found = energy_forces(context, {2})
        assert found[0] == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(found[1], forces, atol=1e-7)
        np.testing.assert_array_equal(subject.molecule(positions), positions[subject.order])
        # Labels from the model itself, put into the System's order.
        x, phi = positions[:3], np.array([30.0, -20.0, 10.0])
        model = ModelEvaluator(subject)(x[subject.order], phi[subject.order])
        back = np.argsort(subject.order)
        label = Frames(
            x[None], [model[0]], [model[1][back]], [model[2][back]], [phi], np.zeros((1, 3, 3)), [300.0], [0]
        )
        report = measureFrameErrors(subject, label)
        assert report.force.value < 1e-9 and report.charges.value < 1e-12 and report.byElement["O"].value < 1e-9


def test_split_molecules_are_made_whole(models):
    """A QM water that is split by the periodic boundary."""
    box = 2.0
    topology, positions = water_topology(40), water_positions(40, 1)
    topology.setPeriodicBoxVectors(np.diag([box] * 3) * unit.nanometer)
    options = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.6, "rigidWater": True}
    mm = app.ForceField("amber14/tip3p.xml").createSystem(topology, **options)
    system = createQMMMSystem(topology, mm, range(3), cutoff=0.6)
    split = positions.copy()
    split[1] += [box, 0, -box]
    for found in (prepareCheck(system, x, models("phi_charges"), topology) for x in (positions, split)):
        molecule = found.molecule(found.starts[0])
        np.testing.assert_allclose(molecule - molecule[0], positions[:3] - positions[0], atol=1e-12)


def test_model_in_the_system_is_replaced(cluster, models):
    topology, mm, system, positions = cluster
    held = createQMMMSystem(topology, mm, range(3), model=models("phi_charges"))
    held.addForce(openmm.MonteCarloBarostat(1, 300))
    assert prepareCheck(held, positions).contract.outputs == ("energy", "forces", "charges")
    subject = prepareCheck(held, positions, models("energy"))
    assert subject.contract.outputs == ("energy",) and subject.system.getNumForces() == held.getNumForces() - 1
    assert held.getNumForces() == system.getNumForces() + 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wrong_species",
            r"does not fit the QM region: Expected a model for the elements \[8, 1, 1\], in this order, found one for \[1, 8, 1\]",
        ),
        ("charged", "charge 0 and multiplicity 1, found one for 1 and 2"),
        ("helium_phi", "hardness element 10, found 2"),
    ],
)
def test_models_that_do_not_fit(name, message, cluster, models):
    with pytest.raises(ValueError, match=message):
        checkModel(cluster[2], cluster[3], models(name), progress=False)


def test_bad_input(cluster, models):
    topology, mm, system, positions = cluster
    model = models("phi_charges")
    with pytest.raises(ValueError, match="give a model file, or a System with one KStepModelForce; found 0"):
        checkModel(system, positions, progress=False)
    with pytest.raises(ValueError, match=r"positions of the System's 24 particles.*found the shape \(1, 23, 3\)"):
        checkModel(system, positions[:-1], model, progress=False)
    with pytest.raises(ValueError, match="System with one XtbForce, found 0"):
        checkModel(mm, positions, model, progress=False)
    with pytest.raises(ValueError, match="some of the parts data, runs.*found speeed"):
        checkModel(system, positions, model, parts=["speeed"], progress=False)
    with pytest.raises(ValueError, match="'gas' looks at structures of the runs"):
        checkModel(system, positions, model, parts=["gas"], progress=False)
    with pytest.raises(ValueError, match="positive temperature, found -3.0 K"):
        checkModel(system, positions, model, temperature=-3, progress=False)
    with pytest.raises(ValueError, match="data of 3 atoms, found 0 frames of 4 atoms"):
        checkModel(system, positions, model, data=Frames.empty(4), progress=False)
    other = Region.fromSystem(createQMMMSystem(topology, mm, range(3), "GFN1-xTB"), topology)
    with pytest.raises(ValueError, match="'GFN2-xTB', 0, 1, 10, .* found data of .'GFN1-xTB', 0, 1, 2, "):
        checkModel(system, positions, model, data=types.SimpleNamespace(region=other), progress=False)
    with pytest.raises(ValueError, match="Frames or a Dataset, found list"):
        checkModel(system, positions, model, data=[1], progress=False)


def test_a_model_that_explodes(cluster, models):
    """What could not be done is said, and the verdict says why."""
    report = checkModel(
        cluster[2],
        cluster[3],
        models("explode"),
        parts=["runs"],
        starts=1,
        picoseconds=0.5,
        quick=True,
        platform=REFERENCE,
        progress=False,
    )
    assert report.stability.faults and report.verdict[0].startswith(
        "Not fit: 1 of 1 runs on the model broke down (run 1"
    )
    assert any(n.startswith("The part 'runs' came to an end early: Expected at least 25 values") for n in report.notes)
    assert report.sampling is None and "Predicted acceptance" not in str(report)
