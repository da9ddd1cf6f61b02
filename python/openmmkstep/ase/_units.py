"""OpenMM's units in ASE's (eV, Angstrom, u)."""

from ase import units

KJ_PER_MOL = units.kJ / units.mol
NANOMETER = units.nm
PICOSECOND = 1000 * units.fs
FORCE = KJ_PER_MOL / NANOMETER
VELOCITY = NANOMETER / PICOSECOND
