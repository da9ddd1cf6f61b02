"""SiteReporter's lines and warnings on alanine dipeptide in water, against distances over all images."""

import csv
import itertools
import warnings
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import get_positions, water_positions, water_system
from openmm import app, unit

from openmmkstep import KStepIntegrator, createQMMMSystem
from openmmkstep.qmmm import SiteReporter, selectResidues

DROPLET = Path(__file__).parents[2] / "examples" / "alanine_dipeptide" / "alanine_droplet.pdb"
ALANINE = app.PDBFile(str(DROPLET))
POSITIONS = np.array(ALANINE.positions.value_in_unit(unit.nanometer))
QM = list(range(28))  # alanine dipeptide and two waters, 2:11 and 2:15
BOX = np.array([[4.0, 0, 0], [1.9, 3.6, 0], [-1.8, 1.6, 3.2]])
HEADER = (
    '#"Step","Time (ps)","MM Molecules in Site","Closest MM Molecule","Closest MM Distance (nm)",'
    '"Farthest QM Molecule","Farthest QM Distance (nm)"'
)


def simulate(topology, x, box=None) -> app.Simulation:
    """A Simulation without interactions in which nothing moves by itself."""
    system = openmm.System()
    for _ in range(len(x)):
        system.addParticle(10.0)
    if box is not None:
        force = openmm.NonbondedForce()
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        for _ in range(len(x)):
            force.addParticle(0, 0.1, 0)
        system.addForce(force)
        system.setDefaultPeriodicBoxVectors(*box)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, openmm.VerletIntegrator(0.001), platform)
    simulation.context.setPositions(x)
    return simulation


def rows_of(path) -> list[list[str]]:
    header, *lines = path.read_text().splitlines()
    assert header == HEADER
    return list(csv.reader(lines))


def warned_by(simulation, steps: int = 1) -> list[str]:
    """The warnings of these steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulation.step(steps)
    return [str(w.message) for w in caught]


def distance(x, atoms, site, box) -> float:
    shifts = np.array(list(itertools.product(range(-3, 4), repeat=3))) @ (np.zeros((3, 3)) if box is None else box)
    d = x[atoms].mean(axis=0) - x[site]
    return np.linalg.norm(d[:, None] + shifts, axis=2).min()


@pytest.mark.filterwarnings("ignore:SiteReporter")
@pytest.mark.parametrize("radius", [0.33, 2.0])  # above half of the box too
@pytest.mark.parametrize("box", [None, np.diag([2.4, 2.3, 2.2]), BOX], ids=["droplet", "rectangular", "triclinic"])
def test_line(box, radius, tmp_path):
    x = POSITIONS.copy()
    x[25:28] += [0.9, -0.7, 0.4]
    if box is not None:
        for first in range(22, len(x), 3):
            x[first : first + 3] += np.random.default_rng(first).integers(-1, 2, 3) @ box
    simulation = simulate(ALANINE.topology, x, box)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 2, radius, QM))
    simulation.step(5)
    rows = rows_of(tmp_path / "site.csv")
    assert [row[0] for row in rows] == ["2", "4"] and [float(row[1]) for row in rows] == pytest.approx([0.002, 0.004])
    residues = list(ALANINE.topology.residues())[3:]
    r = {f"HOH 2:{res.id}": distance(x, [next(res.atoms()).index], list(range(22)), box) for res in residues}
    qm = {name: r.pop(name) for name in list(r)[:2]}
    closest, farthest = min(r, key=r.get), max(qm, key=qm.get)
    expected = [str(sum(v <= radius for v in r.values())), closest, f"{r[closest]:.4f}"]
    expected += [farthest, f"{qm[farthest]:.4f}"]
    assert [row[2:] for row in rows] == [expected, expected]
    assert 2 < int(expected[0]) and (radius > 1 or int(expected[0]) < 40)


@pytest.mark.filterwarnings("ignore:SiteReporter")
def test_far_images_of_a_triclinic_box(tmp_path):
    """Beyond half of the box OpenMM's reduction does not always find the nearest image."""
    topology, _ = water_system(4)  # the site, a QM water beside it, a QM and an MM water anywhere
    rng = np.random.default_rng(1)
    simulation = simulate(topology, np.zeros((12, 3)), BOX)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 0.1, range(9), siteAtoms=[0]))
    expected = []
    for _ in range(40):
        oxygens = rng.random((4, 3)) @ BOX
        oxygens[1] = oxygens[0] + [0.3, 0, 0]
        x = np.repeat(oxygens, 3, axis=0) + 0.1 * np.tile(np.eye(3) - np.eye(3)[0], (4, 1))
        simulation.context.setPositions(x)
        simulation.step(1)
        expected.append([distance(x, [i], [0], BOX) for i in (9, 6)])
    rows = rows_of(tmp_path / "site.csv")
    assert np.array([[row[4], row[6]] for row in rows], dtype=float) == pytest.approx(np.array(expected), abs=6e-5)


def test_box_of_the_state_counts(tmp_path):
    simulation = simulate(ALANINE.topology, POSITIONS, np.diag([4.0, 4.0, 4.0]))
    simulation.context.setPeriodicBoxVectors(*np.diag([6.5, 6.5, 6.5]))
    x = POSITIONS.copy()
    x[22:] += 100 * np.array([6.5, 6.5, 6.5])
    simulation.context.setPositions(x)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 0.1, QM))
    assert len(warned_by(simulation)) == 1  # both QM waters
    r = min(distance(POSITIONS, [i], list(range(22)), None) for i in range(28, len(x), 3))
    assert float(rows_of(tmp_path / "site.csv")[0][4]) == pytest.approx(r, abs=6e-5)


def test_warnings_once_until_it_leaves(tmp_path):
    """Waters in a vacuum: 0 is the site, 1 is QM, 2 and 3 are MM."""
    topology, _ = water_system(4)
    for number, residue in enumerate(topology.residues()):
        residue.id = str(number)
    x = np.zeros((12, 3))
    simulation = simulate(topology, x)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 0.4, range(6), siteAtoms=range(3)))

    def messages(*distances) -> list[str]:
        """Of a step with the waters 1, 2, 3 at these distances; all hydrogens are elsewhere."""
        x[3:] = 50
        x[[3, 6, 9]] = np.outer(distances, [1, 0, 0])
        simulation.context.setPositions(x)
        simulation.context.setVelocities(np.zeros((12, 3)))
        return [m.replace("SiteReporter: at step", "") for m in warned_by(simulation)]

    assert messages(0.3, 0.5, 0.6) == []
    (text,) = messages(0.3, 0.35, 0.6)
    assert text.startswith(" 2 MM molecules are within 0.4 nm of the QM site: HOH 1:2 at 0.350 nm. They are")
    assert messages(0.3, 0.3, 0.6) == []
    (text,) = messages(0.3, 0.3, 0.39)
    assert "HOH 1:3 at 0.390 nm" in text and "1:2" not in text
    (text,) = messages(0.45, 0.41, 0.3)
    assert text.startswith(" 5 QM molecules are farther than 0.4 nm from the QM site: HOH 1:1 at 0.450 nm. A restraint")
    assert messages(0.9, 0.41, 0.41) == []
    assert messages(0.4, 0.5, 0.5) == []
    entered, left = messages(0.5, 0.2, 0.25)
    assert "HOH 1:2 at 0.200 nm, HOH 1:3 at 0.250 nm" in entered and "HOH 1:1 at 0.500 nm" in left
    assert [row[2:] for row in rows_of(tmp_path / "site.csv")][1::6] == [
        ["1", "HOH 1:2", "0.3500", "HOH 1:1", "0.3000"],
        ["2", "HOH 1:2", "0.2000", "HOH 1:1", "0.5000"],
    ]


def test_the_line_is_there_when_warnings_are_errors(tmp_path):
    simulation = simulate(ALANINE.topology, POSITIONS)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 0.5, QM))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            UserWarning, match="MM molecules are within 0.5 nm .*: (HOH 2:.* at .* nm, ){7}.* and [1-9].* more"
        ):
            simulation.step(1)
    assert len(rows_of(tmp_path / "site.csv")) == 1


def test_ions_and_molecules_of_several_heavy_atoms(tmp_path):
    """Their centres are the ion and the centroid, also of one that is split by the box; polymers are left out."""
    topology = app.Topology()
    chain = topology.addChain("A")
    site = topology.addAtom("NA", app.element.sodium, topology.addResidue("NA", chain))
    methanol = topology.addResidue("MOH", chain)
    carbon = topology.addAtom("C", app.element.carbon, methanol)
    topology.addBond(carbon, topology.addAtom("O", app.element.oxygen, methanol))
    polymer = [topology.addAtom("C", app.element.carbon, topology.addResidue("UNK", chain)) for _ in range(2)]
    topology.addBond(*polymer)
    topology.addAtom("CL", app.element.chlorine, topology.addResidue("CL", chain))
    topology.addAtom("X", None, topology.addResidue("DUM", chain))
    x = np.array([[0.1, 0, 0], [1.95, 0, 0], [0.09, 0, 0], [0.2, 0, 0], [0.15, 0, 0], [1.6, 0, 0], [1, 0, 0]])
    simulation = simulate(topology, x, np.eye(3) * 2.0)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 0.01, [site.index]))
    assert warned_by(simulation) == []
    x[1:3, 0] = [1.85, 0.05]
    x[5:, 0] = [0.102, 0.107]
    simulation.context.setPositions(x)
    (text,) = warned_by(simulation)
    assert "CL A:5 at 0.002 nm, DUM A:6 at 0.007 nm." in text
    assert [row[2:] for row in rows_of(tmp_path / "site.csv")] == [
        ["0", "MOH A:2", "0.0800", "", ""],
        ["2", "CL A:5", "0.0020", "", ""],
    ]


def test_nothing_to_report(tmp_path):
    topology, _ = water_system(1)
    simulation = simulate(topology, water_positions(1, 1))
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 3 * unit.angstrom, range(3), siteAtoms=[0]))
    assert warned_by(simulation) == []
    assert [row[2:] for row in rows_of(tmp_path / "site.csv")] == [["0", "", "", "", ""]]


def test_beside_a_kstep_run(tmp_path):
    """The QM atoms are those of the XtbForce, and no xTB call is added."""
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    mm = field.createSystem(ALANINE.topology, nonbondedMethod=app.NoCutoff)
    system = createQMMMSystem(ALANINE.topology, mm, QM)
    integrator = KStepIntegrator(0.0005, 1)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(ALANINE.topology, system, integrator, platform, {"Threads": "1"})
    simulation.context.setPositions(POSITIONS)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 2, 0.5))
    first, second = warned_by(simulation, 2)
    assert "at step 2 MM molecules" in first and "at step 2 QM molecules" in second and "HOH 2:15" in second
    assert warned_by(simulation, 2) == []
    rows = rows_of(tmp_path / "site.csv")
    assert [row[0] for row in rows] == ["2", "4"] and [float(row[1]) for row in rows] == pytest.approx([0.001, 0.002])
    assert integrator.getStatistics()["correctorCalls"] == 5
    wanted = {"steps": 2, "periodic": False, "include": ["positions"]}
    assert simulation.reporters[0].describeNextReport(simulation) == wanted
    x = get_positions(simulation.context)
    qm = [distance(x, [i], list(range(22)), None) for i in (22, 25)]
    assert float(rows[-1][6]) == pytest.approx(max(qm), abs=6e-5)


@pytest.mark.parametrize("order", ["OHHM", "MOHH", "OMHH"])
def test_virtual_sites_belong_to_their_molecule(order, tmp_path):
    """Also where several waters are in one residue."""
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain("W"))
    for _ in range(2):
        elements = [None if symbol == "M" else app.Element.getBySymbol(symbol) for symbol in order]
        atoms = [topology.addAtom(symbol, e, residue) for symbol, e in zip(order, elements, strict=True)]
        oxygen = atoms[order.index("O")]
        for atom in atoms:
            if atom.name == "H":
                topology.addBond(oxygen, atom)
    x = np.arange(24.0).reshape(8, 3)
    simulation = simulate(topology, x)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 1, 1.0, range(4), siteAtoms=range(4)))
    assert warned_by(simulation) == []
    r = np.linalg.norm(x[4 + order.index("O")] - x[3])
    assert rows_of(tmp_path / "site.csv")[0][2:] == ["0", "HOH W:1", f"{r:.4f}", "", ""]


@pytest.mark.filterwarnings("ignore:SiteReporter")
def test_append(tmp_path):
    path = tmp_path / "site.csv"
    simulation = simulate(ALANINE.topology, POSITIONS)
    simulation.context.setVelocitiesToTemperature(300, 1)
    simulation.reporters.append(SiteReporter(path, 2, 0.4, QM))
    simulation.step(5)
    simulation.saveCheckpoint(str(tmp_path / "run.chk"))
    simulation.step(4)
    whole = path.read_text()
    path.write_text(whole[:-7])  # killed in a line
    simulation.loadCheckpoint(str(tmp_path / "run.chk"))
    simulation.reporters = [SiteReporter(path, 2, 0.4, QM, append=True)]
    simulation.step(4)
    assert path.read_text() == whole and len(rows_of(path)) == 4
    simulation.reporters = [SiteReporter(path, 2, 0.4, QM)]
    simulation.step(1)
    assert len(rows_of(path)) == 1


def edit(path, change) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.filterwarnings("ignore:SiteReporter")
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace("Site", "site"), "expected the columns .* It is no SiteReporter's"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "lines up to step 4 in .* the last is of step 2"),
    ],
)
def test_append_to_the_wrong_file(change, message, tmp_path):
    simulation = simulate(ALANINE.topology, POSITIONS)
    simulation.reporters.append(SiteReporter(tmp_path / "site.csv", 2, 0.4, QM))
    simulation.step(5)
    edit(tmp_path / "site.csv", change)
    before = (tmp_path / "site.csv").read_text()
    simulation.reporters = [SiteReporter(tmp_path / "site.csv", 2, 0.4, QM, append=True)]
    with pytest.raises(ValueError, match=message):
        simulation.step(1)
    assert (tmp_path / "site.csv").read_text() == before


def test_comes_before_the_checkpoint(tmp_path):
    simulation = simulate(ALANINE.topology, POSITIONS)
    simulation.reporters = [
        app.CheckpointReporter(str(tmp_path / "run.chk"), 1),
        SiteReporter(tmp_path / "site.csv", 1, 0.4, QM),
    ]
    with pytest.raises(ValueError, match="SiteReporter: put it before the CheckpointReporter"):
        simulation.step(1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"reportInterval": 0}, "interval of at least one step, found 0"),
        ({"radius": 0}, "radius above 0 nm, found 0"),
        ({"radius": float("nan")}, "radius above 0 nm, found nan"),
        ({"qmAtoms": None}, "no k-step model; give qmAtoms"),
        ({"qmAtoms": []}, "qmAtoms is empty"),
        ({"qmAtoms": [517]}, "qmAtoms must be indices from 0 to 516"),
        ({"qmAtoms": selectResidues(ALANINE.topology, "2:11")}, "in water molecules; give siteAtoms"),
        ({"siteAtoms": [-1]}, "siteAtoms must be indices from 0 to 516"),
    ],
)
def test_bad_input(arguments, message, tmp_path):
    arguments = {"reportInterval": 1, "radius": 0.4, "qmAtoms": QM} | arguments
    simulation = simulate(ALANINE.topology, POSITIONS)
    with pytest.raises(ValueError, match=f"SiteReporter: .*{message}"):
        simulation.reporters.append(SiteReporter(tmp_path / "site.csv", **arguments))
        simulation.step(1)
    assert not (tmp_path / "site.csv").exists()
    with pytest.raises(TypeError):
        SiteReporter(tmp_path / "site.csv", 1, 3 * unit.kelvin)
