"""Units at the border between Python and C++: quantities in, quantities out. All conversions of the package are here."""

from __future__ import annotations

from openmm import unit

PICOSECOND = unit.picosecond
NANOMETER = unit.nanometer
PER_PICOSECOND = unit.picosecond**-1
KELVIN = unit.kelvin
RADIAN = unit.radian
CHARGE = unit.elementary_charge
CHARGE_PRODUCT = unit.elementary_charge**2
ENERGY = unit.kilojoule_per_mole

GAS_CONSTANT = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)
"""R in kJ/(mol K)."""
COULOMB_CONSTANT = 138.93545764438198
"""1/(4 pi eps0) in kJ nm/(mol e^2); OpenMM's own value."""
NM_PER_BOHR = 0.0529177210903
"""CODATA 2018."""


def strip(value, default_unit) -> float:
    """The number behind a quantity in the given unit; a plain number is taken to be in that unit already.

    Raises
    ------
    TypeError
        If the quantity is of another dimension.
    """
    if unit.is_quantity(value):
        return float(value.value_in_unit(default_unit))
    return float(value)
