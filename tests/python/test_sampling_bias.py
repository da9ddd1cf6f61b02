"""Biases, swept torsions and damping lengths."""

import math

import numpy as np
import openmm
import pytest
from conftest import K_E, energy_of, get_positions, make_context, make_xtb, rotation_matrix
from openmm import unit
from test_sampling import sample

from openmmkstep import XtbForce
from openmmkstep.data import (
    CollectiveVariable,
    Metadynamics,
    Region,
    UmbrellaWindows,
    findDampingLengths,
    findRotatableTorsions,
    sampleFrames,
)
from openmmkstep.data.driver import add_sweep, set_sweep

BOX = np.array([[1.0, 0, 0], [0.2, 0.9, 0], [-0.1, 0.3, 0.8]])
VARIABLES = [
    CollectiveVariable("torsion", (0, 1, 2, 3)),
    CollectiveVariable("distance", (3, 1)),
    CollectiveVariable("distanceDifference", (0, 1, 1, 3)),
]


def context_of(force, positions, box=None):
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*v) for v in box))
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return context


@pytest.mark.parametrize("box", [None, BOX], ids=["no box", "box"])
@pytest.mark.parametrize("cv", VARIABLES, ids=lambda cv: cv.kind)
def test_variables_are_openmms(cv, box):
    rng = np.random.default_rng(3)
    for _ in range(5):
        x = rng.normal(scale=0.8, size=(4, 3))
        context = context_of(cv.makeForce("cv", box is not None), x, box)
        assert cv.evaluate(x, box) == pytest.approx(energy_of(context), abs=1e-9)


def test_umbrella_energy():
    """Harmonic in the shorter way round."""
    cv = VARIABLES[0]
    x = np.array([[0, 0.1, 0], [0, 0, 0], [0.1, 0, 0], [0.1, 0.1 * math.cos(3.0), 0.1 * math.sin(3.0)]])
    here = cv.evaluate(x)
    assert abs(here) == pytest.approx(3.0)
    windows = UmbrellaWindows(cv, (0.5 * here, -here), 40.0)
    context = context_of(windows.makeForce(False), x)
    assert energy_of(context) == pytest.approx(20 * 1.5**2)
    context.setParameter("umbrellaCentre", windows.centres[1])
    assert energy_of(context) == pytest.approx(20 * (2 * math.pi - 6) ** 2)
    distance = UmbrellaWindows(VARIABLES[1], (1 * unit.angstrom,), 1000 * unit.kilocalorie_per_mole / unit.nanometer**2)
    assert (distance.centres, distance.spring) == ((0.1,), 4184.0)


@pytest.mark.parametrize("cv", VARIABLES, ids=lambda cv: cv.kind)
def test_metadynamics_hills(cv):
    rng = np.random.default_rng(4)
    x = rng.normal(scale=0.2, size=(4, 3))
    limits = (-math.pi, math.pi) if cv.isPeriodic else (-1.0, 1.0)
    metadynamics = Metadynamics(cv, *limits, width=0.2, height=2.0, biasFactor=5.0)
    force = metadynamics.makeForce(False)
    context = context_of(force, x)
    assert energy_of(context) == 0
    here = cv.evaluate(x)
    bias = metadynamics.addHill(np.zeros(len(metadynamics.grid)), here, 300.0)
    metadynamics.update(force, context, bias)
    assert energy_of(context) == pytest.approx(2.0, abs=0.01)
    # The second one is lower by exp(-V/(kT (f - 1))) with V = 2 kJ/mol.
    bias = metadynamics.addHill(bias, here, 300.0)
    metadynamics.update(force, context, bias)
    second = 2 * math.exp(-2.0 / (8.31446e-3 * 300 * 4))
    assert energy_of(context) == pytest.approx(2.0 + second, abs=0.02)
    if cv.isPeriodic:  # a hill goes round
        edge = metadynamics.addHill(np.zeros(len(bias)), math.pi - 0.05, 300.0)
        assert edge[0] == pytest.approx(edge[-1])
        assert edge[0] > 1.9


def test_unreasonable_biases():
    with pytest.raises(ValueError, match="one of .*found 'angle'"):
        CollectiveVariable("angle", (0, 1, 2))
    with pytest.raises(ValueError, match="needs 2 different particles"):
        CollectiveVariable("distance", (1, 1))
    with pytest.raises(ValueError, match="positive spring"):
        UmbrellaWindows(VARIABLES[0], (0.0,), -1.0)
    with pytest.raises(ValueError, match="2 pi apart"):
        Metadynamics(VARIABLES[0], 0.0, 3.0, 0.1)
    with pytest.raises(ValueError, match="minimum < maximum"):
        Metadynamics(VARIABLES[1], 0.5, 0.3, 0.1)


def test_windows_of_a_distance(droplet, tmp_path):
    """The QM water's oxygen and that of the nearest other one, held at two distances."""
    oxygens = droplet.positions[3::3]
    near = 3 + 3 * int(np.linalg.norm(oxygens - droplet.positions[0], axis=1).argmin())
    bias = UmbrellaWindows(CollectiveVariable("distance", (0, near)), (0.27, 0.34), 1e5)
    dataset = sample(
        droplet, tmp_path / "a.kstep", bias=bias, walkers=None, temperatures=(300,), gas=0.0, equilibration=0.2
    )
    assert len(dataset) == 20
    cv, window = dataset.readColumn("cv"), dataset.readColumn("window")
    np.testing.assert_array_equal(window, dataset.read().trajectories)
    with pytest.raises(ValueError, match="at least 2 walkers"):
        sample(droplet, tmp_path / "a.kstep", bias=bias, walkers=1)
    # The standard deviation of a free harmonic variable is sqrt(kT/spring) = 0.005 nm; that of a mean of ten frames, all of
    # them correlated, at most the same, and the force of the surroundings shifts it by some 0.002.
    for k, centre in enumerate(bias.centres):
        assert cv[window == k].mean() == pytest.approx(centre, abs=0.015)
    whole = sample(
        droplet, tmp_path / "a.kstep", 0.28, bias=bias, walkers=None, temperatures=(300,), gas=0.0, equilibration=0.2
    )
    assert len(whole) == 28 and not np.isnan(whole.readColumn("cv")).any()


def test_metadynamics_pushes_away_and_continues(droplet, tmp_path):
    oxygens = droplet.positions[3::3]
    near = 3 + 3 * int(np.linalg.norm(oxygens - droplet.positions[0], axis=1).argmin())
    cv = CollectiveVariable("distance", (0, near))
    bias = Metadynamics(cv, 0.2, 0.8, width=0.04, height=10.0, biasFactor=50.0, period=0.02)
    options = {"temperatures": (300,), "gas": 0.0, "interval": 0.02}
    sample(droplet, tmp_path / "a.kstep", 0.16, bias=bias, **options)
    dataset = sample(droplet, tmp_path / "a.kstep", 0.6, bias=bias, **options)
    whole = sample(droplet, tmp_path / "b.kstep", 0.6, bias=bias, **options)
    np.testing.assert_array_equal(dataset.readColumn("cv"), whole.readColumn("cv"))
    free = sample(droplet, tmp_path / "c.kstep", 0.6, bias=UmbrellaWindows(cv, (0.3,), 1e-6), **options)
    # 30 hills of 10 kJ/mol: it leaves its place, which the same walker without them keeps.
    assert np.ptp(dataset.readColumn("cv")) > 2 * np.ptp(free.readColumn("cv"))


# Torsions.


def hydrogens(bonds, species, counts):
    """Bonds and species with so many hydrogens on each atom."""
    species, bonds = list(species), list(bonds)
    for atom, count in enumerate(counts):
        for _ in range(count):
            bonds.append((atom, len(species)))
            species.append(1)
    return Region(tuple(species), tuple(range(len(species))), tuple(bonds))


def test_rotatable_torsions():
    def torsions(bonds, species, counts, length=0.150):
        region = hydrogens(bonds, species, counts)
        x = np.zeros((region.numAtoms, 3))
        x[:, 0] = length * np.arange(region.numAtoms)
        return findRotatableTorsions(region, x)

    chain4 = [(0, 1), (1, 2), (2, 3)]
    assert torsions(chain4, [6, 6, 6, 6], [3, 2, 2, 3]) == [(0, 1, 2, 3)]  # butane
    assert torsions(chain4, [6, 6, 6, 6], [3, 1, 1, 3], 0.134) == []  # 2-butene
    assert torsions(chain4, [6, 6, 6, 6], [2, 1, 1, 2], 0.146) == [(0, 1, 2, 3)]  # butadiene, were all bonds that long
    assert torsions([(0, 1), (1, 2)], [6, 6, 8], [3, 2, 1]) == []  # ethanol: nothing heavy to turn
    assert torsions([*chain4, (0, 3)], [6, 6, 6, 6], [2, 2, 2, 2]) == []  # cyclobutane
    amide = [(0, 1), (1, 2), (2, 3), (1, 4)]
    assert torsions(amide, [6, 6, 7, 6, 8], [3, 0, 1, 3, 0]) == []  # N-methylacetamide
    assert torsions(amide, [6, 6, 8, 6, 8], [3, 0, 0, 3, 0]) == []  # methyl acetate
    assert torsions(amide, [6, 6, 8, 6, 6], [3, 0, 0, 3, 2]) == [(0, 1, 2, 3)]  # a vinyl ether
    assert torsions(chain4, [6, 16, 16, 6], [3, 0, 0, 3]) == [(0, 1, 2, 3)]  # a disulfide


def glycol():
    """Ethylene glycol, O-C-C-O at 60 degrees."""
    species = [6, 6, 8, 8, 1, 1, 1, 1, 1, 1]
    t = math.radians(109.5)
    x = np.zeros((10, 3))
    x[1] = [0.151, 0, 0]

    def place(centre, other, length, torsion):
        """An atom at the tetrahedral angle to the bond between both carbons."""
        sign = 1 if other[0] > centre[0] else -1
        return centre + length * np.array(
            [sign * math.cos(t), math.sin(t) * math.cos(torsion), math.sin(t) * math.sin(torsion)]
        )

    third = 2 * math.pi / 3
    x[3], x[4], x[5] = (place(x[0], x[1], r, a) for r, a in ((0.140, 0), (0.109, third), (0.109, -third)))
    x[2], x[6], x[7] = (place(x[1], x[0], r, a + math.pi / 3) for r, a in ((0.140, 0), (0.109, third), (0.109, -third)))
    for hydrogen, oxygen, carbon in ((8, 3, 0), (9, 2, 1)):
        outward = (x[oxygen] - x[carbon]) / 0.140
        sideways = np.cross(outward, [0.3, 0.5, 0.81])
        x[hydrogen] = x[oxygen] + 0.096 * (0.33 * outward + 0.94 * sideways / np.linalg.norm(sideways))
    return species, x @ rotation_matrix(5).T


def test_swept_torsion_turns(tmp_path, monkeypatch):
    """A walker drags the torsion of ethylene glycol, in the gas phase, through a full turn."""
    monkeypatch.setattr("openmmkstep.data.walker.TURN", 0.6)
    species, x = glycol()
    system = openmm.System()
    for z in species:
        system.addParticle({1: 1.008, 6: 12.011, 8: 15.999}[z])
    system.addForce(XtbForce("GFN2-xTB", range(10), species))
    options = {"cluster": "serial", "platform": "Reference", "progress": False, "temperatures": (300,), "walkers": 2}
    dataset = sampleFrames(system, x, tmp_path / "a.kstep", picoseconds=0.6, equilibration=0.1, **options)
    frames = dataset.read()
    assert len(frames) == 60 and not frames.embedded.any()  # no gas-phase labels of what is in the gas phase
    (torsion,) = findRotatableTorsions(dataset.region, x)
    assert set(torsion) == {0, 1, 2, 3}
    cv = CollectiveVariable("torsion", torsion)
    angles = [np.array([cv.evaluate(p) for p in frames.positions[frames.trajectories == i]]) for i in (0, 1)]
    # The dragged one sees all of six sectors, the free one stays in its well: barriers are some 20 kJ/mol.
    seen = [len(set(np.floor((a + np.pi) / (np.pi / 3)).astype(int) % 6)) for a in angles]
    assert seen[1] == 6 and seen[0] <= 3
    # It is not in the labels.
    force = XtbForce("GFN2-xTB", range(10), species)
    context = make_context([force], 10)
    for i in (40, 50):
        context.setPositions(frames.positions[i])
        np.testing.assert_allclose(frames.forces[i], force.computeQMRegion(context).forces, atol=0.3)


def test_only_one_torsion_is_dragged():
    x = np.random.default_rng(2).normal(scale=0.2, size=(5, 3))
    system = openmm.System()
    for _ in range(5):
        system.addParticle(1.0)
    add_sweep(system, [(0, 1, 2, 3), (1, 2, 3, 4)])
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    assert energy_of(context) == 0
    for k, particles in enumerate([(0, 1, 2, 3), (1, 2, 3, 4)]):
        angle = CollectiveVariable("torsion", particles).evaluate(get_positions(context))
        set_sweep(context, k, angle + 0.3)
        assert energy_of(context) == pytest.approx(60 * (1 - math.cos(0.3)))


# Damping lengths.


@pytest.mark.parametrize("name", ["water", "formate", "ammonium"])
def test_damping_lengths_make_the_energy_a_function_of_phi(name):
    """What a second-order expansion in phi leaves is smaller than with the elements' own lengths times 0.8 or 1.25."""
    rng = np.random.default_rng(6)
    force, x = make_xtb(name, "GFN2-xTB", [(0.0, (0, 0, 0))] * 12, accuracy=0.05)
    n = len(x) - 12
    atoms, charges = x[:n], rng.choice([-0.8, 0.4], 12)
    for j, q in enumerate(charges):
        force.setEmbeddingChargeParameters(j, n + j, q, 10)
    context = make_context([force], len(x))
    energies, places = [], []
    while len(places) < 90:
        points = rng.uniform(-0.6, 0.6, size=(12, 3))
        r = np.linalg.norm(points[:, None] - atoms[None], axis=2).min(1)
        if r.min() > 0.2:
            places.append(points)
            context.setPositions(np.vstack([atoms, points]))
            energies.append(energy_of(context))
    lengths = findDampingLengths(force.getAtomicNumbers())

    def residual(damping) -> float:
        phi = np.array(
            [K_E * (((atoms[:, None] - p[None]) ** 2).sum(2) + damping[:, None] ** 2) ** -0.5 @ charges for p in places]
        )
        i, j = np.triu_indices(n)
        terms = np.hstack([np.ones((len(phi), 1)), phi, phi[:, i] * phi[:, j]])
        terms /= np.linalg.norm(terms, axis=0)
        return np.std(np.array(energies) - terms @ np.linalg.lstsq(terms, np.array(energies), rcond=1e-12)[0])

    assert np.std(energies) > 5
    best = residual(lengths)
    assert best < 0.15
    for factor in (0.8, 1.25):
        assert residual(factor * lengths) > 1.5 * best


def test_damping_lengths():
    np.testing.assert_allclose(
        findDampingLengths([1, 6, 7, 8]), [0.08428, 0.07206, 0.07263, 0.07617], atol=2e-5
    )  # those of the example's model
    assert findDampingLengths([17], "GFN1-xTB")[0] > findDampingLengths([17])[0] > 0
    with pytest.raises(openmm.OpenMMException, match="1 to 86"):
        findDampingLengths([99])
