"""sampleFrames(): labels, restarts, clusters, models that fail. A QM water among 29 waters, on Reference."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import generate
import numpy as np
import openmm
import pytest
import torch
from conftest import energy_of, make_context, make_xtb
from small_systems import BOXES, alanine_dipeptide, new_context, nonbonded_of, wrapped_at_random

from openmmkstep import ModelContract, XtbForce, cast, createQMMMSystem, saveModel
from openmmkstep.data import Dataset, Frames, Region, sampleFrames
from openmmkstep.data.driver import Driver, make_system
from openmmkstep.data.labels import Labeller
from openmmkstep.data.sampling import SamplingWarning
from openmmkstep.data.walker import Walker

OPTIONS = {
    "cluster": "serial",
    "platform": "Reference",
    "progress": False,
    "walkers": 1,
    "block": 4,
    "equilibration": 0.04,
}


def sample(droplet, folder, picoseconds: float = 0.2, **options) -> Dataset:
    """Ten frames a walker by default."""
    options = OPTIONS | {"topology": droplet.topology} | options
    return sampleFrames(droplet.system, droplet.positions, folder, picoseconds=picoseconds, **options)


def assert_equal(found: Frames, expected: Frames) -> None:
    for name in Frames.names():
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def write_model(path, module, **contract) -> str:
    fields = {"species": generate.SPECIES} | generate.PHI | contract
    saveModel(module, path, ModelContract(**fields))
    return str(path)


class Breaks(generate.Water):
    """NaN where the first bond is longer than 0.1 nm, which at 300 K it soon is."""

    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        energy = self.harmonic(positions)[0] + (self.q0 * phi).sum()
        if float((positions[0] - positions[1]).norm()) > 0.1:
            return energy * float("nan")
        return energy


class AlwaysBroken(generate.Water):
    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        return self.harmonic(positions)[0] * float("nan")


class Soft(generate.Water):
    """Bonds of a tenth of the strength: soon D is far from its median."""

    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        return 0.1 * self.harmonic(positions)[0] + (self.q0 * phi).sum()


def check_labels(frames: Frames) -> None:
    """Frames of water: those in the gas phase against xTB itself, the others by them."""
    force, _ = make_xtb("water", "GFN2-xTB", accuracy=0.2)
    context = make_context([force], 3)
    for i in np.flatnonzero(~frames.embedded):
        context.setPositions(frames.positions[i])
        state = force.computeQMRegion(context)
        assert frames.energies[i] == pytest.approx(state.energy, abs=1e-3)
        np.testing.assert_allclose(frames.forces[i], state.forces, atol=0.1)
        np.testing.assert_allclose(frames.charges[i], state.charges, atol=1e-4)
    check_pairs(frames)


def check_pairs(frames: Frames) -> None:
    """What the surroundings do to the energy of a geometry is the charge's mean on the way times phi."""
    gas = np.flatnonzero(~frames.embedded)
    assert len(gas)
    change = frames.energies[gas - 1] - frames.energies[gas]
    np.testing.assert_allclose(frames.positions[gas - 1], frames.positions[gas], atol=1e-12)
    mean = (frames.charges[gas - 1] + frames.charges[gas]) / 2
    expected = (mean * frames.potentials[gas - 1]).sum(axis=1)
    assert np.abs(change).max() > 1
    np.testing.assert_allclose(change, expected, rtol=0.03, atol=0.1)


def test_labels_of_xtb_driven_frames(droplet, tmp_path):
    dataset = sample(droplet, tmp_path / "a.kstep", gas=0.5, walkers=2, temperatures=(300, 450))
    frames = dataset.read()
    assert len(frames) == 30 and frames.embedded.sum() == 20
    assert set(zip(frames.trajectories, frames.temperatures, strict=True)) == {(0, 300.0), (1, 450.0)}
    assert np.ptp(frames.positions[:, 1] - frames.positions[:, 0], axis=0).min() > 1e-3  # it moves
    check_labels(frames)
    assert dataset.provenance["seed"] == 1 and len(dataset.provenance["dampingLengths"]) == 3
    assert [p.name for p in dataset.blocks(0)] == [f"block-0000-{i:05d}.h5" for i in range(3)]


@pytest.mark.filterwarnings("ignore:The model that drove")
@pytest.mark.parametrize("driver", ["xTB", "a model", "a model that fails"])
def test_continued_run_equals_uninterrupted(droplet, tmp_path, monkeypatch, driver):
    options = {"interval": 0.02, "gas": 0.5}
    if driver != "xTB":
        # The first bond leaves this range every few dozen steps.
        ranges = [(0, 1, 0.09, 0.0985), (0, 2, 0.0, 1.0), (1, 2, 0.0, 1.0)] if "fails" in driver else []
        options["model"] = write_model(tmp_path / "model.pt", generate.PhiEnergy(), distanceRanges=ranges)
    make_block, made = Walker._make_block, []

    def interrupted(self) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        make_block(self)
        made.append(1)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Walker, "_make_block", interrupted)
        sample(droplet, tmp_path / "a.kstep", 0.4, **options)
    assert len(Dataset(tmp_path / "a.kstep").blocks()) == 2
    continued = sample(droplet, tmp_path / "a.kstep", 0.4, **options)
    whole = sample(droplet, tmp_path / "b.kstep", 0.4, **options)
    assert len(whole) >= 30
    assert_equal(continued.read(), whole.read())
    if driver == "a model that fails":
        numbers = json.loads(str(np.load(tmp_path / "b.kstep" / "walkers" / "walker-0000.npz")["numbers"]))
        assert numbers["faults"] > 1
    # A finished run is left alone; a longer one goes on.
    times = [p.stat().st_mtime_ns for p in continued.blocks()]
    sample(droplet, tmp_path / "a.kstep", 0.4, **options)
    assert [p.stat().st_mtime_ns for p in continued.blocks()] == times
    assert len(sample(droplet, tmp_path / "a.kstep", 0.44, **options)) > len(whole)


def test_other_arguments_add_walkers(droplet, tmp_path):
    first = sample(droplet, tmp_path / "a.kstep", 0.08).read()
    both = sample(droplet, tmp_path / "a.kstep", 0.08, seed=2).read()
    assert set(both.trajectories) == {0, 1}
    assert_equal(both[both.trajectories == 0], first)
    assert np.abs(both.positions[both.trajectories == 1][0] - first.positions[0]).max() > 1e-4
    runs = sorted((tmp_path / "a.kstep" / "walkers").glob("run-*.json"))
    assert [json.loads(p.read_text())["first"] for p in runs] == [0, 1]


KILLED = """
import sys, openmm, numpy as np
from openmm import XmlSerializer
from openmmkstep.data import sampleFrames
folder, system, positions = sys.argv[1:]
sampleFrames(XmlSerializer.deserialize(open(system).read()), np.load(positions), folder, cluster="serial",
             platform="Reference", progress=False, walkers=1, block=4, picoseconds=4, gas=0.5,
             equilibration=0.04)
"""


def test_kill_loses_one_block(droplet, tmp_path):
    """SIGKILL at a random moment; then the run goes on as if nothing had been."""
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(droplet.system))
    np.save(tmp_path / "positions.npy", droplet.positions)
    folder = tmp_path / "a.kstep"
    arguments = [sys.executable, "-c", KILLED, folder, tmp_path / "system.xml", tmp_path / "positions.npy"]
    process = subprocess.Popen([str(a) for a in arguments])
    try:
        limit = time.time() + 60
        while len(list(folder.glob("block-*.h5"))) < 3 and process.poll() is None and time.time() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    dataset = Dataset(folder)
    blocks = len(dataset.blocks())
    assert blocks >= 3 and dataset.check() == []
    before = dataset.read()
    (folder / f"block-0000-{blocks:05d}.h5.tmp").write_bytes(b"half a block")
    options = {"gas": 0.5, "topology": None}
    frames = 4 * blocks + 6
    after = sample(droplet, folder, 0.02 * frames, **options).read()
    assert after.embedded.sum() == frames and set(after.trajectories) == {0}
    # The state may be one block behind the blocks: that one is made again, and is the same.
    assert_equal(after[: len(before)], before)
    assert not list(folder.glob("*.tmp"))


def test_dask_equals_serial(droplet, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the workers' 1 must not stay
    environment = dict(os.environ)
    options = {"walkers": 2, "gas": 0.5, "temperatures": (300,)}
    serial = sample(droplet, tmp_path / "serial.kstep", 0.12, **options)
    parallel = sample(droplet, tmp_path / "dask.kstep", 0.12, **options | {"cluster": None})
    assert len(serial) == 18
    assert_equal(parallel.read(), serial.read())
    assert dict(os.environ) == environment


@pytest.mark.filterwarnings("ignore:The model that drove")
@pytest.mark.parametrize("fault", ["not a number", "outside", "difference"])
def test_bad_model(droplet, tmp_path, fault):
    """A fault ends the stretch, its trail is labelled, and the walker goes on; labels are xTB's all the same."""
    if fault == "not a number":
        model = write_model(tmp_path / "model.pt", Breaks())
    elif fault == "outside":
        ranges = [(0, 1, 0.09, 0.0985), (0, 2, 0.0, 1.0), (1, 2, 0.0, 1.0)]
        model = write_model(tmp_path / "model.pt", generate.PhiEnergy(), distanceRanges=ranges)
    else:
        model = write_model(tmp_path / "model.pt", Soft())
    dataset = sample(droplet, tmp_path / "a.kstep", 0.8, model=model, interval=0.02, gas=0.2, block=20)
    state = np.load(tmp_path / "a.kstep" / "walkers" / "walker-0000.npz")
    assert json.loads(str(state["numbers"]))["faults"] >= 2
    frames = dataset.read()
    assert frames.embedded.sum() >= 40
    assert frames.energies.max() - np.median(frames.energies) < 700  # the limit is on the median up to then
    check_labels(frames)
    bonds = np.linalg.norm(frames.positions[:, 1] - frames.positions[:, 0], axis=1)
    if fault == "outside":
        assert bonds.max() > 0.0985  # what led out is in the data


def test_hopeless_model(droplet, tmp_path):
    """Outside of its region whatever it does."""
    model = write_model(tmp_path / "model.pt", generate.PhiEnergy(), distanceRanges=[(0, 1, 0.2, 0.3)])
    # Each stretch still gives the frames that led to the fault.
    with pytest.warns(UserWarning, match=r"failed \d+ times in 10 frames"):
        dataset = sample(droplet, tmp_path / "a.kstep", 0.4, model=model)
    assert len(dataset) >= 10
    model = write_model(tmp_path / "nan.pt", AlwaysBroken())
    with pytest.raises(RuntimeError, match="Walker .*the model failed 20 times in a row"):
        sample(droplet, tmp_path / "b.kstep", 0.08, model=model)


def test_walkers_own_system(droplet):
    """Heavy hydrogens, no barostat, one of xTB and model; two temperatures."""
    system = copy.deepcopy(droplet.system)
    system.addForce(openmm.MonteCarloBarostat(1, 300))
    region = Region.fromSystem(system, droplet.topology)
    own = make_system(system, region, None)
    masses = [own.getParticleMass(i)._value for i in range(own.getNumParticles())]
    assert masses[1] == masses[2] == 3.0 and masses[4] == pytest.approx(1.008, abs=0.01)  # rigid waters keep theirs
    original = [system.getParticleMass(i)._value for i in range(3)]
    assert sum(masses[:3]) == pytest.approx(sum(original))
    assert not any(isinstance(f, openmm.MonteCarloBarostat) for f in own.getForces())
    assert sum(isinstance(f, XtbForce) for f in map(cast, own.getForces())) == 1
    driver = Driver(own, region, 500.0, 1, "Reference")
    particles, temperature, _, _ = driver.integrator.getRegion(0)
    assert (list(particles), temperature._value) == ([0, 1, 2], 500.0)
    assert driver.integrator.getTemperature()._value == 300.0


def test_refusals(droplet, tmp_path):
    with pytest.raises(ValueError, match="temperatures must be positive"):
        sample(droplet, tmp_path / "a.kstep", temperatures=())
    with pytest.raises(ValueError, match="share of gas-phase frames"):
        sample(droplet, tmp_path / "a.kstep", gas=1.5)
    with pytest.raises(ValueError, match="platform is 'CPU' or 'Reference'"):
        sample(droplet, tmp_path / "a.kstep", platform="CUDA")
    with pytest.raises(ValueError, match=r"shape \(90, 3\).*found \(5, 3\)"):
        sampleFrames(droplet.system, np.zeros((5, 3)), tmp_path / "a.kstep", topology=droplet.topology)
    with pytest.raises(TypeError, match="address of a scheduler"):
        sample(droplet, tmp_path / "a.kstep", cluster=3)
    Dataset.create(tmp_path / "b.kstep", Region((8,), (0,), ()))
    with pytest.raises(ValueError, match="another region.*use another folder"):
        sample(droplet, tmp_path / "b.kstep")


def test_damaged_state(droplet, tmp_path):
    sample(droplet, tmp_path / "a.kstep", 0.08)
    path = Path(tmp_path / "a.kstep" / "walkers" / "walker-0000.npz")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="walker-0000.npz.*damaged.*Delete it and the blocks"):
        sample(droplet, tmp_path / "a.kstep", 0.16)


def test_walker_that_another_process_runs(droplet, tmp_path, monkeypatch):
    folder = tmp_path / "a.kstep"
    sample(droplet, folder, 0.08)
    monkeypatch.setattr("openmmkstep.data.plan._PATIENCE", 0.3)
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"
    lock = str(folder / "walkers" / "walker-0000.lock")
    other = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with pytest.raises(RuntimeError, match="Another process is running walker 0"):
            sample(droplet, folder, 0.16)
    finally:
        other.kill()
        other.wait()
    assert len(sample(droplet, folder, 0.16)) > 4  # a lock does not outlive its process


@pytest.mark.parametrize("driven_by_model", [False, True])
def test_periodic_box_and_link_atom(tmp_path, driven_by_model):
    """The side chain of alanine, with a link hydrogen and a cutoff, in a box; driven by springs or by xTB."""
    topology, mm, x = alanine_dipeptide(20, "orthorhombic")
    nonbonded_of(mm).setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded_of(mm).setPMEParameters(3.0, 20, 20, 20)
    radii = {"cutoff": 0.6, "switchingDistance": 0.4}
    system = createQMMMSystem(topology, mm, [10, 11, 12, 13], charges="forcefield", **radii)
    force = next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))
    context = new_context(system, x)
    owned = next(f for f in map(cast, context.getSystem().getForces()) if isinstance(f, XtbForce))
    start = owned.computeQMRegion(context, [0.07] * 5)
    model = None
    if driven_by_model:
        model = tmp_path / "model.pt"
        generate.write_molecule(model, [6, 1, 1, 1, 1], start.positions, start.charges)
    options = OPTIONS | {"topology": topology, "model": model, "interval": 0.02}
    dataset = sampleFrames(system, x, tmp_path / "a.kstep", picoseconds=0.16, gas=0.5, **options)
    frames = dataset.read()
    assert dataset.region.species == (6, 1, 1, 1, 1)
    assert frames.embedded.sum() >= 8
    bonds = np.linalg.norm(frames.positions[:, 1:] - frames.positions[:, :1], axis=2)
    np.testing.assert_allclose(bonds[:, 3], force.getLinkAtomParameters(0)[2]._value, atol=1e-9)
    assert 0.08 < bonds.min() and bonds.max() < 0.15
    check_pairs(frames)


def test_labeller_in_another_box_than_openmms_default():
    """Molecules in images of their own: what the System's own Context says, to the last digit."""
    topology, mm, x = alanine_dipeptide(20, "triclinic")
    x = wrapped_at_random(topology, x, BOXES["triclinic"], 4)
    radii = {"cutoff": 0.6, "switchingDistance": 0.4}
    system = createQMMMSystem(topology, mm, [10, 11, 12, 13], charges="forcefield", **radii)
    context = new_context(system, x)
    force = next(f for f in map(cast, context.getSystem().getForces()) if isinstance(f, XtbForce))
    expected = force.computeQMRegion(context, [0.07] * 5)
    state, energy = Labeller(force, len(x), [0.07] * 5).label(x, BOXES["triclinic"])
    assert energy == pytest.approx(energy_of(context, {1}), abs=1e-6)
    np.testing.assert_allclose(state.forces, expected.forces, atol=1e-6)
    np.testing.assert_allclose(state.potentials, expected.potentials, atol=1e-9)


def test_a_reaction_is_told(tmp_path):
    """Hydronium beside hydroxide, 0.25 nm apart: the proton goes over at once. Two waters tell nothing."""
    hydronium = np.array([[0, 0, 0], [0.099, 0, 0.01], [-0.045, 0.088, 0.01], [-0.045, -0.088, 0.01]])
    hydroxide = np.array([[0.25, 0, 0.02], [0.285, 0.09, 0.02]])
    x = np.concatenate([hydronium, hydroxide])
    topology = openmm.app.Topology()
    residue = topology.addResidue("ION", topology.addChain())
    elements = [openmm.app.Element.getByAtomicNumber(z) for z in (8, 1, 1, 1, 8, 1)]
    for e in elements:
        topology.addAtom(e.symbol, e, residue)
    ions, waters = [(0, 1), (0, 2), (0, 3), (4, 5)], [(0, 2), (0, 3), (4, 1), (4, 5)]
    system = openmm.System()
    for e in elements:
        system.addParticle(e.mass)
    xtb = XtbForce("GFN2-xTB", range(6), [e.atomic_number for e in elements])
    xtb.setForceGroup(1)
    system.addForce(xtb)
    options = OPTIONS | {"temperatures": (300,), "sweep": False, "gas": 0.0, "equilibration": 0.1}
    for bonds, reacts in ((ions, True), (waters, False)):
        molecule = copy.deepcopy(topology)
        for a, b in bonds:
            molecule.addBond(list(molecule.atoms())[a], list(molecule.atoms())[b])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sampleFrames(system, x, tmp_path / str(reacts), topology=molecule, picoseconds=0.1, **options)
        told = [str(w.message) for w in caught if w.category is SamplingWarning]
        assert len(told) == reacts
        if reacts:
            assert "The molecule reacts" in told[0] and "O0-H1 in 100 %" in told[0] and "H5" not in told[0]
