"""createKStepSystem: any potential of openmm-ml, or any Force, as the corrector or the model of a KStepIntegrator."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping, Sequence

import openmm
from openmm import app, unit
from openmmml.mlpotential import MLPotential, MLPotentialImpl

from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from ._region import find_link_bonds
from .potentials import KStepPotentialImpl, XtbPotentialImpl, region_forces

MECHANICAL = "mechanical"
"""openmm-ml's name of its own embedding."""


def createKStepSystem(
    topology: app.Topology,
    system: openmm.System,
    atoms: Iterable[int],
    corrector: MLPotential | openmm.Force,
    model: MLPotential | openmm.Force | str | os.PathLike | None = None,
    *,
    charge: int | None = None,
    multiplicity: int | None = None,
    positions=None,
    embedding: str = MECHANICAL,
    removeConstraints: bool = True,
    modelArgs: Mapping | None = None,
    returnInfo: bool = False,
    **args,
) -> openmm.System | dict:
    """Make a mixed System for KStepIntegrator: the corrector in force group 1, the model in group 2.

    As by MLPotential.createMixedSystem() the corrector computes the energy within the atoms, and the force field (in group 0)
    the rest, interactions between the regions included. The model is added to that System in a group of its own; it takes
    the corrector's place in the inner steps. What is sampled is the Hamiltonian of groups 0 and 1, however poor the model is.

    A k-step model stands back wherever the energy of group 1 is asked for. No other force can: with another model say
    ``groups={0, 1}`` where an energy is asked for, and to another integrator setIntegrationForceGroups({0, 1}).
    KStepIntegrator, with the minimizer, reporters and barostats that ask it, knows by itself.

    Parameters
    ----------
    topology : Topology
        of the whole system
    system : System
        the whole system by force field, nothing of it in force groups 1 and 2; it is not changed
    atoms : iterable of int
        the atoms of the ML or QM region
    corrector : MLPotential or Force
        what is right. A Force, for instance a PythonForce over another program, acts on the atoms; where a PythonForce names
        no particles it is given the atoms, then the link atoms
    model : MLPotential, Force, str or path, optional
        what is cheap; a path is that of a k-step model file. Without one the corrector is called every k steps and nothing
        takes its place in between
    charge, multiplicity : int, optional
        of the region; passed to both potentials
    positions : array or Quantity, optional
        of all particles of ``system`` (nm). Used by k-step models to check labels and stereoisomer, and by electrostatic
        embedding for Mulliken charges
    embedding : str
        'mechanical', or one that the corrector supports. A k-step model takes part in the 'electrostatic' embedding of xTB;
        other models see no charges
    removeConstraints : bool
        whether to remove constraints between the atoms
    modelArgs : dict, optional
        further arguments of the model's potential, such as precision
    returnInfo : bool
        whether to return a dict with 'system', 'topology' and 'oldToNew' as MLPotential.createMixedSystem() does. Where bonds
        are cut the topology has link atoms that ``topology`` has not
    **args
        further arguments of the corrector's potential and of the embedding

    Returns
    -------
    System or dict
        see returnInfo

    Raises
    ------
    ValueError
        If a force group is taken, a Force belongs to another System, or the embedding saturates cut bonds in a way that
        the model cannot follow.
    TypeError
        If corrector or model is something else.
    ImportError
        If the installed openmmml is older than 1.8.
    """
    if not hasattr(MLPotential, "getSupportedEmbeddings"):
        raise ImportError(
            f"createKStepSystem needs OpenMM-ML 1.8, found {importlib.metadata.version('openmmml')}. Install it with "
            "\"pip install 'openmmml>=1.8,<2'\"."
        )
    atoms = [int(i) for i in atoms]
    _check_groups(system)
    molecule = {n: v for n, v in (("charge", charge), ("multiplicity", multiplicity)) if v is not None}
    corrector = _potential(corrector, "corrector")
    if isinstance(model, str | os.PathLike):
        model = MLPotential("kstep", modelPath=model)
    if model is not None:
        model = _potential(model, "model")
    settings = {**molecule, **args}
    if embedding != MECHANICAL and positions is not None:
        settings["positions"] = positions
    together = embedding != MECHANICAL and _is(corrector, XtbPotentialImpl) and _is(model, KStepPotentialImpl)
    if together:
        settings |= {"model": model._impl.modelPath, "allowNativeCode": model._impl.allowNativeCode}
    info = corrector.createMixedSystem(
        topology, system, atoms, removeConstraints, CORRECTOR_GROUP, embedding=embedding, returnInfo=True, **settings
    )
    mixed = info["system"]
    if together:
        (force,) = (f for f in region_forces(mixed) if f.getForceGroup() == MODEL_GROUP)
        force.setNumThreads(model._impl.numThreads)
    elif model is not None:
        particles = _particles(topology, info, atoms)
        further = dict(modelArgs or {})
        if _is(model, KStepPotentialImpl):
            further = {"positions": positions, "correctorForceGroup": CORRECTOR_GROUP, **further}
        model._impl.addForces(info["topology"], mixed, particles, MODEL_GROUP, **molecule, **further)
    _hold_together(topology, mixed, {i: info["oldToNew"][i] for i in atoms})
    return info if returnInfo else mixed


class _ForcePotential(MLPotential):
    """A Force of the user's as a potential."""

    def __init__(self, force: openmm.Force):
        self._impl = _ForceImpl(force)


class _ForceImpl(MLPotentialImpl):
    def __init__(self, force: openmm.Force):
        self.force = force

    def addForces(self, topology, system, atoms: Sequence[int], forceGroup: int, **args) -> None:
        if isinstance(self.force, openmm.PythonForce) and not self.force.getParticles():
            self.force.setParticles(atoms)
        self.force.setForceGroup(forceGroup)
        system.addForce(self.force)

    def getMLLongRange(self) -> bool:
        return False


def _potential(value, role: str) -> MLPotential:
    if isinstance(value, MLPotential):
        return value
    if not isinstance(value, openmm.Force):
        raise TypeError(
            f"Expected an MLPotential or a Force as the {role}, found {value!r}. A name of openmm-ml becomes a potential by "
            "MLPotential(name)."
        )
    if not value.thisown:
        raise ValueError(f"The {role} belongs to a System already; give a Force that was added to none.")
    return _ForcePotential(value)


def _is(potential: MLPotential | None, kind: type) -> bool:
    return potential is not None and isinstance(potential._impl, kind)


def _check_groups(system: openmm.System) -> None:
    for force in system.getForces():
        if force.getForceGroup() in (CORRECTOR_GROUP, MODEL_GROUP):
            raise ValueError(
                f"{force.getName()} is in force group {force.getForceGroup()}; groups {CORRECTOR_GROUP} and {MODEL_GROUP} are "
                "for the corrector and the model. Move it with setForceGroup()."
            )


def _particles(topology: app.Topology, info: Mapping, atoms: Sequence[int]) -> list[int]:
    """The atoms, then the link atoms, in the mixed System."""
    places = info["oldToNew"]
    added = sorted(set(range(info["topology"].getNumAtoms())) - set(places))
    if len(added) != len(find_link_bonds(topology, atoms)):
        raise ValueError(
            "The embedding saturates cut bonds without link atoms of their own, so this model does not know where they are. "
            "Use embedding='mechanical', or a k-step model."
        )
    return [places[i] for i in atoms] + added


def _hold_together(topology: app.Topology, system: openmm.System, places: Mapping[int, int]) -> None:
    """Bonds without strength, where only bonds tell OpenMM which atoms are one molecule.

    openmm-ml takes the bonds of the region away, and a PythonForce brings none: a barostat would scale a molecule like a
    gas of atoms, and enforcePeriodicBox would tear it apart.
    """
    if region_forces(system):
        return
    bonds = openmm.HarmonicBondForce()
    for bond in topology.bonds():
        i, j = bond.atom1.index, bond.atom2.index
        if i in places and j in places:
            bonds.addBond(places[i], places[j], 0.1 * unit.nanometer, 0.0)
    bonds.setName("BondsOfTheRegion")
    bonds.setUsesPeriodicBoundaryConditions(system.usesPeriodicBoundaryConditions())
    if bonds.getNumBonds():
        system.addForce(bonds)
