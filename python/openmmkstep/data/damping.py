"""The damping lengths d_a with which a model sees the charges around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._units import NM_PER_BOHR
from ..forces import XtbForce

_HARDNESS_ELEMENT = {"GFN1-xTB": 2, "GFN2-xTB": 10}
# xTB's shells have a hardness each, a model sees one potential an atom. Which d_a makes the energy at a fixed geometry a
# function of phi best? Fitted: energies of 24 molecules of 3-13 atoms, each in 170-380 random shells of up to 24 TIP3P waters at
# 0.2-0.6 nm (standard deviation 4-67 kJ/mol), by sum q_a phi_a + 1/2 phi^T chi phi; two thirds to fit q and chi, one third to
# judge. Behind each factor on the element's own length: rms residual in kJ/mol over the molecules with that element, with
# it and with 1.
_FACTORS = {
    "GFN2-xTB": {
        1: 1.0,  # H to O from alanine dipeptide in water (0.05, 0.35); here amides and alcohols 0.04-0.05 (0.20-0.30)
        5: 1.24,  # 0.05, 0.42
        6: 0.945,
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
    # Third order in the charges, and shells of very different hardness: what is left is larger.
    "GFN1-xTB": {
        1: 0.985,  # H, C, N, O together 0.26
        5: 0.97,  # 0.17, 0.21
        6: 0.865,
        7: 1.015,
        8: 0.94,
        9: 1.06,  # 0.48, 0.49
        14: 1.15,  # 0.17, 0.20
        15: 1.33,  # 0.26, 0.34
        16: 1.27,  # 0.34, 0.41
        17: 2.0,  # 0.37, 1.42
        35: 1.8,  # 0.62, 0.79
        53: 1.54,  # 0.63, 0.65
    },
}
"""All others: 1."""


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
