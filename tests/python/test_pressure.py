"""A Monte Carlo barostat beside xTB: an ideal gas of atoms and one QM molecule, whose volume is known exactly."""

import numpy as np
import openmm
import pytest
from conftest import KT_300, make_xtb
from openmm import unit

from openmmkstep import KStepIntegrator, XtbForce

ATOMS = 15
BAR = 0.060221408  # kJ/mol/nm^3
PRESSURE = 250.0  # bar


def gas() -> tuple[openmm.System, np.ndarray]:
    """Free atoms and a water molecule by GFN2-xTB, with GFN-FF as its model."""
    xtb, x = make_xtb("water", "GFN2-xTB", accuracy=1.0)
    xtb.setForceGroup(1)
    model = XtbForce("GFN-FF", range(3), [8, 1, 1])
    model.setForceGroup(2)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors((1.4, 0, 0), (0, 1.4, 0), (0, 0, 1.4))
    for mass in [16.0, 3.0, 3.0] + ATOMS * [20.0]:
        system.addParticle(mass)
    # What makes the System periodic, as a barostat demands, and does nothing else.
    nothing = openmm.CustomNonbondedForce("0*r")
    nothing.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    nothing.setCutoffDistance(0.1)
    for _ in range(system.getNumParticles()):
        nothing.addParticle()
    barostat = openmm.MonteCarloBarostat(PRESSURE * unit.bar, 300 * unit.kelvin, 1)
    barostat.setRandomNumberSeed(3)
    for force in (xtb, model, nothing, barostat):
        system.addForce(force)
    return system, np.vstack([x + 0.5, np.random.default_rng(1).uniform(0, 1.4, (ATOMS, 3))])


@pytest.mark.parametrize(("scheme", "k"), [("impulse", 2), ("metropolis", 6)])
def test_mean_volume(scheme, k):
    """p(V) is V^N exp(-PV/kT) for N molecules: the mean volume is (N + 1) kT/P, within 4 standard errors of 3 %.

    Were the QM atoms scaled one by one, or the energy of a trial wrong by the internal energy of the molecule, N would be
    another, or the bonds would be strained by every trial.
    """
    system, x = gas()
    integrator = KStepIntegrator(0.001, k, scheme, 300, 5)
    integrator.setRandomNumberSeed(4)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    context.setVelocitiesToTemperature(300, 5)
    integrator.step(500)
    volumes, bonds = [], []
    for _ in range(4000):
        integrator.step(1)
        state = context.getState(positions=True)
        volumes.append(state.getPeriodicBoxVolume()._value)
        x = state.getPositions(asNumpy=True)._value
        bonds.append(np.linalg.norm(x[1] - x[0]))
    expected = (ATOMS + 2) * KT_300 / (BAR * PRESSURE)
    error = np.std([block.mean() for block in np.array_split(volumes, 20)]) / np.sqrt(20)
    assert error < 0.03 * expected
    assert np.mean(volumes) == pytest.approx(expected, abs=4 * error)
    # GFN2's O-H in water; the spread is that of 300 K.
    assert np.mean(bonds) == pytest.approx(0.0965, abs=0.001)
    assert np.std(bonds) < 0.004
    if scheme == "metropolis":
        statistics = integrator.getStatistics()
        # One call for each test and for each accepted change of the box or rejected trial that xTB has forgotten.
        assert statistics["correctorCalls"] <= 2 * statistics["chances"] + 1
