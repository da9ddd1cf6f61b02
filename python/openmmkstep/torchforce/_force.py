"""A k-step model as a TorchForce: created, put in the place of a KStepModelForce, or added to a System."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import openmm
from openmm import app

from ..contract import ModelContract, check_archive, is_native, readContract
from ..forces import KStepModelForce, XtbForce, cast
from ..qmmm.cuts import Cut
from ..qmmm.model import check_model, match_model
from ..qmmm.terms import CORRECTOR_GROUP, MODEL_GROUP
from ..region_force import QMRegionForce
from ._probe import load_openmmtorch

_NATIVE = (
    "The model is an AOTInductor package, which a TorchForce cannot run; use the TorchScript file that it was made of."
)


def createTorchForce(
    model: str | os.PathLike | bytes, region: QMRegionForce, order: Sequence[int] | None = None
) -> openmm.Force:
    """Make a TorchForce of openmm-torch that evaluates a k-step model as a KStepModelForce does.

    U = U_model(x_QM, phi) - k_e sum_j S_g(j) sum_a C_aj / R_aj, with link atoms, switching and periodic images as in
    KStepModelForce, in double precision whatever the platform's. All charges are copied now. It differs from
    KStepModelForce in what a TorchForce cannot do: it adds its energy also where the corrector's group is evaluated, does
    not watch the region of validity in the model's contract, and uses as many threads as ``torch.set_num_threads()`` says.

    Parameters
    ----------
    model : str, path or bytes
        a TorchScript model file, see saveModel(), or what is in it
    region : XtbForce or KStepModelForce
        says which particles are the QM region, and has its link atoms and charges
    order : sequence of int, optional
        atom i of the model is atom order[i] of the region, link atoms last. Default: the same order

    Returns
    -------
    openmmtorch.TorchForce
        in the force group of ``region`` if that is a KStepModelForce, else in group 2

    Raises
    ------
    ImportError
        If openmm-torch is missing or does not work here, see probeOpenMMTorch().
    ValueError
        If the file is no TorchScript potential with a contract, or its contract does not fit the region.
    """
    openmmtorch = load_openmmtorch()
    force = openmmtorch.TorchForce(create_module(model, region, order))
    force.setName("TorchForce")
    force.setForceGroup(region.getForceGroup() if isinstance(region, KStepModelForce) else MODEL_GROUP)
    force.setUsesPeriodicBoundaryConditions(region.usesPeriodicBoundaryConditions())
    return force


def create_module(model: str | os.PathLike | bytes, region: QMRegionForce, order: Sequence[int] | None):
    """The TorchScript module of createTorchForce(): positions (N, 3) and, if periodic, box vectors (3, 3) to energy."""
    import torch

    from . import _embedding
    from ._region import read_region

    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    check_archive(data)
    if is_native(data):
        raise ValueError(_NATIVE)
    contract = readContract(data)
    num_links = region.getNumLinkAtoms()
    num = region.getNumParticles() + num_links
    order = list(range(num)) if order is None else [int(i) for i in order]
    _check_order(order, num, num_links)
    _check_contract(contract, region, order)
    script = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    kinds = {
        (False, 1): _embedding.EnergyOnly,
        (True, 1): _embedding.EnergyOnlyOfPhi,
        (False, 2): _embedding.EnergyForces,
        (True, 3): _embedding.EnergyForcesCharges,
    }
    kind = kinds["phi" in contract.inputs, len(contract.outputs)]
    try:
        adapter = torch.jit.script(kind(script))
    except RuntimeError as e:
        raise ValueError(
            f"The model does not take {contract.inputs} or does not return {contract.outputs}, as its contract says: "
            f"{str(e).strip().splitlines()[0]}"
        ) from e
    module = torch.jit.script(_embedding.EmbeddedModel(adapter, read_region(region, contract, order)).eval())
    if torch.cuda.is_available():
        return module  # its tensors must be buffers, which openmm-torch moves to the GPU
    # openmm-torch freezes it, and a frozen module that raises can crash the process unless it was written and read again.
    return reloaded(torch.jit.freeze(module))


def reloaded(module):
    """What is read again after a module was written."""
    import torch

    data = io.BytesIO()
    torch.jit.save(module, data)
    return torch.jit.load(io.BytesIO(data.getvalue()))


def replaceModelForce(system: openmm.System) -> openmm.Force:
    """Put a TorchForce in the place of the KStepModelForce in a System, with the same model and in the same force group.

    The System is changed, not copied: copies and XML of a TorchForce crash with OpenMM 8.6 (see docs/openmm-torch.md).
    The energy of all force groups then counts the QM region twice; ask for
    ``groups=integrator.getIntegrationForceGroups()`` of a KStepIntegrator.

    Returns
    -------
    openmmtorch.TorchForce
        a view of the force in the System

    Raises
    ------
    ImportError, ValueError
        As createTorchForce(); also if the System has no KStepModelForce or several. The System is then unchanged.
    """
    held = [(i, f) for i, f in enumerate(map(cast, system.getForces())) if isinstance(f, KStepModelForce)]
    if len(held) != 1:
        raise ValueError(
            f"Expected a System with one KStepModelForce, found {len(held)}. createQMMMSystem(model=...) makes one; see "
            "addTorchForce() for a System without."
        )
    index, force = held[0]
    corrector = force.getCorrectorForceGroup()
    order = list(range(force.getNumParticles() + force.getNumLinkAtoms()))
    contract = readContract(force.getModelData())
    for xtb in map(cast, system.getForces()):
        if isinstance(xtb, XtbForce) and xtb.getForceGroup() == corrector:
            _check_corrector(contract, force, xtb, order)
    replacement = createTorchForce(force.getModelData(), force)
    system.removeForce(index)
    system.addForce(replacement)
    return replacement


def addTorchForce(
    system: openmm.System, topology: app.Topology, model: str | os.PathLike, positions=None
) -> openmm.Force:
    """Add a k-step model as a TorchForce to a System that createQMMMSystem() made without a model.

    Needs nothing of openmmkstep's own torch library, which may be built for another torch.

    Parameters
    ----------
    system : System
        with an XtbForce; it is changed
    topology : Topology
        of the whole system
    model : str or path
        a TorchScript model file; its atoms are found by matchModel(), as in createQMMMSystem()
    positions : array or Quantity, optional
        of all particles (nm), to tell equal atoms apart

    Returns
    -------
    openmmtorch.TorchForce
        in force group 2, a view of the force in the System

    Raises
    ------
    ImportError, ValueError
        As createTorchForce(); also if the System has no XtbForce or several, holds a model already, or the model is of
        another molecule, charge or hardness element. The System is then unchanged.
    """
    forces = list(map(cast, system.getForces()))
    held = [f for f in forces if isinstance(f, XtbForce) and f.getForceGroup() == CORRECTOR_GROUP]
    if len(held) != 1:
        raise ValueError(
            f"Expected a System with one XtbForce in group {CORRECTOR_GROUP}, found {len(held)}; createQMMMSystem() makes one."
        )
    if any(f.getForceGroup() == MODEL_GROUP for f in forces):
        raise ValueError(
            f"Expected a System without a force in the model's group ({MODEL_GROUP}), found one; use replaceModelForce()."
        )
    xtb = held[0]
    hardness = xtb.getEmbeddingChargeParameters(0)[2] if xtb.getNumEmbeddingCharges() else None
    contract = check_model(model, xtb.getCharge(), xtb.getMultiplicity(), hardness)
    particles = xtb.getParticles()
    cuts = [Cut(*xtb.getLinkAtomParameters(i)) for i in range(xtb.getNumLinkAtoms())]
    box = system.getDefaultPeriodicBoxVectors() if system.usesPeriodicBoundaryConditions() else None
    matched = match_model(model, contract, topology, particles, cuts, positions, box)
    order = [particles.index(i) for i in matched.particles]
    order += [len(particles) + cuts.index(cut) for cut in matched.cuts]
    force = createTorchForce(model, xtb, order)
    system.addForce(force)
    return force


def _check_order(order: list[int], num: int, num_links: int) -> None:
    particles = num - num_links
    if sorted(order[:particles]) != list(range(particles)) or sorted(order[particles:]) != list(range(particles, num)):
        raise ValueError(
            f"Expected an order of the {particles} particles of the region and then of its {num_links} link atoms, found {order}."
        )


def _check_contract(contract: ModelContract, region: QMRegionForce, order: Sequence[int]) -> None:
    """What a KStepModelForce checks when a Context is created."""
    if contract.kind != "potential":
        raise ValueError(f"Expected a model of kind 'potential', found {contract.kind!r}.")
    if len(contract.species) != len(order):
        raise ValueError(
            f"The model is for {len(contract.species)} atoms, but the QM region has {len(order)}, link atoms included. "
            "Use a model that was trained for this molecule."
        )
    charges = [region.getEmbeddingChargeParameters(i)[2] for i in range(region.getNumEmbeddingCharges())]
    charges += [region.getVirtualChargeParameters(i)[3] for i in range(region.getNumVirtualCharges())]
    if "phi" in contract.inputs and any(number != contract.hardnessElement for number in charges):
        raise ValueError(
            f"The model was trained with hardness element {contract.hardnessElement} for the embedding charges, found "
            f"{sorted(set(charges))}."
        )
    if isinstance(region, XtbForce):
        _check_corrector(contract, region, region, order)
    elif "phi" not in contract.inputs and charges:
        raise ValueError(
            f"The model takes no potential (phi) input, so it cannot see the {len(charges)} embedding charges of this force."
        )


def _check_corrector(contract: ModelContract, region: QMRegionForce, xtb: XtbForce, order: Sequence[int]) -> None:
    number_of = dict(zip(xtb.getParticles(), xtb.getAtomicNumbers(), strict=True))
    particles = region.getParticles()
    if set(particles) != set(number_of) or _links(region) != _links(xtb):
        raise ValueError("The model and the XtbForce act on different particles, or have different link atoms.")
    numbers = [number_of[particles[a]] for a in order[: len(particles)]] + [1] * region.getNumLinkAtoms()
    if tuple(numbers) != contract.species:
        raise ValueError(
            f"Expected a model for the elements {numbers} (link hydrogens last), found one for {list(contract.species)}. Give "
            "the particles in the order of the model's atoms; createQMMMSystem() and addTorchForce() find it."
        )
    if (xtb.getCharge(), xtb.getMultiplicity()) != (contract.charge, contract.multiplicity):
        raise ValueError(
            f"Expected a model for charge {xtb.getCharge()} and multiplicity {xtb.getMultiplicity()}, found one for "
            f"{contract.charge} and {contract.multiplicity}."
        )


def _links(force: QMRegionForce) -> list[tuple]:
    links = [force.getLinkAtomParameters(i) for i in range(force.getNumLinkAtoms())]
    return sorted((qm, mm, d._value) for qm, mm, d in links)
