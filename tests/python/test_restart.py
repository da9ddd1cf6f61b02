"""Restarts with xTB and a trained model: a continued run is the run that went on, to the last bit."""

import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import run_python

import openmmkstep

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SETTINGS = {
    "impulse": dict(args=(0.0005, 4), steps=3),
    "mollified with friction": dict(args=(0.0005, 8, "impulse", 300, 1), steps=3, mollified=True),
    "adaptive": dict(args=(0.0005, 4, "impulse", 300, 1), steps=12, adaptive=True),
    "metropolis": dict(args=(0.001, 8, "metropolis", 300, 1), steps=4),
    "reweight": dict(args=(0.001, 8, "reweight", 300, 1), steps=4),
    "regions": dict(args=(0.0005, 4, "impulse", 300, 1), steps=3, region=True),
}

BONDS = [(1, 0, 0.109), (6, 7, 0.101)]


def make(name: str, platform: str, seed: int) -> openmm.Context:
    """The demo's droplet under one of the settings, at its start."""
    sys.path.insert(0, str(EXAMPLES))
    from alanine_dipeptide.droplet import Droplet

    droplet = Droplet()
    setting = SETTINGS[name]
    integrator = openmmkstep.KStepIntegrator(*setting["args"])
    integrator.setRandomNumberSeed(seed)
    if setting.get("mollified"):
        integrator.setMollification(BONDS)
        integrator.setAllowResonance(True)  # the other bonds to hydrogen are not reset
    integrator.setAdaptive(bool(setting.get("adaptive")))
    if setting.get("region"):
        integrator.setRegion(range(22), 320, 2, "bussi")
    properties = {"Threads": "1"} if platform == "CPU" else {}
    platform = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(droplet.create_system(with_model=True), integrator, platform, properties)
    context.setPositions(droplet.positions)
    context.setVelocitiesToTemperature(300, seed)
    return context


def state_of(context) -> tuple:
    state = context.getState(positions=True, velocities=True)
    return state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value, state.getTime()._value


CONTINUE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import openmm
import test_restart as t
name, platform, file, output = sys.argv[2:]
context = t.make(name, platform, 99)
context.getIntegrator().step(1)
if file.endswith("xml"):
    context.setState(openmm.XmlSerializer.deserialize(open(file).read()))
else:
    context.loadCheckpoint(open(file, "rb").read())
context.getIntegrator().step(t.SETTINGS[name]["steps"])
x, v, time = t.state_of(context)
np.savez(output, x=x, v=v, time=time)
"""


@pytest.mark.parametrize(
    ("name", "platform"),
    [(name, "Reference") for name in SETTINGS] + [(name, "CPU") for name in ("mollified with friction", "metropolis")],
)
def test_restart_in_another_process(name, platform, tmp_path):
    """Checkpoints on Reference, the XML of States on CPU; xTB's warm start and the model's first calls leave no trace."""
    context = make(name, platform, 5)
    integrator = context.getIntegrator()
    steps = SETTINGS[name]["steps"]
    integrator.step(steps)
    file = tmp_path / ("state.xml" if platform == "CPU" else "state.chk")
    if platform == "CPU":
        state = context.getState(positions=True, velocities=True, parameters=True, integratorParameters=True)
        file.write_text(openmm.XmlSerializer.serialize(state))
    else:
        file.write_bytes(context.createCheckpoint())
    integrator.step(steps)
    x, v, time = state_of(context)
    arguments = [str(Path(__file__).parent), name, platform, str(file), str(tmp_path / "end.npz")]
    result = run_python(CONTINUE, arguments=arguments)
    assert result.returncode == 0, result.stderr
    end = np.load(tmp_path / "end.npz")
    assert end["time"] == time
    np.testing.assert_array_equal(end["x"], x)
    np.testing.assert_array_equal(end["v"], v)
