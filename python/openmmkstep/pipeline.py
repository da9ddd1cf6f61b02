"""makeModel: sample, train, sample with the model, train again, check; one call from a set-up to a checked model."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from openmm import unit

from ._units import NANOMETER
from .data import UmbrellaWindows, sampleFrames
from .data.bias import Bias
from .data.dataset import write_atomically
from .data.driver import TIME_STEP
from .improve import ACTIVE, Improvement, improveModel
from .qmmm.setup_file import QMMMSetup
from .qmmm.terms import CORRECTOR_GROUP
from .training import TrainingResult, trainModel
from .validation import ModelReport, checkModel

DATA, FIRST, IMPROVED, CHECK, RECORD, MODEL = "data.kstep", "first", "improved-{}", "check", "pipeline.json", "model.pt"
_SHARES = {"sample": 0.15, "first": 0.10, "active": 0.27, "train": 0.12, "last": 0.36}
"""Of the time: xTB-driven sampling, the first training, all active sampling, trainings but the last one, the last one."""
_ACTIVE_INTERVAL = 0.04  # ps
_MODEL_SHARE = 0.1
"""What a model call is assumed to cost, as a share of a step by xTB."""
_LEAST = 2.0  # ps of each walker
_WALKERS, _ACTIVE_WALKERS = 8, 16
_RELAXATION, _TIMED = 400, 40  # steps


@dataclass
class MadeModel:
    """What makeModel() returns.

    Attributes
    ----------
    path : Path
        the model
    first : TrainingResult
        the model that the active learning began with
    improvements : list of Improvement
        the rounds of active learning
    report : ModelReport
        the check
    minutes : dict of str to float
        how long each stage took
    """

    path: Path
    first: TrainingResult
    improvements: list[Improvement]
    report: ModelReport
    minutes: dict[str, float]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {m:.1f}" for name, m in self.minutes.items())
        rounds = "\n\n".join(map(str, self.improvements))
        return f"{rounds}\n\n{self.report}\n\nMinutes: {times}\nThe model: {self.path}"


def makeModel(
    setup: QMMMSetup,
    folder: str | os.PathLike,
    *,
    minutes: float = 40,
    rounds: int = 2,
    bias: Bias | None = None,
    seed: int = 1,
    cluster=None,
    workers: int | None = None,
    progress: bool = True,
) -> MadeModel:
    """Make a k-step model of a QM region from nothing.

    Stages, each in the folder: xTB-driven sampling (data.kstep), a first training (first/), sampling with that model,
    labelled by xTB, and another training on everything, in two rounds (improved-1/, improved-2/) whose walkers begin where the
    ones before ended, and checkModel() (check/check.html). The time is divided among the stages by costs that are measured at the start. Called again it goes
    on where it was interrupted.

    Parameters
    ----------
    setup : QMMMSetup
        see readSetup(); its ``options`` override what is chosen here
    folder : str or path
        for everything that is made; model.pt in it is the result
    minutes : float
        time for sampling and training on this machine; the check comes on top
    rounds : int
        of active learning, at least one
    bias : UmbrellaWindows or Metadynamics, optional
        of all walkers, as of sampleFrames(), for the model of a reaction; with windows D is told along their variable
    seed : int
    cluster : None, str or Client
        where walkers run, as of sampleFrames()
    workers : int, optional
        walkers that run at the same time; by default as many as there are cores
    progress : bool

    Returns
    -------
    MadeModel

    Raises
    ------
    ValueError
        If the time is not positive, or the folder was made with other settings.
    """
    if not minutes > 0 or rounds < 1:
        raise ValueError(f"Expected a positive number of minutes and rounds, found {minutes} and {rounds}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"minutes": minutes, "rounds": rounds, "seed": seed}
    record = _Record(folder / RECORD, settings | ({} if bias is None else {"bias": repr(bias)}))
    system = setup.create(None)
    positions = record.keep(folder / "relaxed.npy", lambda: relax(system, setup, seed))
    walkers, check = {"sample": _WALKERS, "active": _ACTIVE_WALKERS}, {}
    if isinstance(bias, UmbrellaWindows):
        # Two in each window, so that a model does not lack a window that is held out.
        walkers, check = dict.fromkeys(walkers, 2 * len(bias.centres)), {"bias": bias}
    lengths = record.value("picoseconds", lambda: _lengths(system, positions, setup, minutes, rounds, workers, walkers))
    common = {"cluster": cluster, "progress": progress, "bias": bias}
    sample, active = (common | {"walkers": n} | setup.options.get("sample", {}) for n in walkers.values())
    train = {"seed": seed, "progress": progress} | setup.options.get("train", {})

    def training(stage: str) -> dict:
        share = _SHARES[stage] / (max(1, rounds - 1) if stage == "train" else 1)
        return train if "steps" in train else {"seconds": 60 * minutes * share} | train

    with record.timed("sample"):
        data = sampleFrames(
            system,
            positions,
            folder / DATA,
            topology=setup.topology,
            **{"seed": seed, "picoseconds": lengths["sample"]} | sample,
        )
    with record.timed("first"):
        first = trainModel(data, folder / FIRST, **training("first"))
    best, collected, improvements = first.path, [data], []
    for round in range(1, rounds + 1):
        own = folder / IMPROVED.format(round)
        with record.timed(f"round {round}"):
            improvement = improveModel(
                system,
                positions,
                best,
                collected,
                own,
                topology=setup.topology,
                picoseconds=active.get("picoseconds", lengths["active"]),
                sample=active,
                train=training("last" if round == rounds else "train"),
                seed=seed + round,
                cluster=cluster,
                progress=progress,
            )
        best, collected = improvement.path, [*collected, own / ACTIVE]
        improvements.append(improvement)
    path = folder / MODEL
    write_atomically(path, best.read_bytes())
    with record.timed("check"):
        report = checkModel(
            system,
            positions,
            path,
            topology=setup.topology,
            folder=folder / CHECK,
            **{"seed": seed, "progress": progress} | check | setup.options.get("check", {}),
        )
    return MadeModel(path, first, improvements, report, record.minutes())


def relax(system: openmm.System, setup: QMMMSetup, seed: int) -> np.ndarray:
    """Take the strain out of a structure by a short, cold Langevin run on the true Hamiltonian.

    Not by LocalEnergyMinimizer, whose first step of 1 nm may tear the QM region apart.

    Returns
    -------
    array of shape (particles, 3)
        nm
    """
    context = _context(system, setup, setup.positions, 0.5 * unit.femtosecond, seed)
    context.getIntegrator().step(_RELAXATION)
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(NANOMETER)


def _lengths(
    system, positions, setup: QMMMSetup, minutes: float, rounds: int, workers: int | None, walkers: dict[str, int]
) -> dict[str, float]:
    """Picoseconds of each walker in both samplings, from what an xTB call and an MM step cost."""
    workers = workers or len(os.sched_getaffinity(0))
    seconds = {name: 60 * minutes * _SHARES[name] * workers / walkers[name] for name in ("sample", "active")}
    seconds["active"] /= rounds
    whole = _seconds_per_step(system, positions, setup, 0xFFFFFFFF)
    rest = _seconds_per_step(system, positions, setup, 0xFFFFFFFF & ~(1 << CORRECTOR_GROUP))
    per_ps = {
        "sample": whole / TIME_STEP,
        "active": (rest + _MODEL_SHARE * whole) / TIME_STEP + whole / _ACTIVE_INTERVAL,
    }
    return {name: max(_LEAST, round(seconds[name] / per_ps[name], 1)) for name in seconds}


def _seconds_per_step(system, positions, setup: QMMMSetup, groups: int) -> float:
    context = _context(system, setup, positions, 0.5 * unit.femtosecond)
    context.getIntegrator().setIntegrationForceGroups(groups)
    context.getIntegrator().step(5)
    begin = time.perf_counter()
    context.getIntegrator().step(_TIMED)
    return (time.perf_counter() - begin) / _TIMED


def _context(system, setup: QMMMSetup, positions, step, seed: int = 1) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(50 * unit.kelvin, 20 / unit.picosecond, step)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    vectors = setup.topology.getPeriodicBoxVectors()
    if vectors is not None and system.usesPeriodicBoundaryConditions():
        context.setPeriodicBoxVectors(*vectors)
    context.setPositions(positions)
    context.applyConstraints(1e-6)
    return context


class _Record:
    """What a run decided and how long its stages took, in a file, so that the next call goes on."""

    def __init__(self, path: Path, settings: dict):
        self.path = path
        self.content = json.loads(path.read_text()) if path.exists() else {"settings": settings, "minutes": {}}
        if self.content["settings"] != settings:
            raise ValueError(
                f"The folder '{path.parent}' was made with {self.content['settings']}, now it is {settings}: use the same, or "
                "another folder."
            )

    def value(self, name: str, make) -> dict:
        """What was decided before, or is now."""
        if name not in self.content:
            self.content[name] = make()
            self._write()
        return self.content[name]

    def keep(self, path: Path, make) -> np.ndarray:
        """An array in a file, made if it is not there."""
        if not path.exists():
            np.save(path, make())
        return np.load(path)

    def timed(self, name: str) -> _Timed:
        return _Timed(self, name)

    def minutes(self) -> dict[str, float]:
        return dict(self.content["minutes"])

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.content, indent=1).encode())


class _Timed:
    """Adds the time inside the block to a stage's, interruptions included."""

    def __init__(self, record: _Record, name: str):
        self.record, self.name = record, name

    def __enter__(self):
        self.begin = time.perf_counter()

    def __exit__(self, *error):
        minutes = self.record.content["minutes"]
        minutes[self.name] = minutes.get(self.name, 0.0) + (time.perf_counter() - self.begin) / 60
        self.record._write()
