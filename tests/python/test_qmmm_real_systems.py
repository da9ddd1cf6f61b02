"""The real systems of examples/qmmm_systems: what they are made of, and their energy and forces as QM/MM systems."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import energy_forces, energy_of
from openmm import app, unit

import openmmkstep

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from qmmm_systems import SYSTEMS
from qmmm_systems.equilibration import equilibrate
from qmmm_systems.files import openmmtools_data
from qmmm_systems.systems import atoms_of

ION = {"Na": 1, "Cl": -1}
# Name: elements of the QM atoms, number of MM atoms, cuts as (QM, MM) names, net charge of everything.
EXPECTED = {
    "alanine": ("C6H12N2O2", 2247, [], 0),
    "alanine-cut": ("C3H5NO", 2259, ["ACE1-C ACE1-CH3", "ALA2-CA ALA2-C"], 0),
    "peptide-20": ("C6H10N2O2", 499, ["ILE3-C ILE3-CA", "ALA5-CA ALA5-C"], 0),
    "peptide-30": ("C12H14N2O2", 998, ["ALA3-C ALA3-CA", "ALA5-CA ALA5-C"], 0),
    "aspartate": ("C7H11N2O4", 3667, [], 0),
    "cb7-b2": ("C10H18O2", 4461, [], -0.0020),
    "dhfr": ("C13H15NO3", 23526, ["TRP22-CB TRP22-CA", "ASP27-CB ASP27-CA", "THR113-CB THR113-CA"], -11),
}


@pytest.fixture(scope="module")
def prepared():
    """A function from a name to the system, without equilibration; made once."""
    made = {}

    def get(name: str):
        if name not in made:
            try:
                openmmtools_data()
            except FileNotFoundError as error:
                if name != "peptide-30":
                    pytest.skip(str(error))
            made[name] = SYSTEMS[name](0)
        return made[name]

    return get


def nonbonded_of(system: openmm.System) -> openmm.NonbondedForce:
    return next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))


def charges_of(system: openmm.System) -> np.ndarray:
    force = nonbonded_of(system)
    return np.array([force.getParticleParameters(i)[0]._value for i in range(system.getNumParticles())])


def formula(elements) -> str:
    """Hill's order: C, H, then the others by the alphabet."""
    counts = Counter(e.symbol for e in elements)
    order = sorted(counts, key=lambda s: (s != "C", s != "H", s))
    return "".join(f"{s}{counts[s] if counts[s] > 1 else ''}" for s in order)


@pytest.mark.parametrize("name", SYSTEMS)
def test_composition(prepared, name):
    system = prepared(name)
    elements, num_mm, cuts, total = EXPECTED[name]
    atoms = list(system.topology.atoms())
    qm = list(system.qm_atoms)
    assert qm == sorted(set(qm))
    assert formula(atoms[i].element for i in qm) == elements
    assert len(atoms) - len(qm) == num_mm
    label = [f"{a.residue.name}{a.residue.id}-{a.name}" for a in atoms]
    assert [f"{label[q]} {label[m]}" for q, m in system.cut_bonds()] == cuts
    assert system.positions.shape == (len(atoms), 3) and np.isfinite(system.positions).all()
    mm = system.create_mm_system()
    assert mm.getNumParticles() == len(atoms)
    charges = charges_of(mm)
    assert charges.sum() == pytest.approx(total, abs=1e-4)
    if not cuts:
        rounding = -0.0020 if name == "cb7-b2" else 0
        assert charges[qm].sum() == pytest.approx(system.charge + rounding, abs=1e-4)
    else:
        # The residues' charges are integers, so those that are cut add up to the region's charge.
        residues = {atoms[i].residue for i in qm}
        assert sum(charges[a.index] for r in residues for a in r.atoms()) == pytest.approx(system.charge, abs=1e-5)
    # Rigid water and rigid bonds to hydrogen elsewhere.
    waters = [r for r in system.topology.residues() if r.name in ("HOH", "WAT")]
    hydrogens = sum(a.element is app.element.hydrogen for a in atoms)
    assert mm.getNumConstraints() == hydrogens + len(waters)
    assert len(waters) > 100


@pytest.mark.parametrize("name", SYSTEMS)
def test_box_and_radii(prepared, name):
    system = prepared(name)
    mm = system.create_mm_system()
    assert mm.usesPeriodicBoundaryConditions() == (system.box is not None)
    if system.box is None:
        assert nonbonded_of(mm).getNonbondedMethod() == openmm.NonbondedForce.NoCutoff
        assert system.topology.getPeriodicBoxVectors() is None
        # Drops of water evaporate without it.
        assert any(isinstance(f, openmm.CustomExternalForce) for f in mm.getForces())
        return
    assert nonbonded_of(mm).getNonbondedMethod() == openmm.NonbondedForce.PME
    assert not any("Barostat" in f.getName() for f in mm.getForces())
    np.testing.assert_allclose(system.topology.getPeriodicBoxVectors()._value, system.box)
    np.testing.assert_allclose(np.array([list(v._value) for v in mm.getDefaultPeriodicBoxVectors()]), system.box)
    x = system.positions[list(system.qm_atoms)]
    assert np.abs(x - x[0]).max() < 0.5 * np.diag(system.box).min()  # whole
    radius = np.linalg.norm(x - x.mean(axis=0), axis=1).max()
    cutoff = 1.0 if system.cutoff is None else system.cutoff  # the smaller one of the defaults
    assert cutoff + radius < 0.95 * 0.5 * np.diag(system.box).min()


def test_counter_ions(prepared):
    system = prepared("aspartate")
    ions = [a.element.symbol for a in system.topology.atoms() if a.element.symbol in ION]
    # 0.15 M in 39 nm^3 are 3.5 pairs; one more sodium neutralizes the solute.
    assert Counter(ions)["Cl"] in (3, 4) and Counter(ions)["Na"] == Counter(ions)["Cl"] + 1


def test_structures_are_sane(prepared):
    """Bonds have the length of their kind and nothing overlaps, in the systems that are built atom by atom."""
    for name in ("peptide-20", "peptide-30", "aspartate"):
        system = prepared(name)
        x = system.positions
        for bond in system.topology.bonds():
            length = np.linalg.norm(x[bond.atom1.index] - x[bond.atom2.index])
            hydrogen = app.element.hydrogen in (bond.atom1.element, bond.atom2.element)
            sulfur = app.element.sulfur in (bond.atom1.element, bond.atom2.element)
            low, high = (0.090, 0.140) if hydrogen else (0.170, 0.195) if sulfur else (0.118, 0.160)
            assert low < length < high, bond
        heavy = [a.index for a in system.topology.atoms() if a.element is not app.element.hydrogen]
        bonded = {frozenset((b.atom1.index, b.atom2.index)) for b in system.topology.bonds()}
        solute = [i for i in heavy if i < 100]
        for i in solute:
            distances = np.linalg.norm(x[heavy] - x[i], axis=1)
            for j in np.array(heavy)[distances < 0.2]:
                assert i == j or frozenset((i, j)) in bonded, (i, j)


def test_hydrogen_mass(prepared):
    system = prepared("alanine")
    light, heavy = (system.create_mm_system(mass) for mass in (None, 3.0))
    i, j = 0, 1  # H1 and CH3 of the acetyl cap
    assert heavy.getParticleMass(i)._value == pytest.approx(3.0)
    moved = 3 * (3.0 - light.getParticleMass(i)._value)
    assert heavy.getParticleMass(j)._value == pytest.approx(light.getParticleMass(j)._value - moved)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps openmmtools==0\.27\.0"):
        SYSTEMS["cb7-b2"](0)


def test_unknown_atom_names(prepared):
    with pytest.raises(ValueError, match=r"ALA.* has no atoms \['CG'\]"):
        atoms_of(prepared("alanine-cut").topology, (1, "CA", "CG"))


def test_equilibration_is_kept(prepared, monkeypatch, tmp_path):
    """The second call reads the first one's file; a file of another length or system is made again."""
    import qmmm_systems.equilibration as module

    monkeypatch.setattr(module, "PREPARED", tmp_path / "prepared")
    system = prepared("peptide-20")

    def run(picoseconds, name="test"):
        mm = system.create_mm_system()
        return equilibrate(name, system.topology, mm, system.positions, picoseconds, minimize=False, progress=False)[0]

    first = run(0.02)
    file = tmp_path / "prepared" / "test.npz"
    written = file.stat().st_mtime_ns
    np.testing.assert_array_equal(run(0.02), first)
    assert file.stat().st_mtime_ns == written
    assert np.abs(run(0.04) - first).max() > 1e-3
    assert file.stat().st_mtime_ns > written


def minimum_image(vectors: np.ndarray, box) -> np.ndarray:
    return vectors if box is None else vectors - np.diag(box) * np.round(vectors / np.diag(box))


def chosen_atoms(system, radii) -> dict[str, int]:
    """One atom of each kind that the embedding treats in its own way."""
    x, qm = system.positions, list(system.qm_atoms)
    chosen = {"QM": qm[len(qm) // 2]}
    if cuts := system.cut_bonds():
        q, m = cuts[-1]
        chosen |= {"QM host": q, "MM host": m}
        bonds = [(b.atom1.index, b.atom2.index) for b in system.topology.bonds()]
        chosen["next to the MM host"] = next(i + j - m for i, j in bonds if m in (i, j) and q not in (i, j))
    oxygens = np.array([next(r.atoms()).index for r in system.topology.residues() if r.name in ("HOH", "WAT")])
    distances = np.linalg.norm(minimum_image(x[oxygens][:, None] - x[qm], system.box), axis=2).min(axis=1)
    chosen["nearest water"] = int(oxygens[distances.argmin()])
    chosen["its hydrogen"] = chosen["nearest water"] + 1
    if radii is not None:
        # In the middle of the switching zone: the force along the gradient of S is on the oxygen.
        chosen["switched water"] = int(oxygens[np.abs(distances - 0.5 * sum(radii)).argmin()])
        chosen["its other hydrogen"] = chosen["switched water"] + 2
    return chosen


@pytest.fixture(scope="module")
def qmmm(prepared):
    """A function from a name to the system, its XtbForce and a Context."""
    made = {}

    def get(name: str):
        if name not in made:
            system = prepared(name)
            # Mean Mulliken charges would take a short run.
            result = system.create_qmmm_system(charges="forcefield")
            xtb = next(f for f in map(openmmkstep.cast, result.getForces()) if isinstance(f, openmmkstep.XtbForce))
            xtb.setAccuracy(0.01)
            context = openmm.Context(
                result, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"}
            )
            context.setPositions(system.positions)
            made[name] = system, xtb, context
        return made[name]

    return get


def radii_of(xtb):
    """Switching distance and cutoff (nm), or None."""
    pair = tuple(r.value_in_unit(unit.nanometer) for r in (xtb.getSwitchingDistance(), xtb.getCutoffDistance()))
    return pair if pair[1] > 0 else None


def slope(context, positions, atom: int, direction, h: float = 2e-4) -> float:
    """Derivative of XtbForce's energy (kJ/mol/nm) as an atom moves, by five points."""
    result = 0.0
    for step, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        x = positions.copy()
        x[atom] += step * h * direction
        context.setPositions(x)
        result += weight * energy_of(context, {1}) / (12 * h)
    context.setPositions(positions)
    return result


@pytest.mark.parametrize("name", SYSTEMS)
def test_forces(qmmm, name):
    """XtbForce by finite differences of its energy, on an atom of each kind; the other forces are OpenMM's own."""
    system, xtb, context = qmmm(name)
    chosen, rng = chosen_atoms(system, radii_of(xtb)), np.random.default_rng(1)
    forces = energy_forces(context, {1})[1]
    assert np.isfinite(forces).all()
    # All forces are internal, whatever the images.
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-3 * np.abs(forces).max())
    for kind, i in chosen.items():
        # Along a direction in which there is something to compare, but not that of the force alone.
        direction = forces[i] / np.linalg.norm(forces[i]) + rng.uniform(-0.5, 0.5, 3)
        expected = slope(context, system.positions, i, direction / np.linalg.norm(direction))
        found = -forces[i] @ direction / np.linalg.norm(direction)
        assert found == pytest.approx(expected, abs=0.01), kind
        assert abs(found) > 0.1, kind


@pytest.mark.parametrize("name", SYSTEMS)
def test_energy(qmmm, name):
    """Finite, the same in a new Context and with any molecule in another image."""
    system, xtb, context = qmmm(name)
    energy = energy_of(context, {1})
    assert np.isfinite(energy_of(context)) and abs(energy_of(context)) < 1e6
    other = openmm.Context(
        context.getSystem(), openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference")
    )
    other.setPositions(system.positions)
    assert energy_of(other, {1}) == pytest.approx(energy, abs=1e-3)
    if system.box is None:
        return
    forces = energy_forces(other, {1})[1]
    chosen = chosen_atoms(system, radii_of(xtb))
    x = system.positions.copy()
    for kind, shift in (("nearest water", (1, 0, -2)), ("switched water", (0, -1, 1))):
        x[chosen[kind] : chosen[kind] + 3] += np.array(shift) @ system.box
    x += [0.7, -1.9, 12.3]
    other.setPositions(x)
    assert energy_of(other, {1}) == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(energy_forces(other, {1})[1], forces, atol=0.02)
