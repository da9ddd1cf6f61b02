"""The damping lengths d_a with which a model sees the charges around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._units import NM_PER_BOHR
from ..forces import XtbForce

_HARDNESS_ELEMENT = {"GFN1-xTB": 2, "GFN2-xTB": 10}
# xTB's shells have a hardness each; a model sees one potential an atom. That is best when d_a is the element's own length
# times a factor, which makes E(embedded) at a fixed geometry a function of phi: a least-squares fit of
# sum q_a phi_a + 1/2 phi^T chi phi to the energies of 24 small molecules in 170-380 random shells of 24 TIP3P waters each (0.2-0.6 nm), two thirds to fit
# and one third to judge. The spread of these energies is 4-25 kJ/mol. Root mean square residuals in kJ/mol, for molecules
# with the element, with and without the factor.
_FACTORS = {
    "GFN2-xTB": {
        1: 1.0,
        5: 1.24,  # 0.05, 0.42
        6: 0.945,  # with N and O from alanine dipeptide in water: 0.05 instead of 0.35
        7: 0.90,
        8: 0.937,
        9: 0.87,  # 0.06, 0.30
        14: 1.36,  # 0.03, 0.40
        15: 0.97,  # 0.09, 0.10
        16: 1.0,  # 0.11
        17: 0.88,  # 0.06, 0.27
        35: 0.88,  # 0.07, 0.25
        53: 1.01,  # 0.06, 0.07
    },
    "GFN1-xTB": {},
}


def findDampingLengths(species: Sequence[int], method: str = "GFN2-xTB") -> np.ndarray:
    """Find the damping lengths d_a of phi_a = k_e sum_j Q_j / sqrt(R_aj^2 + d_a^2) that reproduce xTB best.

    Parameters
    ----------
    species : sequence of int
        atomic number of each atom
    method : str
        'GFN1-xTB' or 'GFN2-xTB', with the uniform hardness element of createQMMMSystem() (helium, neon) for the charges

    Returns
    -------
    numpy.ndarray, shape (atoms,)
        nm

    Raises
    ------
    OpenMMException
        For another method, or an element beyond 86.
    """
    lengths = []
    for z in species:
        atom = XtbForce.getElementHardness(method, int(z))
        charge = XtbForce.getElementHardness(method, _HARDNESS_ELEMENT[method])
        mean = (atom + charge) / 2 if method == "GFN2-xTB" else 2 / (1 / atom + 1 / charge)
        lengths.append(_FACTORS[method].get(int(z), 1.0) * NM_PER_BOHR / mean)
    return np.array(lengths)
