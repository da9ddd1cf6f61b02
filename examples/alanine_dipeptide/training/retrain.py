"""Make the model of the droplet from nothing: sample, label, train, sample with the model, train again.

Two hours on two cores with the defaults. Every stage writes a file; one that is there is not made again, so an
interrupted run continues where it was. The new model is written to FOLDER/model.pt and replaces nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

# Number: temperature (K), start (phi, psi), sweep or None. The hot ones see conformations and stretched bonds that
# 300 K seldom does; the sweeps drag phi or psi through a full turn.
XTB_RUNS = {
    1: (450, (-75, -40), None),
    2: (300, (-70, 145), None),
    3: (450, (-80, -180), (-80, 180)),
    4: (300, (-75, -40), None),
    5: (450, (55, 45), None),
    11: (450, (-140, 150), None),
    12: (300, (-145, 155), None),
    13: (450, (-180, 30), (180, 30)),
}
MODEL_RUNS = {
    301: (450, (-75, -40), None),
    302: (300, (-70, 145), None),
    303: (450, (-140, 150), None),
    304: (300, (-75, -40), None),
    305: (450, (55, 45), None),
    306: (450, (-100, 180), (-100, -180)),
    311: (300, (-145, 155), None),
    312: (450, (-180, -40), (180, -40)),
    313: (300, (55, 45), None),
    314: (450, (60, 180), (60, -180)),
    315: (300, (-90, 60), None),
    321: (300, (-70, 145), None),
    322: (450, (-180, 150), (180, 150)),
    323: (300, (-75, -40), None),
    324: (450, (-80, 60), None),
}
ACTIVE_RUNS = {
    501: (450, (-75, -40), None),
    502: (300, (-70, 145), None),
    503: (400, (-140, 150), None),
    504: (550, (-75, -40), None),
    511: (400, (55, 45), None),
    512: (300, (-145, 155), None),
    513: (550, (-140, 150), None),
    514: (300, (-75, -40), None),
}
HELD_OUT = {201: (300, (-75, -40), None), 202: (300, (-70, 145), None)}


class Recipe:
    """Runs the stages in a folder, several programs at a time, each on one thread."""

    def __init__(self, folder: Path, scale: float, processes: int):
        self.folder, self.scale, self.processes = folder, scale, processes
        folder.mkdir(parents=True, exist_ok=True)

    def program(self, name: str, *arguments) -> None:
        """Run one of the scripts; its output goes to a log beside its result."""
        command = [sys.executable, "-m", f"alanine_dipeptide.training.{name}", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(self.folder / "log.txt", "a") as log:
            result = subprocess.run(
                command, cwd=Path(__file__).parents[2], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        if result.returncode != 0:
            raise RuntimeError(f"'{' '.join(command)}' failed; see the end of {self.folder / 'log.txt'}.")

    def stage(self, title: str, jobs: dict[Path, tuple]) -> None:
        """Run the jobs (output file -> program and arguments) whose output is missing."""
        missing = [job for output, job in jobs.items() if not output.exists()]
        with ThreadPoolExecutor(self.processes) as pool:
            list(tqdm(pool.map(lambda job: self.program(*job), missing), desc=title, total=len(missing)))

    def sample(self, title: str, prefix: str, runs: dict, picoseconds: float, model: Path | None = None) -> list[Path]:
        jobs = {}
        for number, (temperature, start, sweep) in runs.items():
            output = self.folder / f"{prefix}{number}.npz"
            job = ["sample", "--output", output, "--trajectory", number, "--seed", number]
            job += ["--temperature", temperature, "--start", *start, "--picoseconds", picoseconds * self.scale]
            job += ["--pull", 10 * self.scale, "--discard", min(1.0, 10 * self.scale)]
            job += ["--sweep", *sweep] if sweep else []
            job += ["--model", model, "--stride", 20] if model else []
            jobs[output] = tuple(job)
        self.stage(title, jobs)
        return list(jobs)

    def augment(self, kind: str, sources: list[Path], count: int) -> list[Path]:
        jobs = {}
        for source in sources:
            output = source.with_name(f"{kind}-{source.name}")
            jobs[output] = ("augment", kind, source, output, "--count", max(2, round(count * self.scale)))
        self.stage(f"{kind} labels", jobs)
        return list(jobs)

    def train(self, name: str, data: list[Path], steps: int, *options) -> Path:
        output = self.folder / name
        job = ["train", "--data", *data, "--held-out", *HELD_OUT, "--steps", max(2, round(steps * self.scale))]
        self.stage(f"training {name}", {output.with_suffix(".json"): (*job, "--output", output, *options)})
        return output

    def run(self) -> Path:
        xtb = self.sample("xTB-driven sampling", "x", XTB_RUNS, 24)
        data = xtb + self.augment("gas", xtb, 700)
        held_out = self.sample("held-out trajectories", "h", HELD_OUT, 8)
        first = self.train("first.pt", data + held_out, 12000, "--batch", 128)
        driven = self.sample("model-driven sampling", "n", MODEL_RUNS, 24, first)
        data += driven + self.augment("gas", driven, 400) + self.augment("swap", driven, 600)
        second = self.train("second.pt", data + held_out, 22000, "--batch", 128)
        active = self.sample("active learning", "a", ACTIVE_RUNS, 20, second)
        data += active + self.augment("swap", active, 500)
        options = ("--batch", 128, "--start", second, "--rate", 1.5e-3, "--energy-weight", 1.0)
        return self.train("model.pt", data + held_out, 34000, *options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("retrain"), help="where data, models and logs go")
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks trajectories and training, for a quick try")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    model = Recipe(args.folder.resolve(), args.scale, args.processes).run()
    print(f"New model: {model}; what it reached is in {model.with_suffix('.json')}")


if __name__ == "__main__":
    main()
