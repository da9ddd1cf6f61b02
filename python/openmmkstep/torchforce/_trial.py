"""A TorchForce of a spring, run as a script of its own: where openmm-torch does not fit, the process may crash."""

import torch  # isort: split

import openmm
import openmmtorch


class Spring(torch.nn.Module):
    def forward(self, positions: torch.Tensor):
        return 0.5 * (positions * positions).sum()


system = openmm.System()
system.addParticle(1.0)
system.addForce(openmmtorch.TorchForce(torch.jit.script(Spring())))
integrator = openmm.VerletIntegrator(0.001)
context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
context.setPositions([[1.0, 2.0, 3.0]])
state = context.getState(energy=True, forces=True)
assert abs(state.getPotentialEnergy()._value - 7.0) < 1e-12
assert list(state.getForces()._value[0]) == [-1.0, -2.0, -3.0]
print("works")
