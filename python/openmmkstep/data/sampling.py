"""sampleFrames: from a System to a dataset of labelled frames."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

from .._units import KELVIN, NANOMETER, PICOSECOND, strip
from ..covalent import findBrokenBonds
from ..matching import matchModel
from ..qmmm.model import check_model
from .bias import Bias, UmbrellaWindows
from .cluster import run_parallel, run_serial
from .damping import findDampingLengths
from .dataset import Dataset, write_atomically
from .driver import TIME_STEP
from .labels import Labeller
from .plan import Plan, read_progress
from .provenance import findProvenance, systemDigest
from .region import Region, findXtbForce
from .torsions import findRotatableTorsions
from .walker import TURN

_WALKERS = 8
_INTERVALS = {False: 0.02, True: 0.04}
"""ps between frames, by whether a model drives; its steps cost less than a label."""
_RUNS = "walkers"
_FAULTS = 0.1
"""Share of frames after a fault that a user should hear of."""
_REACTED = 0.02
"""Share of frames with a broken bond that a user should hear of."""


class SamplingWarning(UserWarning):
    """The sampled frames are right, but there is something to know about them."""


def sampleFrames(
    system: openmm.System,
    positions,
    folder: str | os.PathLike,
    *,
    topology: app.Topology | None = None,
    temperatures: Sequence = (300, 500),
    picoseconds=20,
    walkers: int | None = None,
    interval=None,
    equilibration=1.0,
    gas: float = 0.3,
    model: str | os.PathLike | None = None,
    bias: Bias | None = None,
    sweep: bool = True,
    seed: int = 1,
    cluster=None,
    platform: str = "CPU",
    block: int = 100,
    progress: bool = True,
) -> Dataset:
    """Sample a QM/MM System and label frames of it with xTB, for training a model.

    Several walkers move by Langevin dynamics, steps of 2 fs with hydrogens of 3 u in a copy of the System; the QM region
    has the temperature of the walker, everything else 300 K at most. xTB drives them, which costs a call a step, or a
    model, which costs one a frame. A model's fault (numbers that are not finite, a structure outside its region of
    validity, a D that is 40 kJ/mol from its median) ends a stretch: the frames that led there are labelled too, and the
    walker goes on from an earlier one. Every other walker of each temperature drags one rotatable bond after the other
    through a full turn in 10 ps, so that barriers are seen; that bias is not in the labels.

    A walker's frames depend on its number, the seed and the other arguments alone. It writes its frames block by block
    with what it needs to go on: call this again with the same arguments after an interruption, or with more picoseconds.
    With other arguments, such as a model that was trained meanwhile, new walkers add to the dataset.

    Parameters
    ----------
    system : System
        made by createQMMMSystem(), or with an XtbForce of one's own; it is not changed. Barostats are left out
    positions : array of shape (particles, 3) or (starts, particles, 3), or Quantity
        where to start, relaxed (nm); of several starts each walker takes one, in turn
    folder : str or path
        the dataset, by convention ``*.kstep``; made if there is none
    topology : Topology, optional
        says what is bonded, and has the periodic box; else bonds are found by distance, and the box is the System's
    temperatures : sequence of float or Quantity
        of the QM region (K), in turn for the walkers
    picoseconds : float or Quantity
        length of each walker's run, after its equilibration
    walkers : int, optional
        how many; by default 8, or one for each umbrella window and temperature
    interval : float or Quantity, optional
        time between frames (ps); by default 0.02, or 0.04 with a model
    equilibration : float or Quantity
        time before a walker's first frame (ps)
    gas : float
        share of the frames (0-1) that are also labelled without surroundings
    model : str or path, optional
        file of a model that drives the walkers
    bias : UmbrellaWindows or Metadynamics, optional
        the dataset gets the columns ``cv`` and ``window``; no torsions are dragged then
    sweep : bool
        whether to drag torsions
    seed : int
        of all that is random
    cluster : None, str or dask.distributed.Client
        None: workers on this machine, one a core. 'serial': in this process. Or the address of a dask scheduler, or a
        Client; its workers must see ``folder`` (and ``model``) under the same path
    platform : str
        'CPU' or 'Reference', of the dynamics; on Reference results are the same bit for bit however they are run
    block : int
        frames a block: what a kill can cost each walker
    progress : bool
        show a progress bar

    Returns
    -------
    Dataset

    Raises
    ------
    ImportError
        If h5py or, for parallel runs, dask.distributed is missing.
    OpenMMException
        If xTB or OpenMM cannot evaluate the start, or the model does not fit the System.
    RuntimeError
        If a walker cannot get away from faults.
    ValueError
        If arguments make no sense, the dataset is of another region, or the model of another molecule.
    """
    region = Region.fromSystem(system, topology, _first(positions))
    starts = _starts(positions, system.getNumParticles())
    box = _box(system, topology)
    temperatures = [strip(t, KELVIN) for t in temperatures]
    interval = _INTERVALS[model is not None] if interval is None else strip(interval, PICOSECOND)
    windows = len(bias.centres) if isinstance(bias, UmbrellaWindows) else 1
    if walkers is None:
        walkers = windows * len(temperatures) if windows > 1 else _WALKERS
    steps, frames = round(interval / TIME_STEP), round(strip(picoseconds, PICOSECOND) / interval)
    equilibration = max(0, round(strip(equilibration, PICOSECOND) / TIME_STEP))
    _check(temperatures, walkers, windows, steps, frames, gas, block, platform)
    damping = findDampingLengths(region.species, region.method) if region.hardnessElement is not None else ()
    torsions, order = (), ()
    if (sweep and bias is None) or model is not None:
        xtb = findXtbForce(system)
        molecule = Labeller(xtb, system.getNumParticles(), damping).label(starts[0], box)[0].positions
        if sweep and bias is None:
            torsions = _rotatable(region, molecule)
        if model is not None:
            contract = check_model(model, region.charge, region.multiplicity, region.hardnessElement)
            order = matchModel(contract, region.species, region.bonds, molecule, numLinkAtoms=xtb.getNumLinkAtoms())
            model = str(Path(model).resolve())
    settings = {
        "system": systemDigest(system),
        "positions": hashlib.sha256(starts.tobytes()).hexdigest(),
        "box": None if box is None else box.tolist(),
        "temperatures": temperatures,
        "walkers": walkers,
        "steps": steps,
        "equilibration": equilibration,
        "gas": gas,
        "model": None if model is None else hashlib.sha256(Path(model).read_bytes()).hexdigest(),
        "bias": repr(bias),
        "torsions": [list(t) for t in torsions],
        "seed": seed,
        "block": block,
        "platform": platform,
    }
    dataset = Dataset.openOrCreate(
        folder,
        region,
        lambda: {**findProvenance(system), "seed": seed, "dampingLengths": [float(d) for d in damping]},
    )
    first = _first_walker(dataset, settings)
    xml = openmm.XmlSerializer.serialize(system)
    sweeping = [i for i in range(walkers) if torsions and i // len(temperatures) % 2 == 1]
    turns = max(1, int(frames * steps * TIME_STEP / TURN))
    plans = []
    for i in range(walkers):
        dragged = _rotate(torsions, sweeping.index(i) * turns) if i in sweeping else ()
        # With windows each of them has all temperatures.
        temperature = temperatures[i // windows % len(temperatures)]
        plans.append(
            Plan(
                number=first + i,
                seed=seed,
                system=xml,
                positions=starts[i % len(starts)],
                box=box,
                dampingLengths=tuple(damping),
                temperature=temperature,
                frames=frames,
                interval=steps,
                equilibration=equilibration,
                gas=gas,
                block=block,
                model=model,
                order=tuple(order),
                bias=bias,
                window=i % windows,
                sweep=dragged,
                platform=platform,
            )
        )
    _run(plans, dataset, cluster, progress)
    if bias is None:
        _warn_of_reactions(region, dataset)
    return dataset


def _run(plans: list[Plan], dataset: Dataset, cluster, progress: bool) -> None:
    """Run what is not finished, with a progress bar over all walkers."""
    done = {plan.number: min(read_progress(dataset.folder, plan.number)[0], plan.frames) for plan in plans}
    unfinished = [plan for plan in plans if done[plan.number] < plan.frames]
    if not unfinished:
        return
    with tqdm(total=sum(p.frames for p in plans), unit="frame", desc="Sampling", disable=not progress) as bar:
        bar.update(sum(done.values()))

        def report(number: int, frames: int) -> None:
            frames = min(frames, plans[0].frames)
            bar.update(max(0, frames - done[number]))
            done[number] = max(done[number], frames)

        if cluster == "serial":
            run_serial(unfinished, dataset.folder, report)
        else:
            run_parallel(unfinished, dataset.folder.resolve(), cluster, report)
    faults = sum(read_progress(dataset.folder, plan.number)[1] for plan in plans)
    frames = sum(plan.frames for plan in plans)
    if faults > max(2, _FAULTS * frames):
        warnings.warn(
            f"The model that drove the walkers failed {faults} times in {frames} frames, so many of these are near each "
            "other and near its faults. Train it with them, then sample again.",
            SamplingWarning,
            stacklevel=3,
        )


def _warn_of_reactions(region: Region, dataset: Dataset) -> None:
    """Where a molecule has become another one in the sampling, a model of both is a poor one, and maybe nobody knows."""
    broken = findBrokenBonds(region.species, region.bonds, dataset.read().positions)
    often = {pair: share for pair, share in broken.items() if share > _REACTED}
    if often:
        names = [f"{app.Element.getByAtomicNumber(z).symbol}{i}" for i, z in enumerate(region.species)]
        list_of_bonds = ", ".join(f"{names[a]}-{names[b]} in {100 * s:.0f} %" for (a, b), s in often.items())
        warnings.warn(
            f"The molecule reacts: of the frames in '{dataset.folder}', bonds of the QM region are broken ({list_of_bonds}). It "
            f"may not be stable by {region.method} at these temperatures, such as a zwitterion that gives a proton away, or the "
            "start was strained. Look at the frames; choose another protonation, method, temperature or start, or sample the "
            "reaction on purpose with a bias.",
            SamplingWarning,
            stacklevel=3,
        )


def _first_walker(dataset: Dataset, settings: dict) -> int:
    """The number of the first walker with these settings, if they were used before, or of the next free one."""
    folder = dataset.folder / _RUNS
    folder.mkdir(exist_ok=True)
    settings = json.loads(json.dumps(settings))
    free, number = 0, 0
    for path in sorted(folder.glob("run-*.json")):
        try:
            run = json.loads(path.read_text())
            if run["settings"] == settings:
                return run["first"]
            free, number = max(free, run["first"] + run["settings"]["walkers"]), number + 1
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(
                f"The record '{path}' of an earlier sampling is damaged ({e}). Sample into another folder; the frames in this one "
                "stay readable."
            ) from e
    free = max(free, dataset.nextWalker)
    record = {"first": free, "settings": settings, "provenance": findProvenance()}
    write_atomically(folder / f"run-{number:03d}.json", (json.dumps(record, indent=1) + "\n").encode())
    return free


def _check(
    temperatures, walkers: int, windows: int, steps: int, frames: int, gas: float, block: int, platform: str
) -> None:
    coldest = min(temperatures, default=0)
    problems = (
        (coldest <= 0, f"temperatures must be positive (K), found {temperatures}"),
        (walkers < 1, f"at least one walker is needed, found {walkers}"),
        (walkers < windows, f"at least {windows} walkers are needed, one for each window, found {walkers}"),
        (steps < 1, f"the interval between frames must be at least {TIME_STEP} ps"),
        (frames < 1, "the run must be at least as long as the interval between frames"),
        (not 0 <= gas <= 1, f"the share of gas-phase frames is from 0 to 1, found {gas}"),
        (block < 1, f"a block has at least one frame, found {block}"),
        (platform not in ("CPU", "Reference"), f"the platform is 'CPU' or 'Reference', found '{platform}'"),
    )
    for wrong, sentence in problems:
        if wrong:
            raise ValueError(f"sampleFrames: {sentence}.")


def _first(positions):
    """The first of several starts."""
    x = positions.value_in_unit(NANOMETER) if unit.is_quantity(positions) else positions
    x = np.array(x, dtype=float)
    return x[0] if x.ndim == 3 and len(x) else x


def _starts(positions, particles: int) -> np.ndarray:
    x = positions.value_in_unit(NANOMETER) if unit.is_quantity(positions) else positions
    x = np.array(x, dtype=float)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[1:] != (particles, 3) or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            f"sampleFrames: expected finite positions of the shape ({particles}, 3) or (starts, {particles}, 3), found "
            f"{x.shape[1:] if x.ndim == 3 and len(x) == 1 else x.shape}."
        )
    return x


def _box(system: openmm.System, topology: app.Topology | None) -> np.ndarray | None:
    if not system.usesPeriodicBoundaryConditions():
        return None
    vectors = topology.getPeriodicBoxVectors() if topology is not None else None
    if vectors is None:
        vectors = system.getDefaultPeriodicBoxVectors()
    return np.array([[c for c in v.value_in_unit(NANOMETER)] for v in vectors])


def _rotatable(region: Region, molecule: np.ndarray) -> tuple[tuple[int, int, int, int], ...]:
    """The torsions to drag, as particles of the System; one with a link atom at its end cannot be."""
    n = len(region.particles)
    torsions = findRotatableTorsions(region, molecule)
    return tuple(tuple(region.particles[i] for i in t) for t in torsions if max(t) < n)


def _rotate(items: tuple, by: int) -> tuple:
    by %= len(items)
    return items[by:] + items[:by]
