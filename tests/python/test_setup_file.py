"""readSetup: a QM/MM set-up in TOML or Python."""

import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit
from small_systems import DROPLET, alanine_dipeptide

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from qmmm_systems.files import openmmtools_data

from openmmkstep import KStepModelForce, XtbForce, cast
from openmmkstep.qmmm import createQMMMSystem, readSetup

MODEL = DROPLET.parent / "model.pt"


def write(folder, system: str = "", qmmm: str = "atoms = 'not water'", rest: str = "") -> str:
    text = f"""
[system]
topology = "{DROPLET}"
nonbondedMethod = "NoCutoff"
forcefield = ["amber14-all.xml", "amber14/tip3p.xml"]
{system}
[qmmm]
{qmmm}
{rest}
"""
    (folder / "setup.toml").write_text(text)
    return folder / "setup.toml"


def energy(system: openmm.System, positions, groups: set[int] | None = None) -> float:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(positions)
    state = context.getState(energy=True, groups=-1 if groups is None else groups)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_toml(tmp_path):
    setup = readSetup(write(tmp_path, "hydrogenMass = 3", "atoms = 'not water'", "[sample]\nwalkers = 2"))
    assert setup.options == {"sample": {"walkers": 2}}
    system = setup.create(MODEL)
    forces = [f for f in map(cast, system.getForces()) if isinstance(f, XtbForce | KStepModelForce)]
    assert [f.getParticles() for f in forces] == [list(range(22))] * 2
    assert system.getParticleMass(0) == 3 * unit.dalton
    plain = setup.create(None)
    assert not any(isinstance(cast(f), KStepModelForce) for f in plain.getForces())
    # What the same calls in a script give.
    pdb = app.PDBFile(str(DROPLET))
    mm = app.ForceField("amber14-all.xml", "amber14/tip3p.xml").createSystem(pdb.topology, nonbondedMethod=app.NoCutoff)
    expected = createQMMMSystem(pdb.topology, mm, range(22))
    assert energy(plain, setup.positions) == pytest.approx(energy(expected, pdb.positions), abs=1e-3)


@pytest.mark.parametrize("qmmm", ["residues = ['ACE', 'ALA', 'NME']", f"atoms = {list(range(22))}"])
def test_other_ways_to_name_the_region(tmp_path, qmmm):
    system = readSetup(write(tmp_path, qmmm=qmmm)).create(None)
    assert cast(system.getForce(system.getNumForces() - 1)).getParticles() == list(range(22))


def test_amber_files(tmp_path):
    folder = openmmtools_data() / "alanine-dipeptide-explicit"
    prmtop, inpcrd = folder / "alanine-dipeptide.prmtop", folder / "alanine-dipeptide.crd"
    (tmp_path / "a.toml").write_text(
        f'[system]\ntopology = "{prmtop}"\npositions = "{inpcrd}"\nnonbondedCutoff = 0.9\n'
        "[qmmm]\natoms = 'not water'\ncutoff = 0.85\nswitchingDistance = 0.65\n"
    )
    setup = readSetup(tmp_path / "a.toml")
    system = setup.create(None)
    assert system.usesPeriodicBoundaryConditions() and system.getNumParticles() == 2269
    assert len(setup.positions) == 2269


def test_python_file(tmp_path):
    (tmp_path / "setup.py").write_text(
        "from small_systems import alanine_dipeptide\n"
        "from openmmkstep import createQMMMSystem\n"
        "topology, mm, positions = alanine_dipeptide(3)\n"
        "def create(model):\n    return createQMMMSystem(topology, mm, range(22), model=model)\n"
        "options = {'train': {'seconds': 5}}\n"
    )
    setup = readSetup(tmp_path / "setup.py")
    topology, mm, positions = alanine_dipeptide(3)
    assert np.array_equal(setup.positions, positions) and setup.options["train"] == {"seconds": 5}
    assert setup.create(None).getNumForces() == createQMMMSystem(topology, mm, range(22)).getNumForces()


@pytest.mark.parametrize(
    "system, qmmm, rest, message",
    [
        ("cutof = 1.0", "atoms = [0]", "", "system.cutof: Extra inputs are not permitted"),
        ("nonbondedCutoff = '1 nm'", "atoms = [0]", "", "system.nonbondedCutoff: Input should be a valid number"),
        ("", "charge = 0", "", "either atoms or residues"),
        ("", "atoms = [0]\nresidues = 'ALA'", "", "either atoms or residues"),
        ("", "atoms = [0]\ncharge = 0.5", "", "qmmm.charge: Input should be a valid integer"),
        ("", "atoms = [0]", "[smaple]\nseed = 1", "smaple: Extra inputs"),
        ("", "atoms = [0", "", "not valid TOML"),
        ("positions = 'x.rst7'", "atoms = [0]", "", "leave them out"),
    ],
)
def test_bad_toml(tmp_path, system, qmmm, rest, message):
    with pytest.raises(ValueError, match=message):
        readSetup(write(tmp_path, system, qmmm, rest))


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match="no set-up file"):
        readSetup(tmp_path / "none.toml")
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ValueError, match="ends in .toml or .py"):
        readSetup(tmp_path / "a.yaml")
    (tmp_path / "a.py").write_text("topology = 1")
    with pytest.raises(ValueError, match="lacks positions, create"):
        readSetup(tmp_path / "a.py")
    (tmp_path / "b.toml").write_text('[system]\ntopology = "none.pdb"\n[qmmm]\natoms = [0]')
    with pytest.raises(ValueError, match="no topology file"):
        readSetup(tmp_path / "b.toml")
