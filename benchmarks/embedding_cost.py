"""What the embedding costs outside xTB: a QM molecule of 22 atoms in some 20,000 MM atoms of water, per call.

A KStepModelForce with a trivial model that sees phi is evaluated along a set of structures, with all embedding charges
and without any; the difference is the embedding (images, neighbours, switching, phi and its forces, the subtractive
sum). What OpenMM and torch need for a force of so many particles is in both. Reference platform, one thread, best of
several repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import openmm
import torch

from openmmkstep import KStepModelForce, ModelContract, saveModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from alanine_dipeptide.droplet import NUM_QM, Droplet

DENSITY = 33.4  # waters per nm^3
CUTOFFS = (0.8, 1.0), (1.0, 1.2)  # nm, switching and cutoff
WATER = np.array([[0, 0, 0], [0.0757, 0.0586, 0], [-0.0757, 0.0586, 0]])
CHARGES = (-0.834, 0.417, 0.417)


class Trivial(torch.nn.Module):
    """An energy that is linear in phi."""

    def forward(self, positions: torch.Tensor, phi: torch.Tensor):
        charges = torch.full_like(phi, 0.1)
        return (charges * phi).sum(), torch.zeros_like(positions), charges


def model_file(folder: Path, species) -> Path:
    path = folder / "trivial.pt"
    contract = ModelContract(
        species=species,
        inputs=("positions", "phi"),
        outputs=("energy", "forces", "charges"),
        dampingLengths=[0.07] * len(species),
        hardnessElement=10,
    )
    saveModel(Trivial(), path, contract)
    return path


def build_box(num_waters: int) -> tuple[np.ndarray, list[int], float]:
    """Positions (nm) of the molecule and water on a lattice around it, atomic numbers of the molecule, edge (nm)."""
    droplet = Droplet(model=None)
    species = [a.element.atomic_number for a in list(droplet.topology.atoms())[:NUM_QM]]
    molecule = np.array([tuple(p) for p in droplet.positions._value[:NUM_QM]])
    side = int(np.ceil(num_waters ** (1 / 3)))
    spacing = DENSITY ** (-1 / 3)
    places = np.stack(np.meshgrid(*[np.arange(side) * spacing] * 3), axis=-1).reshape(-1, 3)
    edge = side * spacing
    molecule = molecule - molecule.mean(axis=0) + 0.5 * edge
    free = places[np.linalg.norm(places[:, None] - molecule[None], axis=2).min(axis=1) > 0.25]
    return np.vstack([molecule, (free[:, None] + WATER).reshape(-1, 3)]), species, edge


def new_context(path: Path, species, x: np.ndarray, edge: float, radii: tuple[float, float] | None) -> openmm.Context:
    force = KStepModelForce(str(path), range(NUM_QM))
    force.setForceGroup(2)
    force.setUsesPeriodicBoundaryConditions(True)
    if radii:
        force.setSwitchingDistance(radii[0])
        force.setCutoffDistance(radii[1])
        for a in range(NUM_QM):
            force.setFixedCharge(a, 0.1 * (-1) ** a)
        for first in range(NUM_QM, len(x), 3):
            for j, q in enumerate(CHARGES):
                force.addEmbeddingCharge(first + j, q, 10)
            force.addEmbeddingGroup([first, first + 1, first + 2], first, True)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*np.diag([edge] * 3))
    for _ in range(len(x)):
        system.addParticle(12.0)
    system.addForce(force)
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))


def measure(contexts: dict[str, openmm.Context], x: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds per call, for each Context in turn."""
    best = dict.fromkeys(contexts, np.inf)
    generator = np.random.default_rng(1)
    for repeat in range(repeats):
        # New positions each time: the result of the last ones is kept.
        y = [openmm.Vec3(*p) for p in x + 0.002 * generator.normal(size=x.shape)]
        for name, context in contexts.items():
            context.setPositions(y)
            start = time.perf_counter()
            context.getState(energy=True, groups={2})
            elapsed = 1e3 * (time.perf_counter() - start)
            if repeat > 3:  # torch compiles the model in its first calls
                best[name] = min(best[name], elapsed)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waters", type=int, default=6700)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "embedding_cost.json")
    args = parser.parse_args()
    x, species, edge = build_box(args.waters)
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(Path(folder), species)
        settings = {"none": None} | {f"{on:g}/{off:g} nm": (on, off) for on, off in CUTOFFS}
        contexts = {name: new_context(path, species, x, edge, radii) for name, radii in settings.items()}
        numbers = measure(contexts, x, args.repeats)
    print(f"{len(x) - NUM_QM} MM atoms, {NUM_QM} QM atoms: ms per call with forces")
    print(f"{'without charges':20s}{numbers['none']:8.3f}")
    for name in list(numbers)[1:]:
        print(f"{name:20s}{numbers[name]:8.3f}   of which embedding {numbers[name] - numbers['none']:.3f}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"mm_atoms": len(x) - NUM_QM} | numbers, indent=2))


if __name__ == "__main__":
    main()
