"""Neither torch nor libxtb may start threads that the user did not ask for."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
import openmm
sys.path.insert(0, sys.argv[1])
from alanine_dipeptide.droplet import Droplet
from openmmkstep import KStepIntegrator
import torch

droplet = Droplet()
integrator = KStepIntegrator(0.0005, 4)
context = openmm.Context(
    droplet.create_system(with_model=True), integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"}
)
context.setPositions(droplet.positions)
torch.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
integrator.step(5)
after = len(os.listdir("/proc/self/task"))
print(before, after, torch.get_num_threads())
"""


def test_one_thread_by_default():
    # 3 is not what torch would choose by itself, so it also shows that the user's choice is given back.
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment["OMP_NUM_THREADS"] = "3"
    examples = Path(__file__).parents[2] / "examples"
    command = [sys.executable, "-c", SCRIPT, str(examples)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, after, torch_threads = map(int, result.stdout.split())
    assert after == before
    assert torch_threads == 3
