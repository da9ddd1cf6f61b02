"""What a QM/MM System is made of, in words and numbers, and how its embedding converges with the cutoff."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from .._units import CHARGE, NANOMETER, strip
from ..forces import KStepModelForce, XtbForce, cast
from ._geometry import minimum_image, positions_array
from ._parts import find_corrector, find_nonbonded, particle_charges
from .box import box_vectors, half_width, region_radius
from .cuts import Cut, cutWarnings
from .terms import CORRECTOR_GROUP, MODEL_GROUP

_ADVISED_CUTOFF = 1.0  # nm
_FRACTIONAL = 0.01  # e
_TIMED_CALLS = 3
_SMALL_STEP = 1e-4  # nm


class ConvergencePoint(NamedTuple):
    """The embedding at one cutoff.

    Attributes
    ----------
    cutoff : float
        r_off (nm)
    energy : float
        of the XtbForce (kJ/mol)
    forces : ndarray
        of the XtbForce, shape (particles, 3) (kJ/mol/nm)
    """

    cutoff: float
    energy: float
    forces: np.ndarray


def describe(topology: app.Topology, system: openmm.System, positions=None) -> str:
    """Describe a QM/MM System: regions, cuts, charges, groups, radii, warnings, and what a step will cost.

    Parameters
    ----------
    topology : Topology
        of the system
    system : System
        what createQMMMSystem() returned
    positions : array or Quantity, optional
        of all particles (nm). With them the text says how much of the surroundings the QM region sees, and what xTB, the
        model and the rest cost on this machine (on the CPU platform with its default threads)

    Returns
    -------
    str
        some lines of text

    Raises
    ------
    ValueError
        If the System has no XtbForce.
    """
    xtb = find_corrector(system)
    charges = particle_charges(find_nonbonded(system))
    x = None if positions is None else positions_array(positions, system.getNumParticles())
    cuts = [
        Cut(qm, mm, strip(r, NANOMETER)) for qm, mm, r in map(xtb.getLinkAtomParameters, range(xtb.getNumLinkAtoms()))
    ]
    lines = [*_region_lines(topology, system, xtb, cuts), *_charge_lines(xtb, charges)]
    lines += _embedding_lines(system, xtb, charges, x)
    warnings = cutWarnings(topology, xtb.getParticles(), cuts) + _warnings(system, xtb, charges, x)
    if x is not None:
        lines += _cost_lines(system, x)
    return "\n".join([*lines, *(f"Warning: {sentence}" for sentence in warnings)])


def embeddingConvergence(system: openmm.System, positions, cutoffs: Iterable) -> list[ConvergencePoint]:
    """Compute the XtbForce with other cutoffs of its embedding, at one structure.

    Since the long range is the force field's, what a cutoff leaves out is the difference between xTB and fixed charges:
    some kJ/mol at 0.8 nm for a neutral molecule in water, more for an ion. The energies of many frames tell the error of
    a cutoff; the switching width stays that of the System.

    Parameters
    ----------
    system : System
        what createQMMMSystem() returned, with a cutoff
    positions : array or Quantity
        of all particles (nm)
    cutoffs : iterable of float or Quantity
        values of r_off (nm)

    Returns
    -------
    list of ConvergencePoint

    Raises
    ------
    ValueError
        If the System has no XtbForce, or one without a cutoff.
    OpenMMException
        If the box is too small for a cutoff.
    """
    xtb = find_corrector(system)
    off, on = (strip(r, NANOMETER) for r in (xtb.getCutoffDistance(), xtb.getSwitchingDistance()))
    if off == 0:
        raise ValueError("Expected a QM/MM System with a cutoff of the embedding; this one embeds in all charges.")
    points = []
    for cutoff in (strip(r, NANOMETER) for r in cutoffs):
        alone = openmm.System()
        for i in range(system.getNumParticles()):
            alone.addParticle(system.getParticleMass(i))
        alone.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
        force = cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(xtb)))
        force.setCutoffDistance(cutoff)
        force.setSwitchingDistance(max(0.0, cutoff - (off - on)))
        alone.addForce(force)
        context = openmm.Context(alone, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(positions)
        state = context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        points.append(ConvergencePoint(cutoff, state.getPotentialEnergy()._value, np.array(forces)))
    return points


def _model(system: openmm.System) -> KStepModelForce | None:
    return next((f for f in map(cast, system.getForces()) if isinstance(f, KStepModelForce)), None)


def _engine(xtb: XtbForce) -> str:
    try:
        engine = xtb.findEngine()
    except openmm.OpenMMException:
        return "no engine (python -m openmmkstep says what is found)"
    return f"{engine} {XtbForce.getEngineInfo(engine)[0]}".rstrip()


def _name(atom: app.topology.Atom) -> str:
    return f"{atom.name} of {atom.residue.name} {atom.residue.id} (atom {atom.index})"


def _region_lines(topology: app.Topology, system: openmm.System, xtb: XtbForce, cuts: Sequence[Cut]) -> list[str]:
    atoms = list(topology.atoms())
    residues: dict[str, int] = {}
    for i in xtb.getParticles():
        residue = f"{atoms[i].residue.name} {atoms[i].residue.id}"
        residues[residue] = residues.get(residue, 0) + 1
    listed = ", ".join(f"{name} ({n})" for name, n in residues.items())
    lines = [
        f"QM region: {xtb.getNumParticles()} of {system.getNumParticles()} particles, {xtb.getMethod()} by "
        f"{_engine(xtb)}, charge {xtb.getCharge()}, multiplicity {xtb.getMultiplicity()}",
        f"  residues (QM atoms): {listed}",
        f"  model: {'yes' if _model(system) is not None else 'none; every step asks xTB'}",
        f"Cut bonds: {len(cuts) or 'none'}",
    ]
    return lines + [
        f"  {_name(atoms[c.qm])} - {_name(atoms[c.mm])}, link hydrogen at {c.distance:.3f} nm from the QM atom"
        for c in cuts
    ]


def _charge_lines(xtb: XtbForce, charges: Sequence[float]) -> list[str]:
    fixed = [xtb.getFixedCharge(a).value_in_unit(CHARGE) for a in range(xtb.getNumParticles())]
    held = [charges[i] for i in xtb.getParticles()]
    lines = [
        f"Fixed charges of the QM atoms: from {min(held):.3f} to {max(held):.3f} e, sum {sum(held):.4f} e; whole system "
        f"{sum(charges):.4f} e"
    ]
    hosts = {xtb.getLinkAtomParameters(i)[1]: 0.0 for i in range(xtb.getNumLinkAtoms())}
    for particles, _, charge, _ in map(xtb.getVirtualChargeParameters, range(xtb.getNumVirtualCharges())):
        if len(particles) == 1 and particles[0] in hosts:
            hosts[particles[0]] -= charge.value_in_unit(CHARGE)
    if xtb.getNumVirtualCharges():
        listed = ", ".join(f"{q:.4f} e from atom {i}" for i, q in hosts.items())
        lines.append(f"Charges moved away from MM hosts, as xTB sees them: {listed}")
    if any(fixed) and abs(sum(fixed) - xtb.getCharge()) > _FRACTIONAL:
        lines.append("  these fixed charges do not add up to the charge of the QM region")
    return lines


def _embedding_lines(system: openmm.System, xtb: XtbForce, charges: Sequence[float], x) -> list[str]:
    if xtb.getNumEmbeddingCharges() == 0:
        held = any(charges[i] for i in xtb.getParticles())
        return [f"Embedding: {'mechanical' if held else 'none: the QM atoms hold no charges'}"]
    periodic = xtb.usesPeriodicBoundaryConditions()
    off, on = (strip(r, NANOMETER) for r in (xtb.getCutoffDistance(), xtb.getSwitchingDistance()))
    where = f"switched off from {on:.2f} to {off:.2f} nm" if off else "all of them, at any distance"
    lines = [
        f"Embedding: electrostatic, {'periodic' if periodic else 'not periodic'}, {xtb.getNumEmbeddingCharges()} charges, "
        f"{where}"
    ]
    groups = _groups(xtb)
    if groups:
        always = sum(not switched for _, _, switched in groups)
        lines.append(
            f"  groups (molecules, ions, residues): {len(groups)}, of which {always} at the cuts are always seen"
        )
    if x is not None:
        vectors = box_vectors(system) if periodic else None
        lines.append(f"  radius of the QM region: {region_radius(x[xtb.getParticles()], vectors):.2f} nm")
        if periodic:
            lines.append(
                f"  half of the box: {half_width(vectors):.2f} nm, {_spare_room(xtb, x, vectors):.2f} nm more than needed"
            )
        if off:
            factors = _switching_factors(xtb, groups, x, vectors)
            seen = sum(len(g[0]) for g, s in zip(groups, factors, strict=True) if s > 0)
            lines.append(
                f"  seen now: {np.sum(factors == 1)} groups in full, {np.sum((factors > 0) & (factors < 1))} in part, "
                f"{seen} particles in all"
            )
    return lines


def _groups(xtb: XtbForce) -> list[tuple[list[int], int, bool]]:
    return [xtb.getEmbeddingGroupParameters(i) for i in range(xtb.getNumEmbeddingGroups())]


def _spare_room(xtb: XtbForce, x: np.ndarray, vectors: np.ndarray) -> float:
    """What half of the box has beyond cutoff and QM region (nm)."""
    return (
        half_width(vectors) - region_radius(x[xtb.getParticles()], vectors) - strip(xtb.getCutoffDistance(), NANOMETER)
    )


def _switching_factors(xtb: XtbForce, groups, x: np.ndarray, vectors: np.ndarray | None) -> np.ndarray:
    """S_g of each group, as setCutoffDistance() defines it."""
    off, on = (strip(r, NANOMETER) for r in (xtb.getCutoffDistance(), xtb.getSwitchingDistance()))
    qm = x[xtb.getParticles()]
    factors = []
    for particles, center, switched in groups:
        if not switched:
            factors.append(1.0)
            continue
        first = x[particles[0]]
        point = x[center] if center >= 0 else first + minimum_image(x[particles] - first, vectors).mean(axis=0)
        t = np.clip((np.linalg.norm(minimum_image(qm - point, vectors), axis=1) - on) / (off - on), 0, 1)
        factors.append(1 - np.prod(t**3 * (10 - 15 * t + 6 * t**2)))
    return np.array(factors)


def _warnings(system: openmm.System, xtb: XtbForce, charges: Sequence[float], x) -> list[str]:
    sentences = []
    off = strip(xtb.getCutoffDistance(), NANOMETER)
    if 0 < off < _ADVISED_CUTOFF:
        sentences.append(
            f"The embedding ends at {off:.2f} nm; below {_ADVISED_CUTOFF:g} nm the forces on first-shell waters are off by "
            "more than 2 kJ/mol/nm. embeddingConvergence() tells."
        )
    if off and xtb.getCharge() != 0:
        sentences.append(
            f"The QM region has the charge {xtb.getCharge()} e: what the cutoff leaves out is larger than for a neutral one. "
            "See embeddingConvergence(), and use a larger cutoff if the box allows it."
        )
    totals = [sum(charges[i] for i in particles) for particles, _, switched in _groups(xtb) if switched]
    fractional = sum(abs(q - round(q)) > _FRACTIONAL for q in totals)
    if fractional:
        sentences.append(
            f"{fractional} groups that are switched have no integer charge; energies near the cutoff depend on it. Residues "
            "with such charges should be part of larger ones in the topology."
        )
    if x is not None and xtb.usesPeriodicBoundaryConditions():
        vectors = box_vectors(system)
        spare = _spare_room(xtb, x, vectors)
        if spare < 0.05 * half_width(vectors):
            sentences.append(
                f"The box has only {spare:.2f} nm to spare; a barostat or a change of the QM region's shape may use it up."
            )
    return sentences


def _cost_lines(system: openmm.System, x: np.ndarray) -> list[str]:
    """Times of the parts, each at positions that change a little from call to call as in dynamics."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU"))
    corrector, model = 1 << CORRECTOR_GROUP, 1 << MODEL_GROUP
    parts = {"xTB": corrector, "model": model, "rest": 0xFFFFFFFF & ~(corrector | model)}
    if _model(system) is None:
        del parts["model"]
    rng = np.random.default_rng(1)
    times = {}
    for name, mask in parts.items():
        for call in range(_TIMED_CALLS + 2):  # the first ones are slower: a cold start, and torch's compilation
            context.setPositions(x + _SMALL_STEP * rng.uniform(-1, 1, x.shape))
            context.computeVirtualSites()
            start = time.perf_counter()
            context.getState(forces=True, groups=mask)
            if call == 1:
                total = 0.0
            elif call > 1:
                total += time.perf_counter() - start
        times[name] = 1e3 * total / _TIMED_CALLS
    listed = ", ".join(f"{name} {t:.2f} ms" for name, t in times.items())
    lines = [f"Cost of one evaluation here: {listed}; a step on xTB alone takes {times['xTB'] + times['rest']:.1f} ms"]
    if "model" in times:
        plain = times["xTB"] + times["rest"]
        ratios = (plain / (times["xTB"] / k + times["model"] + times["rest"]) for k in (4, 64))
        lines.append("  so k = 4 can be {:.1f} times and k = 64 {:.0f} times faster than that".format(*ratios))
    return lines
