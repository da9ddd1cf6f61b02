"""XtbForce as a part of OpenMM: caching, updates, failures, memory, threads, molecules."""

import numpy as np
import openmm
import pytest
from conftest import CHARGES, energy_forces, energy_of, make_context, make_xtb, run_python
from openmm import unit

import openmmkstep


def test_same_positions_need_no_new_scf():
    """At a loose accuracy every SCF ends in another place: equal bits mean that none was run."""
    force, x = make_xtb("formaldehyde", "GFN2-xTB", CHARGES, accuracy=1000)
    context = make_context(force, 8, [*x, (3, 3, 3)])  # the last particle is not part of the force
    first = energy_forces(context)
    moved = np.vstack([x, [[2, 2, 2]]])
    for positions in (None, moved, moved + 0.0):
        if positions is not None:
            context.setPositions(positions)
        for again in (energy_forces(context), (energy_of(context), first[1])):
            assert again[0] == first[0]
            np.testing.assert_array_equal(again[1], first[1])
    force.updateParametersInContext(context)  # the same parameters, but the result must not be kept
    assert energy_of(context) != first[0]


@pytest.mark.parametrize("which", ["QM", "charge"])
def test_any_changed_position_is_noticed(which):
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    context = make_context(force, 6, x)
    first, forces = energy_forces(context)
    atom = 1 if which == "QM" else 4
    x[atom, 2] += 1e-6
    context.setPositions(x)
    # The energy follows its slope. SCF errors: 1e-8 kJ/mol; the second order: 0.5*4e5*(1e-6)^2 = 2e-7.
    assert abs(forces[atom, 2]) > 3
    assert energy_of(context) - first == pytest.approx(-1e-6 * forces[atom, 2], abs=4e-7)


def test_update_parameters_in_context():
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES, [-0.8, 0.5, 0.3])
    context = make_context(force, 6, x)
    before = energy_of(context)
    force.setEmbeddingChargeParameters(1, 4, 0.25, 10)
    force.setFixedCharge(2, 0.6 * unit.elementary_charge)
    assert energy_of(context) == before
    force.updateParametersInContext(context)
    other = [CHARGES[0], (0.25, CHARGES[1][1]), CHARGES[2]]
    fresh, _ = make_xtb("bent water", "GFN2-xTB", other, [-0.8, 0.5, 0.6])
    expected, forces = energy_forces(make_context(fresh, 6, x))
    energy, forces2 = energy_forces(context)
    assert abs(energy - before) > 1
    # Warm against cold start at accuracy 0.01.
    assert energy == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(forces2, forces, atol=2e-3, rtol=0)


@pytest.mark.parametrize("change", ["particle", "element", "count"])
def test_update_refuses_what_it_cannot_change(change):
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    x = np.vstack([x, [[0.4, 0.5, 0.6]]])
    context = make_context(force, 7, x)
    before = energy_of(context)
    if change == "particle":
        force.setEmbeddingChargeParameters(0, 6, 0.5, 10)
    elif change == "element":
        force.setEmbeddingChargeParameters(0, 3, 0.5, 8)
    else:
        force.addEmbeddingCharge(6, 0.1)
    with pytest.raises(openmm.OpenMMException, match="reinitialize the Context"):
        force.updateParametersInContext(context)
    assert energy_of(context) == pytest.approx(before, abs=1e-6)
    context.reinitialize()
    context.setPositions(x)
    assert np.isfinite(energy_of(context))


def test_settings_reach_libxtb():
    """Electronic temperature and accuracy change the result."""
    energies = []
    for temperature in (300, 6000):
        force, x = make_xtb("formaldehyde", "GFN2-xTB")
        force.setElectronicTemperature(temperature * unit.kelvin)
        energies.append(energy_of(make_context(force, 4, x)))
    assert energies[1] < energies[0] - 0.1  # smearing lowers the free energy
    exact, loose = (
        energy_of(make_context(make_xtb("formaldehyde", "GFN2-xTB", accuracy=a)[0], 4, x)) for a in (0.001, 1000)
    )
    assert 1e-7 < abs(exact - loose) < 1


def test_spin_matters():
    energies = []
    for multiplicity in (1, 3):
        force = openmmkstep.XtbForce("GFN2-xTB", [0], [8], 0, multiplicity)
        energies.append(energy_of(make_context(force, 1, [(0, 0, 0)])))
    assert abs(energies[0] - energies[1]) > 1


VIOLENT = {
    "two atoms in one place": [[0, 0, 0], [0.09, 0.03, 0], [0.09, 0.03, 0]],
    "atoms nearly in one place": [[0, 0, 0], [0.09, 0.03, 0], [0.09, 0.03, 1e-5]],
    "all atoms in 0.001 nm": [[0, 0, 0], [0.0005, 0, 0], [0, 0.0005, 0]],
}


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
@pytest.mark.parametrize("case", VIOLENT)
def test_violent_geometry(case, method):
    """Either a finite energy or an exception that says what failed; good positions work as before afterwards."""
    force, x = make_xtb("bent water", method, CHARGES)
    expected, forces = energy_forces(make_context(force, 6, x))
    force, _ = make_xtb("bent water", method, CHARGES)
    context = make_context(force, 6, x)
    for start in ("warm", "cold after a failure"):
        if start == "warm":
            energy_of(context)
        bad = x.copy()
        bad[:3] = VIOLENT[case]
        context.setPositions(bad)
        try:
            assert np.isfinite(energy_of(context))
        except openmm.OpenMMException as e:
            assert "XtbForce: " in str(e) and "at the current positions" in str(e)
        context.setPositions(x)
        energy, forces2 = energy_forces(context)
        assert energy == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(forces2, forces, atol=2e-3, rtol=0)


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
def test_scf_failure_and_recovery(method):
    """Two iterations are too few for any SCF. The failure stays one, and says what to do."""
    force, x = make_xtb("formaldehyde", method, CHARGES, accuracy=0.2)
    force.setMaxIterations(2)
    context = make_context(force, 7, x)
    for _ in range(3):
        with pytest.raises(
            openmm.OpenMMException, match=r"(?s)failed at the current positions.*setMaxIterations"
        ) as info:
            energy_of(context)
        assert "converge" in str(info.value)
    force.setMaxIterations(250)
    context.reinitialize()
    context.setPositions(x)
    expected, _ = make_xtb("formaldehyde", method, CHARGES, accuracy=0.2)
    # Two cold starts of one input.
    assert energy_of(context) == pytest.approx(energy_of(make_context(expected, 7, x)), abs=1e-6)


def test_gfnff_keeps_its_topology_after_a_failure():
    """GFN-FF's potential depends on the geometry it was set up with; a cold restart must not change it."""
    force, x = make_xtb("ethylene", "GFN-FF")
    context = make_context(force, len(x), x)
    energy_of(context)
    distorted = x.copy()
    distorted[2, 2] += 0.06  # a C-H bond that a set-up at this geometry would not see
    context.setPositions(distorted)
    expected = energy_of(context)
    force, _ = make_xtb("ethylene", "GFN-FF")
    assert abs(energy_of(make_context(force, len(x), distorted)) - expected) > 10  # the test has something to find
    collapsed = x.copy()
    collapsed[1] = collapsed[0]
    context.setPositions(collapsed)
    with pytest.raises(openmm.OpenMMException):
        energy_of(context)
    context.setPositions(distorted)
    assert energy_of(context) == pytest.approx(expected, abs=1e-6)


def test_nan_positions():
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES)
    context = make_context(force, 6, x)
    expected = energy_of(context)
    for atom in (1, 4):
        bad = x.copy()
        bad[atom, 1] = np.nan
        context.setPositions(bad)
        with pytest.raises(openmm.OpenMMException, match=f"position of particle {atom} is NaN"):
            energy_of(context)
        context.setPositions(x)
        assert energy_of(context) == pytest.approx(expected, abs=1e-6)


def test_charge_on_top_of_a_qm_atom():
    force, x = make_xtb("bent water", "GFN2-xTB", CHARGES, [-0.8, 0.5, 0.3])
    context = make_context(force, 6, x)
    expected = energy_of(context)
    bad = x.copy()
    bad[4] = x[1] + [0, 0, 5e-4]
    context.setPositions(bad)
    with pytest.raises(openmm.OpenMMException, match="less than 0.001 nm away from particle 1"):
        energy_of(context)
    context.setPositions(x)
    assert energy_of(context) == pytest.approx(expected, abs=1e-6)


BAD_ARGUMENTS = [
    (("GFN3", [0], [2]), {}, "expected the method"),
    (("GFN2-xTB", [0, 1], [2]), {}, "one atomic number for each particle"),
    (("GFN2-xTB", [0], [0]), {}, "from 1 to 86"),
    (("GFN2-xTB", [0], [87]), {}, "from 1 to 86"),
    (("GFN2-xTB", [], []), {}, "at least one particle"),
    (("GFN2-xTB", [1, 1], [1, 1]), {}, "occurs twice"),
    (("GFN2-xTB", [0], [2]), {"multiplicity": 0}, "at least 1"),
]


@pytest.mark.parametrize("args, kwargs, message", BAD_ARGUMENTS)
def test_bad_arguments(args, kwargs, message):
    with pytest.raises(openmm.OpenMMException, match=message):
        openmmkstep.XtbForce(*args, **kwargs)


@pytest.mark.parametrize(
    "number, kwargs, message",
    [
        (1, {}, "1 electrons .* cannot have multiplicity 1"),
        (2, {"charge": 1}, "1 electrons .* cannot have multiplicity 1"),
        (2, {"multiplicity": 2}, "cannot have multiplicity 2"),
        (2, {"multiplicity": 5}, "cannot have multiplicity 5"),
    ],
)
def test_wrong_multiplicity(number, kwargs, message):
    """Known when the link atoms are: at the creation of a Context."""
    with pytest.raises(openmm.OpenMMException, match=message):
        make_context(openmmkstep.XtbForce("GFN2-xTB", [0], [number], **kwargs), 1)


def test_bad_settings():
    force, _ = make_xtb("water", "GFN2-xTB")
    for set_value in (force.setAccuracy, force.setElectronicTemperature, force.setMaxIterations, force.setNumThreads):
        with pytest.raises(openmm.OpenMMException, match="must be"):
            set_value(0)
    for number in (0, 87, 99):
        with pytest.raises(openmm.OpenMMException, match="hardness element"):
            force.addEmbeddingCharge(5, 0.1, number)
    for index in (-1, 3):
        with pytest.raises(openmm.OpenMMException):
            force.setFixedCharge(index, 0.1)
    with pytest.raises(openmm.OpenMMException):
        force.getEmbeddingChargeParameters(0)


@pytest.mark.parametrize(
    "particles, charge, message",
    [
        ([0, 9], None, "particle 9, but the System has 4"),
        ([0, 1], 7, "on particle 7, but the System has 4"),
        ([0, 1], 1, "belongs to the QM region"),
    ],
)
def test_bad_particles(particles, charge, message):
    force = openmmkstep.XtbForce("GFN2-xTB", particles, [1, 1])
    if charge is not None:
        force.addEmbeddingCharge(charge, 0.1)
    with pytest.raises(openmm.OpenMMException, match=message):
        make_context(force, 4)


def test_gfnff_has_no_charges():
    force, _ = make_xtb("water", "GFN-FF", CHARGES)
    with pytest.raises(openmm.OpenMMException, match="GFN-FF cannot be embedded"):
        make_context(force, 6)


GFNFF = """
import os, sys, openmm, openmmkstep
os.chdir(sys.argv[1])
print("before", flush=True)
for i in range(2):
    system = openmm.System()
    for _ in range(3):
        system.addParticle(1)
    system.addForce(openmmkstep.XtbForce("GFN-FF", range(3), [8, 1, 1]))
    context = openmm.Context(system, openmm.VerletIntegrator(1e-5), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([(0, 0, 0), (0.09, 0.03, 0.01), (-0.03, 0.09, 0.0)])
    context.getIntegrator().step(3)
    print("between", flush=True)
"""


def test_gfnff_leaves_nothing_behind(tmp_path):
    """GFN-FF writes files and prints, partly at exit from the Fortran library's buffers: the user sees nothing of it."""
    (tmp_path / "tmp").mkdir()
    result = run_python(GFNFF, {"TMPDIR": str(tmp_path / "tmp")}, [str(tmp_path)])
    assert (result.returncode, result.stdout, result.stderr) == (0, "before\nbetween\nbetween\n", "")
    assert [file.name for file in tmp_path.rglob("*")] == ["tmp"]
    result = run_python(GFNFF, {"TMPDIR": str(tmp_path / "none")}, [str(tmp_path)])
    assert f"XtbForce: no temporary folder for GFN-FF can be made in {tmp_path / 'none'}.  Set TMPDIR" in result.stderr


@pytest.mark.parametrize("fails", [False, True])
def test_muted(fails, capfd):
    force, x = make_xtb("formaldehyde", "GFN2-xTB", CHARGES)
    if fails:
        force.setMaxIterations(2)
    try:
        energy_of(make_context(force, 7, x))
        assert not fails
    except openmm.OpenMMException:
        assert fails
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
