"""Charges at cut bonds: what the QM region sees of the MM host, and the charge that a cut leaves over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from openmm import app

from .cuts import Cut

BOUNDARIES = ("rcd", "charge-shift", "none")
_DIPOLE_ARM = 0.1
"""Distance of the two charges that restore a shifted charge's dipole from M2, in bond lengths of M1-M2."""
_NEGLIGIBLE = 1e-9  # e


class VirtualCharge(NamedTuple):
    """A charge at sum_i weights_i x_i that the QM region sees beside those of the NonbondedForce."""

    particles: list[int]
    weights: list[float]
    charge: float  # e


def check_boundary(boundary: str) -> None:
    """Raise ValueError for an unknown scheme, or one that changes the total charge (Z1, Z2, Z3)."""
    if str(boundary).lower() in ("z1", "z2", "z3"):
        raise ValueError(
            f"The boundary scheme {boundary!r} deletes charges and so changes the total charge, which costs 50 to 200 "
            "kJ/mol in reaction energies. Use 'rcd', 'charge-shift' or 'none'."
        )
    if boundary not in BOUNDARIES:
        raise ValueError(f"Expected one of the boundary schemes {', '.join(BOUNDARIES)}, found {boundary!r}.")


def boundary_charges(
    boundary: str, neighbours: Sequence[Sequence[int]], charges: Sequence[float], qm: set[int], cuts: Sequence[Cut]
) -> list[VirtualCharge]:
    """The virtual charges that move the charge q0 of each MM host M1 away from the link hydrogen.

    'rcd' (redistributed charge and dipole; Lin and Truhlar, J. Phys. Chem. A 2005, 109, 3991): 2 q0/n at the middle of
    each bond from M1 to its n MM neighbours M2, -q0/n at each M2. 'charge-shift' (Sherwood et al., J. Mol. Struct.
    THEOCHEM 2003, 632, 1): q0/n at each M2, and two opposite charges around it that restore the dipole. 'none': nothing.
    All conserve charge and dipole.

    Parameters
    ----------
    boundary : str
        the scheme
    neighbours : sequence of sequences of int
        neighbour_lists() of the topology
    charges : sequence of float
        charge (e) that the NonbondedForce holds for each particle
    qm : set of int
        the QM atoms
    cuts : sequence of Cut
        the cut bonds

    Raises
    ------
    ValueError
        For an unknown scheme, or one that changes the total charge (Z1, Z2).
    """
    check_boundary(boundary)
    moved: list[VirtualCharge] = []
    for m1 in sorted({cut.mm for cut in cuts}) if boundary != "none" else ():
        q0 = charges[m1]
        if abs(q0) < _NEGLIGIBLE:
            continue
        outer = [i for i in neighbours[m1] if i not in qm]
        share = q0 / len(outer)
        moved.append(VirtualCharge([m1], [1.0], -q0))
        for m2 in outer:
            if boundary == "rcd":
                moved.append(VirtualCharge([m1, m2], [0.5, 0.5], 2 * share))
                moved.append(VirtualCharge([m2], [1.0], -share))
            else:
                dipole = share / (2 * _DIPOLE_ARM)
                moved.append(VirtualCharge([m2], [1.0], share))
                moved.append(VirtualCharge([m1, m2], [_DIPOLE_ARM, 1 - _DIPOLE_ARM], dipole))
                moved.append(VirtualCharge([m1, m2], [-_DIPOLE_ARM, 1 + _DIPOLE_ARM], -dipole))
    return moved


def move_leftover_charge(
    topology: app.Topology, charges: Sequence[float], qm: set[int], cuts: Sequence[Cut]
) -> list[tuple[int, int, float]]:
    """What to move across the cuts so that the MM part of each cut residue has an integer charge.

    The MM part of a residue differs from an integer by some charge. The MM hosts in this residue (if there are none, the
    hosts of its QM atoms) give it, in equal shares, to the QM atoms on the other side of their cuts.

    Returns
    -------
    list of (int, int, float)
        MM host, QM host, charge (e) that moves from the first to the second
    """
    moves = []
    for residue in topology.residues():
        atoms = [a.index for a in residue.atoms()]
        inside = [i in qm for i in atoms]
        if all(inside) or not any(inside):
            continue
        outer = sum(charges[i] for i in atoms if i not in qm)
        leftover = outer - round(outer)
        members = set(atoms)
        hosts = [c for c in cuts if c.mm in members] or [c for c in cuts if c.qm in members]
        if abs(leftover) > _NEGLIGIBLE:
            moves += [(c.mm, c.qm, leftover / len(hosts)) for c in hosts]
    return moves
