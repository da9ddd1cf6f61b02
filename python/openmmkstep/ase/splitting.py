"""ASE's QM/MM calculators in two parts: what a model shares with the corrector, and what differs."""

from __future__ import annotations

import copy

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.qmmm import EIQMMM, SimpleQMMM


class _Nothing(Calculator):
    """No energy, no forces, and nothing felt from point charges."""

    implemented_properties = ["energy", "forces"]
    name = "nothing"

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}

    def embed(self, charges=None, **parameters) -> _NoPointCharges:
        return _NoPointCharges(0 if charges is None else len(charges))


class _NoPointCharges:
    def __init__(self, num: int):
        self.num = num

    def set_positions(self, positions, com_pv=None) -> None:
        pass

    def set_charges(self, charges) -> None:
        pass

    def get_forces(self, calc) -> np.ndarray:
        return np.zeros((self.num, 3))


class _ChargesOf:
    """An MM calculator of which only the charges are left."""

    def __init__(self, calc: Calculator):
        self._calc = calc

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "_calc":
            raise AttributeError(name)
        return getattr(self._calc, name)

    def get_potential_energy(self, atoms=None, **options) -> float:
        return 0.0

    def get_forces(self, atoms) -> np.ndarray:
        return np.zeros((len(atoms), 3))


class _NoInteraction:
    name = "nothing"

    def calculate(self, qmatoms, mmatoms, shift):
        return 0.0, np.zeros((len(qmatoms), 3)), np.zeros((len(mmatoms), 3))


def split_qmmm(qmmm: SimpleQMMM | EIQMMM) -> tuple[Calculator, Calculator]:
    """Split one of ASE's QM/MM calculators into its classical and its quantum part.

    With KStep the classical part is common to corrector and model, so that it is computed once an inner step::

        common, corrector = split_qmmm(EIQMMM(selection, XtbForceCalculator(), mm, interaction))
        _, model = split_qmmm(EIQMMM(selection, KStepModelCalculator("model.pt"), mm, interaction))

    Parameters
    ----------
    qmmm : SimpleQMMM or EIQMMM
        not used yet, and not to be used afterwards: its parts share calculators with the result

    Returns
    -------
    common : Calculator
        SimpleQMMM: E_MM(all) - E_MM(QM). EIQMMM: E_MM(MM) and the interaction
    qm : Calculator
        E_QM; for EIQMMM in the field of the MM charges, with the forces on them

    Raises
    ------
    TypeError
        For any other calculator.
    """
    if type(qmmm) is SimpleQMMM:
        common = SimpleQMMM(qmmm.selection, _Nothing(), qmmm.mmcalc1, qmmm.mmcalc2)
        return common, SimpleQMMM(qmmm.selection, qmmm.qmcalc, _Nothing(), _Nothing(), vacuum=qmmm.vacuum)
    if type(qmmm) is EIQMMM:
        selection, vacuum = qmmm.selection, qmmm.vacuum
        embeddings = copy.copy(qmmm.embedding), copy.copy(qmmm.embedding)
        common = EIQMMM(selection, _Nothing(), qmmm.mmcalc, qmmm.interaction, vacuum, embeddings[0])
        charges = _ChargesOf(qmmm.mmcalc)
        qm = EIQMMM(selection, qmmm.qmcalc, charges, _NoInteraction(), vacuum, embeddings[1], qmmm.output)
        qm.whole = qmmm  # which closes its log file when it goes
        return common, qm
    raise TypeError(
        f"split_qmmm() knows SimpleQMMM and EIQMMM, found {type(qmmm).__name__}; give KStep the parts yourself: common=, "
        "corrector= and model=."
    )
