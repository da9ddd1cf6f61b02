"""KStep's scheme 'jump' is the same map as KStepIntegrator's."""

import pytest
from tethered import DT, QM, V0, exact, make_context, make_jump, tethered_system

pytest.importorskip("ase", reason="ASE is not installed; pip install 'openmmkstep[ase]'")

from ase import units
from ase.constraints import FixAtoms
from ase_systems import assert_same_state, tethered_atoms

from openmmkstep.ase import JumpModel, KStep, OpenMMCalculator

FS = units.fs


@pytest.mark.parametrize("mobile", [(0, 1, 2, 3), (0, 3)])
@pytest.mark.parametrize("k", [2, 5])
def test_jump_is_the_same_map(tmp_path, mobile, k):
    system = tethered_system(mobile=mobile)
    context = make_context(system, make_jump(exact(tmp_path, k), k), v=V0 * [[i in mobile] for i in range(4)])
    context.getIntegrator().step(20)
    atoms = tethered_atoms()
    atoms.set_constraint(FixAtoms([i for i in range(4) if i not in mobile]))
    dynamics = KStep(
        atoms,
        FS,
        k,
        "jump",
        model=exact(tmp_path, k),
        selection=QM,
        common=OpenMMCalculator(system, [0]),
        corrector=OpenMMCalculator(system, [1]),
        friction=0.0,
        allow_jump_without_thermostat=True,
    )
    dynamics.run(20)
    assert_same_state(atoms, context, 1e-9)
    assert dynamics.get_time() == pytest.approx(20 * k * FS)


def test_jump_model_is_given_the_true_forces(tmp_path):
    import jumps

    path = tmp_path / "forces.pt"
    jumps.write_jump(path, jumps.ShowsForces(1e-7, 1e-5), 2, 3, DT)
    system = tethered_system()
    context = make_context(system, make_jump(path, 4))
    context.getIntegrator().step(5)
    atoms = tethered_atoms()
    calculators = {n: OpenMMCalculator(system, [g]) for n, g in (("common", 0), ("corrector", 1))}
    options = {"friction": 0.0, "allow_jump_without_thermostat": True}
    KStep(atoms, FS, 4, "jump", model=JumpModel(path), selection=QM, **calculators, **options).run(5)
    assert_same_state(atoms, context, 1e-9)
