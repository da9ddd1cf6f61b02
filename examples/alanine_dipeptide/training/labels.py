"""What a frame is labelled with: GFN2-xTB energy, forces and charges, and the potential of the water charges."""

from __future__ import annotations

import numpy as np
import openmm
from openmm import unit

from openmmkstep import XtbForce

NUMBERS = (1, 6, 1, 1, 6, 8, 7, 1, 6, 1, 6, 1, 1, 1, 6, 8, 7, 1, 6, 1, 1, 1)
"""Elements of alanine dipeptide in the order of the droplet."""
NUM_QM = len(NUMBERS)
HARDNESS_ELEMENT = 10
COULOMB = 138.93545764438198  # kJ nm/(mol e^2)
_BOHR = 0.0529177210903  # nm
# Chemical hardness of GFN2-xTB in Hartree (Bannwarth, Ehlert, Grimme, JCTC 15, 1652 (2019)).
_HARDNESS = {1: 0.405771, 6: 0.538015, 7: 0.461493, 8: 0.451896, 10: 0.850000}
# A charge sees the atom's shells, of different hardness; one damping length per atom reproduces that best when it is
# shorter than the element's by this factor (fitted: it leaves 0.05 kJ/mol of the spread of the embedding energy at a
# fixed geometry instead of 0.35 and more).
_DAMPING_FACTOR = {1: 1.0, 6: 0.945, 7: 0.90, 8: 0.937}


def damping_lengths() -> np.ndarray:
    """d_a (nm) for each QM atom."""
    mm = _HARDNESS[HARDNESS_ELEMENT]
    return np.array([_DAMPING_FACTOR[z] * 2 * _BOHR / (_HARDNESS[z] + mm) for z in NUMBERS])


def embedding_potential(x_qm: np.ndarray, x_mm: np.ndarray, q_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """phi_a (kJ/mol/e) and its gradient with respect to atom a (n, 3)."""
    delta = x_qm[:, None] - x_mm[None]
    inverse = ((delta**2).sum(2) + damping_lengths()[:, None] ** 2) ** -0.5
    return COULOMB * inverse @ q_mm, np.einsum("aj,ajk->ak", -COULOMB * q_mm * inverse**3, delta)


class Labeller:
    """GFN2-xTB of the QM atoms in the field of point charges, without the subtractive term.

    Parameters
    ----------
    q_mm : array
        the charges (e); none for the gas phase
    """

    def __init__(self, q_mm=()):
        self.q_mm = np.asarray(q_mm, dtype=float)
        system = openmm.System()
        for _ in range(NUM_QM + len(self.q_mm)):
            system.addParticle(1.0)
        self._force = XtbForce("GFN2-xTB", range(NUM_QM), NUMBERS)
        for j, q in enumerate(self.q_mm):
            self._force.addEmbeddingCharge(NUM_QM + j, q, HARDNESS_ELEMENT)
        system.addForce(self._force)
        self._context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
        )

    def label(self, x_qm: np.ndarray, x_mm: np.ndarray) -> dict[str, np.ndarray | float]:
        """Energy (kJ/mol), forces on the QM atoms (kJ/mol/nm), Mulliken charges (e), phi and its gradient."""
        self._context.setPositions(np.concatenate([x_qm, x_mm]))
        state = self._context.getState(energy=True, forces=True)
        phi, grad_phi = embedding_potential(x_qm, x_mm, self.q_mm)
        return {
            "x": x_qm.copy(),
            "energy": state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
            "force": state.getForces(asNumpy=True)._value[:NUM_QM],
            "charge": np.array(self._force.getPartialCharges(self._context)._value),
            "phi": phi,
            "grad_phi": grad_phi,
        }
