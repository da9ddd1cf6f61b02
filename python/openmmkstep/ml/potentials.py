"""The potentials 'gfn1-xtb', 'gfn2-xtb', 'gfn-ff' and 'kstep' of openmm-ml.

openmm-ml finds the factories through the entry points in pyproject.toml while it is imported itself, so everything here
is taken from openmmml.mlpotential, which is complete by then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import openmm
from openmm import app, unit
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from ..contract import ModelContract, readContract
from ..forces import KStepModelForce, QMRegionForce, XtbForce, cast
from ..qmmm.cuts import Cut
from ..qmmm.model import check_model, match_model
from ..qmmm.preparation import unused_groups
from ..qmmm.system import HARDNESS_ELEMENT, createQMMMSystem
from ._region import read_region
from .interpolation import interpolate_systems

METHODS = {"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB", "gfn-ff": "GFN-FF"}
"""The names of openmm-ml and of XtbForce."""

_MOLECULE = {"charge": 0, "multiplicity": 1}
_SETTINGS = {
    "accuracy": XtbForce.setAccuracy,
    "electronicTemperature": XtbForce.setElectronicTemperature,
    "maxIterations": XtbForce.setMaxIterations,
    "numThreads": XtbForce.setNumThreads,
}
_ELECTROSTATIC = ("cutoff", "switchingDistance", "boundary", "charges", "positions")
_MECHANICAL = ("linkAtomDistances",)
"""What openmm-ml's mechanical embedding takes and passes on to the potential."""
_FOR_ALL = ("device", "precision")
"""What scripts for other potentials pass; nothing here has a choice of them."""


class XtbPotentialImplFactory(MLPotentialImplFactory):
    """Makes the implementations of 'gfn1-xtb', 'gfn2-xtb' and 'gfn-ff'."""

    def createImpl(self, name: str, **args) -> XtbPotentialImpl:
        return XtbPotentialImpl(name, **args)


class KStepPotentialImplFactory(MLPotentialImplFactory):
    """Makes the implementation of 'kstep'."""

    def createImpl(self, name: str, modelPath: str | os.PathLike | None = None, **args) -> KStepPotentialImpl:
        return KStepPotentialImpl(name, modelPath, **args)


class XtbPotentialImpl(MLPotentialImpl):
    """Extended tight binding as a potential of openmm-ml: an XtbForce.

    >>> potential = MLPotential('gfn2-xtb')
    >>> system = potential.createSystem(topology, charge=-1)
    >>> system = potential.createMixedSystem(topology, mmSystem, atoms, embedding='electrostatic')

    The arguments charge, multiplicity, accuracy, electronicTemperature, maxIterations and numThreads are those of XtbForce.
    Given to MLPotential() they are what createSystem() and createMixedSystem() take as their defaults.

    The embedding 'electrostatic' (not of 'gfn-ff') is createQMMMSystem()'s, with its arguments cutoff, switchingDistance,
    boundary, charges and positions, and with its rules for cut bonds: it takes the constraints of the QM atoms away
    whatever removeConstraints says, and adds no particles. With openmm-ml's 'mechanical' embedding link
    atoms are virtual sites.

    Parameters
    ----------
    name : str
        'gfn1-xtb', 'gfn2-xtb' or 'gfn-ff'
    """

    def __init__(self, name: str, **args):
        self.name = name
        self.method = METHODS[name]
        check_arguments(name, args, [*_MOLECULE, *_SETTINGS])
        self._defaults = args

    def addForces(
        self, topology: app.Topology, system: openmm.System, atoms: Iterable[int] | None, forceGroup: int, **args
    ) -> None:
        """Add an XtbForce for these atoms, or all; see MLPotentialImpl.addForces()."""
        check_arguments(self.name, args, [*_MOLECULE, *_SETTINGS, *_MECHANICAL, *_FOR_ALL])
        region = read_region(self.name, topology, system, atoms)
        settings = {**_MOLECULE, **self._defaults, **args}
        force = XtbForce(self.method, region.particles, region.numbers, settings["charge"], settings["multiplicity"])
        self._apply(force, settings)
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(region.periodic)
        system.addForce(force)

    def createMixedSystem(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Sequence[int],
        forceGroup: int,
        interpolate: bool,
        embedding: str,
        returnInfo: bool = False,
        **args,
    ) -> openmm.System:
        """Electrostatic embedding by createQMMMSystem(); see MLPotentialImpl.createMixedSystem()."""
        check_arguments(
            self.name, args, [*_MOLECULE, *_SETTINGS, *_ELECTROSTATIC, "model", "allowNativeCode", *_FOR_ALL]
        )
        settings = {**_MOLECULE, **self._defaults, **args}
        # The model is createKStepSystem()'s: both forces are told of the same charges.
        options = {n: settings[n] for n in (*_MOLECULE, *_ELECTROSTATIC, "model", "allowNativeCode") if n in settings}
        mixed = createQMMMSystem(topology, system, atoms, self.method, embedding=embedding, **options)
        for force in region_forces(mixed):
            if isinstance(force, XtbForce):
                self._apply(force, settings)
                force.setForceGroup(forceGroup)
            else:
                force.setCorrectorForceGroup(forceGroup)
        return interpolate_systems(system, mixed, forceGroup) if interpolate else mixed

    def getSupportedEmbeddings(self) -> list[str]:
        """Electrostatic embedding, where the method has it."""
        return ["electrostatic"] if self.method in HARDNESS_ELEMENT else []

    def getMLLongRange(self) -> bool:
        """False: the QM region does not see its own images."""
        return False

    @staticmethod
    def _apply(force: XtbForce, settings: Mapping) -> None:
        for name, setter in _SETTINGS.items():
            if name in settings:
                setter(force, settings[name])


class KStepPotentialImpl(MLPotentialImpl):
    """A k-step model that is a potential, as one of openmm-ml: a KStepModelForce.

    >>> potential = MLPotential('kstep', modelPath='model.pt')

    Its atoms are found in the topology by their bonds, see matchModel(). createSystem() and createMixedSystem() take
    positions, by which the labels of equal atoms and the stereoisomer are checked, and correctorForceGroup, the force
    group of the corrector for which the model stands in; by default there is none. A charge and multiplicity are compared
    with the model's.

    The embedding 'electrostatic', of models that see charges, is createQMMMSystem()'s, with the arguments named at
    XtbPotentialImpl. With openmm-ml's 'mechanical' embedding a model that could see charges gives its gas-phase energy.

    Parameters
    ----------
    name : str
        'kstep'
    modelPath : str or path
        the model file
    allowNativeCode : bool
        see KStepModelForce
    numThreads : int
        threads of torch
    """

    def __init__(
        self, name: str, modelPath: str | os.PathLike | None, allowNativeCode: bool = False, numThreads: int = 1, **args
    ):
        check_arguments(name, args, [])
        if modelPath is None:
            raise ValueError(f"MLPotential('{name}') needs the file of a k-step model: pass modelPath='model.pt'.")
        self.name = name
        self.modelPath = modelPath
        self.allowNativeCode = allowNativeCode
        self.numThreads = numThreads
        self.contract: ModelContract = readContract(modelPath)

    def addForces(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        positions=None,
        correctorForceGroup: int | None = None,
        **args,
    ) -> None:
        """Add a KStepModelForce for these atoms, or all; see MLPotentialImpl.addForces()."""
        check_arguments(self.name, args, [*_MOLECULE, *_MECHANICAL, *_FOR_ALL])
        region = read_region(self.name, topology, system, atoms)
        contract = check_model(self.modelPath, *self._molecule(args), None)
        real = region.particles[: len(region.particles) - len(region.links)]
        cuts = [Cut(qm, mm, 0.0) for qm, mm in region.links]
        sites = dict(zip(cuts, region.particles[len(real) :], strict=True))
        found = match_model(
            self.modelPath, contract, topology, real, cuts, _padded(positions, topology), region.box_vectors
        )
        particles = [*found.particles, *(sites[cut] for cut in found.cuts)]
        force = KStepModelForce(self.modelPath, particles, self.allowNativeCode)
        force.setUsesPeriodicBoundaryConditions(region.periodic)
        self._apply(force, system, forceGroup, correctorForceGroup)
        system.addForce(force)

    def createMixedSystem(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Sequence[int],
        forceGroup: int,
        interpolate: bool,
        embedding: str,
        returnInfo: bool = False,
        correctorForceGroup: int | None = None,
        **args,
    ) -> openmm.System:
        """Electrostatic embedding by createQMMMSystem(); see MLPotentialImpl.createMixedSystem()."""
        check_arguments(self.name, args, [*_MOLECULE, *_ELECTROSTATIC, *_FOR_ALL])
        charge, multiplicity = self._molecule(args)
        options = {name: args[name] for name in _ELECTROSTATIC if name in args}
        # The hardness element is all that the charges know of a method.
        method = next((m for m, z in HARDNESS_ELEMENT.items() if z == self.contract.hardnessElement), "GFN2-xTB")
        mixed = createQMMMSystem(
            topology,
            system,
            atoms,
            method,
            charge,
            multiplicity,
            embedding,
            self.modelPath,
            allowNativeCode=self.allowNativeCode,
            **options,
        )
        for i in reversed(range(mixed.getNumForces())):
            if isinstance(cast(mixed.getForce(i)), XtbForce):
                mixed.removeForce(i)
        (force,) = region_forces(mixed)
        self._apply(force, mixed, forceGroup, correctorForceGroup)
        return interpolate_systems(system, mixed, forceGroup) if interpolate else mixed

    def getSupportedEmbeddings(self) -> list[str]:
        """Electrostatic embedding, where the model has it."""
        return ["electrostatic"] if "phi" in self.contract.inputs else []

    def getMLLongRange(self) -> bool:
        """False: the QM region does not see its own images."""
        return False

    def _molecule(self, args: Mapping) -> tuple[int, int]:
        return args.get("charge", self.contract.charge), args.get("multiplicity", self.contract.multiplicity)

    def _apply(self, force: KStepModelForce, system: openmm.System, group: int, corrector: int | None) -> None:
        force.setForceGroup(group)
        force.setCorrectorForceGroup(unused_groups(system, {group})[-1] if corrector is None else corrector)
        force.setNumThreads(self.numThreads)
        if self.allowNativeCode:
            force.allowNativeCode()


def region_forces(system: openmm.System) -> list[QMRegionForce]:
    """The XtbForces and KStepModelForces of a System."""
    return [f for f in map(cast, system.getForces()) if isinstance(f, QMRegionForce)]


def check_arguments(name: str, found: Iterable[str], known: Sequence[str]) -> None:
    """Raise TypeError for an argument that nobody would read: a misspelt charge must not pass in silence."""
    unknown = sorted(set(found) - set(known))
    if unknown:
        takes = f"it takes {', '.join(sorted(known))}" if known else "it takes no others than those of its class"
        raise TypeError(f"The potential '{name}' does not know the argument {unknown[0]!r} here: {takes}.")


def _padded(positions, topology: app.Topology):
    """Positions for a topology that link atoms were added to; nothing depends on where those are."""
    if positions is None:
        return None
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(unit.nanometer)
    x = np.array(positions, dtype=float).reshape(-1, 3)
    missing = topology.getNumAtoms() - len(x)
    return np.vstack([x, np.zeros((missing, 3))]) if missing > 0 else x
