"""Settings of KStepIntegrator, with and without units, and bad values of all classes."""

import openmm
import pytest
from conftest import make_context
from openmm import unit
from test_integrator_python import K, fs, metropolis, oscillator, ps

from openmmkstep import KStepIntegrator, XtbForce, cast

SETTINGS = [
    ("BaseStepSize", 0.25 * fs, 0.00025),
    ("StepSize", 8 * fs, 0.008),
    ("Temperature", 250 * K, 250),
    ("Friction", 0.5 / ps, 0.5),
    ("Friction", 0.002 / fs, 2),
    ("ConstraintTolerance", 1e-7, 1e-7),
    ("K", 8, 8),
    ("RandomNumberSeed", 7, 7),
    ("CorrectorForceGroup", 3, 3),
    ("ModelForceGroup", 4, 4),
    ("ExtraChances", 2, 2),
]


@pytest.mark.parametrize("name, value, number", SETTINGS)
def test_settings_and_units(name, value, number):
    integrator = metropolis()
    set_value, get = getattr(integrator, "set" + name), getattr(integrator, "get" + name)
    for given in (value, number):
        set_value(given)
        assert (
            get() == value
            if not unit.is_quantity(value)
            else get().value_in_unit_system(unit.md_unit_system) == pytest.approx(number)
        )
    assert unit.is_quantity(get()) == unit.is_quantity(value)
    other = cast(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(integrator)))
    assert getattr(other, "get" + name)() == get()


def test_defaults():
    integrator = KStepIntegrator(0.0005, 4)
    assert integrator.getScheme() == "impulse"
    assert integrator.getStepSize() == 0.002 * ps and integrator.getBaseStepSize() == 0.0005 * ps
    assert integrator.getFriction() == 0 / ps and integrator.getTemperature() == 0 * K
    assert (integrator.getCorrectorForceGroup(), integrator.getModelForceGroup(), integrator.getExtraChances()) == (
        1,
        2,
        4,
    )
    assert KStepIntegrator(0.0005, 4, "metropolis", 300).getFriction() == 1 / ps
    assert integrator.getIntegrationForceGroups() & 0b111 == 0b011


WRONG_DIMENSIONS = [
    lambda: KStepIntegrator(300 * K, 4),
    lambda: KStepIntegrator(0.5 * fs, 4, "metropolis", 1 * fs),
    lambda: KStepIntegrator(0.5 * fs, 4, "metropolis", 300 * K, 1 * ps),
    lambda: KStepIntegrator(0.5 * fs, 4).setBaseStepSize(1 * unit.nanometer),
    lambda: metropolis().setTemperature(1 * ps),
    lambda: metropolis().setFriction(1 * ps),
    lambda: metropolis().stepTo(1 * K),
    lambda: KStepIntegrator(0.5 * fs, 2.5),
    lambda: XtbForce("GFN2-xTB", [0], [2]).setElectronicTemperature(1 * ps),
    lambda: XtbForce("GFN2-xTB", [0], [2]).addEmbeddingCharge(1, 1 * K),
    lambda: XtbForce("GFN2-xTB", [0], [2]).setFixedCharge(0, 1 * K),
    lambda: XtbForce("GFN2-xTB", [0], [2], charge=1 * K),
]


@pytest.mark.parametrize("call", WRONG_DIMENSIONS)
def test_wrong_dimension(call):
    with pytest.raises(TypeError):
        call()


BAD_VALUES = [
    (lambda: KStepIntegrator(0, 4), "base step size must be a positive number"),
    (lambda: KStepIntegrator(float("nan"), 4), "base step size must be a positive number"),
    (lambda: KStepIntegrator(0.0005, 0), "k .* of at least 1, found 0"),
    (
        lambda: KStepIntegrator(0.0005, 4, "leapfrog"),
        "expected the scheme 'impulse', 'metropolis', 'reweight' or 'jump', found 'leapfrog'",
    ),
    (lambda: KStepIntegrator(0.0005, 4, "jump"), "a positive temperature is required"),
    (lambda: KStepIntegrator(0.0005, 4, "metropolis"), "samples at a temperature"),
    (lambda: KStepIntegrator(0.0005, 4, "metropolis", 300, 0), "needs friction"),
    (lambda: KStepIntegrator(0.0005, 4, "impulse", None, 1), "a positive temperature is required"),
    (lambda: KStepIntegrator(0.0005, 4, "impulse", 300, -1), "friction must not be negative"),
    (lambda: KStepIntegrator(0.0005, 4, "impulse", -300), "temperature must be"),
    (lambda: metropolis().setExtraChances(0), "at least 1; found 0"),
    (lambda: metropolis().setModelForceGroup(32), "0 to 31"),
    (lambda: metropolis().setCorrectorForceGroup(-1), "0 to 31"),
    (lambda: XtbForce("GFN2-xTB", [0], [2], charge=0.5), "charge of the QM region must be a whole number, found 0.5"),
    (lambda: oscillator(KStepIntegrator(0.0005, 4, "metropolis", 300), model=False), "needs a model"),
    (lambda: make_context([], 1, integrator=KStepIntegrator(0.0005, 4)), "no Force in the corrector's force group .1."),
]


@pytest.mark.parametrize("call, message", BAD_VALUES)
def test_bad_values(call, message):
    with pytest.raises((openmm.OpenMMException, ValueError), match=message):
        call()
