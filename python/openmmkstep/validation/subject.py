"""What a check is made on: a System with corrector and model, and the molecule by itself."""

from __future__ import annotations

import copy
import dataclasses
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from .._units import CHARGE, NANOMETER
from ..contract import ModelContract, allow_native, readContract
from ..data.frames import Frames
from ..data.region import Region, findXtbForce
from ..forces import KStepModelForce, XtbForce, cast
from ..matching import matchModel
from ..qmmm.box import box_vectors
from ..qmmm.model import check_model, make_whole, model_force
from ..qmmm.preparation import make_hydrogens_heavy, remove_couplings
from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP

_FORCE = unit.kilojoule_per_mole / unit.nanometer


@dataclass
class CheckSubject:
    """What all parts of a check work on; prepareCheck() makes one.

    Attributes
    ----------
    system : System
        corrector in force group 1, KStepModelForce in group 2, no barostat
    starts : array of shape (starts, particles, 3)
        structures (nm)
    region : Region
        the atoms that the model is of, in the model's order
    contract : ModelContract
        the model's
    modelData : bytes
        the model's file
    links : list of (int, int, float)
        QM end, MM end, distance (nm) of each link hydrogen
    order : list of int
        the model's atom i is atom order[i] of the XtbForce; the same order by default
    platform : Platform, optional
        what Contexts are made on, by default the CPU platform with one thread
    properties : dict
    allowNativeCode : bool
        whether the model may be machine code, see KStepModelForce
    """

    system: openmm.System
    starts: np.ndarray
    region: Region
    contract: ModelContract
    modelData: bytes
    links: list[tuple[int, int, float]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    platform: openmm.Platform | None = None
    properties: dict = field(default_factory=dict)
    allowNativeCode: bool = False

    def __post_init__(self):
        self.order = self.order or list(range(self.region.numAtoms))
        if self.platform is None:
            self.platform = openmm.Platform.getPlatformByName("CPU")
            self.properties = {"Threads": "1"}

    def context(self, integrator: openmm.Integrator) -> openmm.Context:
        """A Context in which the integrator moves on the model alone."""
        integrator.setIntegrationForceGroups(0xFFFFFFFF & ~(1 << CORRECTOR_GROUP))
        return openmm.Context(self.system, integrator, self.platform, self.properties)

    def molecule(self, positions: np.ndarray) -> np.ndarray:
        """Positions (n, 3) of the region's atoms, link hydrogens included, from those of all particles (nm)."""
        links = [
            positions[qm] + distance / np.linalg.norm(positions[mm] - positions[qm]) * (positions[mm] - positions[qm])
            for qm, mm, distance in self.links
        ]
        return np.vstack([positions[list(self.region.particles)], *links])

    def inModelOrder(self, frames: Frames) -> Frames:
        """Frames in the order of the XtbForce's atoms, in that of the model's."""
        shapes = frames.shapes(len(frames), self.region.numAtoms)
        arrays = {name: getattr(frames, name) for name in shapes}
        return Frames(**{n: a[:, self.order] if len(shapes[n]) > 1 else a for n, a in arrays.items()})

    def withHydrogenMass(self, mass: float) -> CheckSubject:
        """The same with flexible hydrogens at least this heavy (u); their heavy atoms lose what they gain."""
        system = copy.deepcopy(self.system)
        make_hydrogens_heavy(system, self.region, mass)
        return dataclasses.replace(self, system=system)

    def gasPhase(self, method: str | None = None, accuracy: float = 0.05) -> GasPhase:
        """The molecule alone by a method of XtbForce, or by the model with phi = 0 if the method is None."""
        region = self.region
        if method is None:
            force = self.makeModelForce()
        else:
            force = XtbForce(method, range(region.numAtoms), region.species, region.charge, region.multiplicity)
            force.setAccuracy(accuracy)
        return GasPhase(force, region)

    def makeModelForce(self) -> KStepModelForce:
        """A force for the molecule's atoms 0, 1..., without charges around them."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.pt"
            file.write_bytes(self.modelData)
            return KStepModelForce(file, range(self.region.numAtoms), self.allowNativeCode)

    def makeTopology(self) -> app.Topology:
        """A topology with the elements and bonds of the region alone, for all particles of the System."""
        topology = app.Topology()
        residue = topology.addResidue("SYS", topology.addChain())
        element = dict(zip(self.region.particles, self.region.species, strict=False))
        atoms = [
            topology.addAtom(str(i), app.Element.getByAtomicNumber(element[i]) if i in element else None, residue)
            for i in range(self.system.getNumParticles())
        ]
        for a, b in self.region.bonds:
            if b < len(self.region.particles):
                topology.addBond(atoms[self.region.particles[a]], atoms[self.region.particles[b]])
        return topology


class GasPhase:
    """Energy, forces and charges of the molecule alone.

    Parameters
    ----------
    force : XtbForce or KStepModelForce
        of the particles 0 to n-1
    region : Region
    """

    def __init__(self, force: openmm.Force, region: Region):
        system = openmm.System()
        for number in region.species:
            system.addParticle(app.Element.getByAtomicNumber(number).mass)
        system.addForce(force)
        self.force = force
        platform = openmm.Platform.getPlatformByName("Reference")
        self.context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def __call__(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (n, 3) (kJ/mol/nm) at positions (nm)."""
        self.context.setPositions(positions)
        return energy_and_forces(self.context, -1)

    def charges(self) -> np.ndarray:
        """Mulliken charges (e) at the last positions; the method is xTB."""
        return np.array(self.force.getPartialCharges(self.context).value_in_unit(CHARGE))


def energy_and_forces(context: openmm.Context, groups) -> tuple[float, np.ndarray]:
    """Energy (kJ/mol) and forces (kJ/mol/nm) of force groups."""
    state = context.getState(energy=True, forces=True, groups=groups)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    return energy, state.getForces(asNumpy=True).value_in_unit(_FORCE)


def prepareCheck(
    system: openmm.System,
    positions,
    model: str | os.PathLike | None = None,
    topology: app.Topology | None = None,
    platform: openmm.Platform | None = None,
    properties: dict | None = None,
    allowNativeCode: bool = False,
) -> CheckSubject:
    """Put a model into a copy of a QM/MM System, and read what it is of.

    Parameters
    ----------
    system : System
        with an XtbForce in force group 1, as createQMMMSystem() makes; it is not changed
    positions : array or Quantity
        of all particles (nm), or an array of several such structures
    model : str or path, optional
        a model file; None if the System holds a KStepModelForce, which else is replaced
    topology : Topology, optional
        says which QM atoms are bonded; else the distances do. matchModel() finds the model's atoms by the bonds
    platform, properties : Platform, dict, optional
        what to run on, by default the CPU platform with one thread
    allowNativeCode : bool
        whether the model may be machine code, see KStepModelForce

    Raises
    ------
    ValueError
        If there is no XtbForce or no model, or the model or the positions do not fit the System.
    """
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(NANOMETER)
    starts = np.array(positions, dtype=float)
    starts = starts[None] if starts.ndim == 2 else starts
    if starts.ndim != 3 or starts.shape[1:] != (system.getNumParticles(), 3):
        raise ValueError(
            f"Expected positions of the System's {system.getNumParticles()} particles, (particles, 3) or (starts, particles, "
            f"3), found the shape {starts.shape}."
        )
    system = copy.deepcopy(system)
    xtb = findXtbForce(system)
    if xtb.getForceGroup() != CORRECTOR_GROUP:
        raise ValueError(
            f"Expected the XtbForce in force group {CORRECTOR_GROUP}, found it in {xtb.getForceGroup()}; createQMMMSystem() puts it there."
        )
    region = Region.fromSystem(system, topology, starts[0], xtb)
    links = [xtb.getLinkAtomParameters(i) for i in range(xtb.getNumLinkAtoms())]
    if system.usesPeriodicBoundaryConditions() and not links:
        # Nothing but the QM forces holds the region together, so that its molecules may come in parts.
        particles = list(region.particles)
        for x in starts:
            x[particles] = make_whole(x[particles], region.bonds, box_vectors(system))
    ends = [(qm, mm, distance.value_in_unit(NANOMETER)) for qm, mm, distance in links]

    def make(contract: ModelContract, data: bytes) -> CheckSubject:
        return CheckSubject(
            system,
            starts,
            region,
            contract,
            data,
            ends,
            platform=platform,
            properties=properties or {},
            allowNativeCode=allowNativeCode,
        )

    held = [i for i, f in enumerate(map(cast, system.getForces())) if isinstance(f, KStepModelForce)]
    if model is not None:
        contract = check_model(model, region.charge, region.multiplicity, region.hardnessElement)
        for i in reversed(held):
            system.removeForce(i)
        subject = make(contract, Path(model).read_bytes())
        subject.allowNativeCode = allow_native(subject.modelData, allowNativeCode, f"The model '{model}'")
        try:
            order = matchModel(
                contract, region.species, region.bonds, subject.molecule(starts[0]), numLinkAtoms=len(links)
            )
        except ValueError as e:
            raise ValueError(f"The model '{model}' does not fit the QM region: {e}") from e
        force = model_force(xtb, model, contract, order, allowNativeCode)
        force.setForceGroup(MODEL_GROUP)
        force.setCorrectorForceGroup(CORRECTOR_GROUP)
        system.addForce(force)
    elif len(held) == 1:
        force = cast(system.getForce(held[0]))
        data = force.getModelData()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.pt"
            file.write_bytes(data)
            contract = readContract(file)
        pairs = [link[:2] for link in links]
        order = [region.particles.index(p) for p in force.getParticles()]
        order += [len(order) + pairs.index(force.getLinkAtomParameters(i)[:2]) for i in range(len(links))]
        subject = make(contract, data)
    else:
        raise ValueError(
            f"Expected a model: give a model file, or a System with one KStepModelForce; found {len(held)} in it."
        )
    remove_couplings(system)
    return reordered(subject, order)


def reordered(subject: CheckSubject, order: list[int]) -> CheckSubject:
    """A subject with the region in the order of the model's atoms."""
    region, num = subject.region, len(subject.region.particles)
    place = {a: i for i, a in enumerate(order)}
    return dataclasses.replace(
        subject,
        order=order,
        region=dataclasses.replace(
            region,
            species=tuple(region.species[a] for a in order),
            particles=tuple(region.particles[a] for a in order[:num]),
            bonds=tuple((place[a], place[b]) for a, b in region.bonds),
        ),
        links=[subject.links[a - num] for a in order[num:]],
    )
