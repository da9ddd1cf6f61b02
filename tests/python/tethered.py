"""A System for the scheme 'jump' whose forces are all harmonic: two QM particles with tethers, two others, springs."""

from pathlib import Path

import jumps
import numpy as np
import openmm

from openmmkstep import KStepIntegrator

DT = 0.001
QM, MM = [3, 0], [1, 2]
MASSES = np.array([12.0, 20.0, 3.0, 16.0])
CENTRES = np.array([[0.1, 0, 0], [0.3, 0.1, 0], [0, 0.3, 0.1], [0.1, 0.1, 0.4]])
TETHER = np.array([2.0e4, 3.0e3, 4.0e3, 5.0e4])  # kJ/mol/nm^2: on QM particles the corrector, on the others common
COUPLINGS = [(0, 1, 3.0e3), (1, 2, 1.0e3), (2, 3, 5.0e3), (0, 3, 800.0)]
X0 = CENTRES + 0.02 * np.random.default_rng(1).normal(size=(4, 3))
V0 = 0.7 * np.random.default_rng(2).normal(size=(4, 3))


def tether(particles, group: int) -> openmm.Force:
    force = openmm.CustomExternalForce("0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("k", "x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for i in particles:
        force.addParticle(i, [TETHER[i], *CENTRES[i]])
    force.setForceGroup(group)
    return force


def tethered_system(couplings=COUPLINGS, mobile=(0, 1, 2, 3)) -> openmm.System:
    """QM particles 3 and 0, each with a tether as the corrector; two others; harmonic common forces between all."""
    system = openmm.System()
    for i in range(4):
        system.addParticle(MASSES[i] if i in mobile else 0.0)
    system.addForce(tether(QM, 1))
    system.addForce(tether(MM, 0))
    springs = openmm.CustomBondForce("0.5*k*r^2")
    springs.addPerBondParameter("k")
    for i, j, k in couplings:
        springs.addBond(i, j, [k])
    system.addForce(springs)
    return system


def make_context(system, integrator, x=X0, v=V0, platform="Reference") -> openmm.Context:
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions(x)
    context.setVelocities(v)
    return context


def make_jump(path, k: int, friction=0.0, temperature=300.0, dt=DT, particles=QM) -> KStepIntegrator:
    integrator = KStepIntegrator(dt, k, "jump", temperature, friction)
    integrator.setJumpModel(path, particles)
    integrator.setAllowJumpWithoutThermostat(True)
    integrator.setRandomNumberSeed(3)
    return integrator


def exact_jump(time: float) -> jumps.Oscillators:
    return jumps.Oscillators(CENTRES[QM], np.sqrt(TETHER[QM] / MASSES[QM]), time)


def exact(folder, k: int) -> Path:
    """The file of the exact jump of the tethered QM particles over k-1 base steps."""
    path = folder / f"exact{k}.pt"
    jumps.write_jump(path, exact_jump((k - 1) * DT), 2, k - 1, DT)
    return path


def corrector_forces(x):
    f = np.zeros_like(x)
    f[QM] = (-TETHER[:, None] * (x - CENTRES))[QM]
    return f


def common_forces(x, couplings=COUPLINGS):
    f = np.zeros_like(x)
    f[MM] = (-TETHER[:, None] * (x - CENTRES))[MM]
    for i, j, k in couplings:
        f[i] += k * (x[j] - x[i])
        f[j] += k * (x[i] - x[j])
    return f
