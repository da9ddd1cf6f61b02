"""What all tests share: molecules, Contexts, finite differences."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

# OpenMM would take a GPU, or OpenCL on the CPU, where there is one; the tests of those platforms name them.
os.environ.setdefault("OPENMM_DEFAULT_PLATFORM", "CPU")

import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmkstep

K_E = 138.93545764438198
"""1/(4 pi eps0) in kJ nm/(mol e^2)."""
KJ_PER_HARTREE = 2625.4996394799
NM_PER_BOHR = 0.0529177210903
KT_300 = 8.31446261815324e-3 * 300

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))

# Name: atomic numbers, positions in nm, charge, multiplicity. The first five have atoms that share coordinates along
# an axis, where libxtb 6.5.1 by itself gives wrong gradients.
MOLECULES = {
    "water": ([8, 1, 1], [[0, 0, 0], [0.0757, 0.0586, 0], [-0.0757, 0.0586, 0]], 0, 1),
    "HCN": ([1, 6, 7], [[0, 0, 0], [0.1065, 0, 0], [0.2220, 0, 0]], 0, 1),
    "CO2": ([8, 6, 8], [[0, 0, -0.1160], [0, 0, 0], [0, 0, 0.1160]], 0, 1),
    "formaldehyde": ([8, 6, 1, 1], [[0, 0, 0.1205], [0, 0, 0], [0, 0.0935, -0.0590], [0, -0.0935, -0.0590]], 0, 1),
    "ethylene": (
        [6, 6, 1, 1, 1, 1],
        [
            [0, 0, 0.0670],
            [0, 0, -0.0660],
            [0, 0.093, 0.124],
            [0, -0.093, 0.124],
            [0, 0.093, -0.122],
            [0, -0.093, -0.122],
        ],
        0,
        1,
    ),
    "O2": ([8, 8], [[0, 0, 0], [0, 0.121, 0]], 0, 3),
    "bent water": ([8, 1, 1], [[0.01, -0.02, 0.03], [0.0900, 0.0356, 0.0111], [-0.0657, 0.0386, -0.0212]], 0, 1),
    "ammonium": (
        [7, 1, 1, 1, 1],
        [[0, 0, 0], [0.06, 0.059, 0.061], [-0.058, -0.06, 0.06], [-0.06, 0.061, -0.059], [0.062, -0.06, -0.058]],
        1,
        1,
    ),
    "formate": (
        [6, 8, 8, 1],
        [[0, 0.003, 0.001], [0.113, 0.056, 0.002], [-0.112, 0.058, -0.001], [0.001, -0.112, 0.003]],
        -1,
        1,
    ),
    "methyl": (
        [6, 1, 1, 1],
        [[0.001, 0.002, 0.004], [0.108, 0.001, 0.0], [-0.054, 0.0937, 0.001], [-0.0545, -0.0930, -0.002]],
        0,
        2,
    ),
}

# Three charges: on an axis of the molecules, sharing two coordinates with one another, and somewhere.
CHARGES = [(0.5, (0.38, 0.0, 0.0)), (-0.7, (0.38, 0.0, 0.30)), (0.4, (-0.21, 0.27, -0.17))]


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take longer than a few seconds too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs with --slow only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def rotation_matrix(seed: int) -> np.ndarray:
    """A proper rotation by random angles."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def make_xtb(name: str, method: str, charges=(), fixed=None, number: int = 10, accuracy: float = 0.01):
    """An XtbForce of a molecule (particles 0, 1...) with charges on the particles after it, and all positions."""
    numbers, positions, charge, multiplicity = MOLECULES[name]
    n = len(numbers)
    force = openmmkstep.XtbForce(method, range(n), numbers, charge, multiplicity)
    force.setAccuracy(accuracy)
    for j, (q, _) in enumerate(charges):
        force.addEmbeddingCharge(n + j, q, number)
    for a, q in enumerate(fixed or ()):
        force.setFixedCharge(a, q)
    return force, np.array(positions + [p for _, p in charges], dtype=float)


def in_threads(function, cases) -> list:
    """What the function returns for each case (a tuple of arguments), all at the same time in threads of their own."""
    results = [None] * len(cases)

    def work(i):
        results[i] = function(*cases[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def make_context(forces, num: int, positions=None, integrator=None, platform: str = "Reference", mass: float = 12.0):
    """A Context of num particles with these forces. The Context keeps its System and integrator alive."""
    system = openmm.System()
    for _ in range(num):
        system.addParticle(mass)
    for force in forces if isinstance(forces, list | tuple) else [forces]:
        system.addForce(force)
    integrator = integrator or openmm.VerletIntegrator(0.0005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    if positions is not None:
        context.setPositions(positions)
    return context


def energy_forces(context, groups=-1) -> tuple[float, np.ndarray]:
    state = context.getState(getEnergy=True, getForces=True, groups=groups)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    return energy, state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)


def energy_of(context, groups=-1) -> float:
    return context.getState(getEnergy=True, groups=groups).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def get_positions(context) -> np.ndarray:
    return context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer).copy()


def numerical_forces(context, groups=-1, atoms=None, h: float = 2e-4) -> np.ndarray:
    """Minus the gradient of the energy by five-point differences, virtual sites following their atoms.

    The formula's error h^4 E'''''/30 is 1e-4 kJ/mol/nm at most for chemical bonds (E''''' about 1e12).
    """
    x0 = get_positions(context)
    atoms = range(len(x0)) if atoms is None else atoms
    result = np.zeros((len(x0), 3))
    for i in atoms:
        for k in range(3):
            for step, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                x = x0.copy()
                x[i, k] += step * h
                context.setPositions(x)
                context.computeVirtualSites()
                result[i, k] -= weight * energy_of(context, groups) / (12 * h)
    context.setPositions(x0)
    return result


def memory() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def run_python(code: str, env: dict | None = None, arguments=(), timeout: float = 120) -> subprocess.CompletedProcess:
    """Run code in a fresh Python with these environment variables and arguments added."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


BLOCK_TORCH = """
import sys
import threading
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch':
            raise ImportError('torch is hidden')
sys.meta_path.insert(0, Blocker())
"""
"""Code after which torch cannot be imported, as where it is not installed."""


def water_topology(num: int, virtual_sites: bool = False) -> app.Topology:
    """Water molecules: O, H, H and, for four-site water, M."""
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(num):
        residue = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", app.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, residue))
        if virtual_sites:
            topology.addAtom("M", None, residue)
    return topology


def water_positions(num: int, seed: int, spacing: float = 0.31, virtual_sites: bool = False) -> np.ndarray:
    """The num places of a cubic lattice nearest to its centre, each with a randomly turned molecule."""
    side = np.arange(-4, 5) * spacing
    lattice = np.stack(np.meshgrid(side, side, side), axis=-1).reshape(-1, 3)
    centres = lattice[np.argsort(np.linalg.norm(lattice, axis=1), kind="stable")[:num]]
    # TIP3P's and TIP4P-Ew's geometry: 0.09572 nm, 104.52 degrees.
    molecule = np.array([[0, 0, 0], [0.0756950, 0.0585882, 0], [-0.0756950, 0.0585882, 0]])
    if virtual_sites:
        molecule = np.vstack([molecule, [[0, 0.0125, 0]]])
    return np.vstack([molecule @ rotation_matrix(1000 * seed + i).T + c for i, c in enumerate(centres)])


def water_system(num: int, force_field: str = "amber14/tip3p.xml", **kwargs) -> tuple[app.Topology, openmm.System]:
    topology = water_topology(num, virtual_sites="tip4p" in force_field)
    options = {"nonbondedMethod": app.NoCutoff, "rigidWater": True, "removeCMMotion": False} | kwargs
    return topology, app.ForceField(force_field).createSystem(topology, **options)


@dataclasses.dataclass
class Droplet:
    """A QM water among rigid TIP3P waters: topology, force-field and QM/MM Systems, a state at 300 K."""

    topology: app.Topology
    mm_system: openmm.System
    system: openmm.System
    positions: np.ndarray
    velocities: np.ndarray


@pytest.fixture(scope="session")
def droplet() -> Droplet:
    topology, mm_system = water_system(30)
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(mm_system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(water_positions(30, 1))
    openmm.LocalEnergyMinimizer.minimize(context, 10)
    integrator.step(1500)
    system = openmmkstep.createQMMMSystem(topology, mm_system, range(3))
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.0005)
    integrator.setRandomNumberSeed(2)
    qmmm = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    qmmm.setPositions(get_positions(context))
    qmmm.setVelocitiesToTemperature(300, 3)
    integrator.step(1000)
    velocities = qmmm.getState(getVelocities=True).getVelocities(asNumpy=True)
    return Droplet(topology, mm_system, system, get_positions(qmmm), np.array(velocities._value))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A function from the name of a model of generate.py to its file."""
    import generate

    folder = tmp_path_factory.mktemp("models")
    files = {}

    def get(name: str) -> Path:
        if name not in files:
            files[name] = folder / f"{name}.pt"
            generate.write(name, files[name])
        return files[name]

    return get
