"""QMRegionForce: what XtbForce and KStepModelForce share."""

from __future__ import annotations

from collections.abc import Sequence

import openmm
from openmm import unit

from . import _openmmkstep as _c
from ._units import CHARGE, CHARGE_PRODUCT, NANOMETER, strip


class QMRegionForce(openmm.Force):
    """What XtbForce and KStepModelForce share: the QM region, the link atoms at its cut bonds, the charges around it.

    The embedding charges Q_j polarize the QM region. With the fixed charges q_a of the QM particles they also define
    the subtractive term -k_e sum_j S_g(j) sum_a C_aj / R_aj, where C_aj is q_a Q_j or what addException() says; it
    removes the Coulomb interaction that a NonbondedForce (with or without PME) holds between the two already. With all
    fixed charges at their default of 0 the embedding is plain.

    With a cutoff, whole groups of charges (addEmbeddingGroup()) are switched off with distance by S_g. In a periodic
    system each group is taken in one image, the one nearest to the centroid of the QM region.
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("QMRegionForce is abstract; create an XtbForce or a KStepModelForce.")

    def getNumParticles(self) -> int:
        """Get the number of particles in the QM region."""
        return _c.QMRegionForce_getNumParticles(self)

    def getParticles(self) -> list[int]:
        """Get the indices of the particles in the QM region."""
        return _c.QMRegionForce_getParticles(self)

    def addEmbeddingCharge(self, particle: int, charge, atomicNumber: int = 10) -> int:
        """Add a point charge that polarizes the QM region.

        Parameters
        ----------
        particle : int
            index in the System of the particle that carries the charge; not in the QM region
        charge : float or Quantity
            the charge Q_j (e)
        atomicNumber : int
            the element (1-86) whose chemical hardness damps the interaction at short range; one uniform element for
            all charges is right: neon for GFN2-xTB, helium (2) for GFN1-xTB

        Returns
        -------
        int
            the index of the charge that was added
        """
        return _c.QMRegionForce_addEmbeddingCharge(self, particle, strip(charge, CHARGE), atomicNumber)

    def getNumEmbeddingCharges(self) -> int:
        """Get the number of embedding charges."""
        return _c.QMRegionForce_getNumEmbeddingCharges(self)

    def getEmbeddingChargeParameters(self, index: int) -> tuple[int, unit.Quantity, int]:
        """Get (particle, charge, atomicNumber) of an embedding charge; see addEmbeddingCharge()."""
        particle, charge, number = _c.QMRegionForce_getEmbeddingChargeParameters(self, index)
        return particle, charge * CHARGE, number

    def setEmbeddingChargeParameters(self, index: int, particle: int, charge, atomicNumber: int) -> None:
        """Set the parameters of an embedding charge; see addEmbeddingCharge()."""
        _c.QMRegionForce_setEmbeddingChargeParameters(self, index, particle, strip(charge, CHARGE), atomicNumber)

    def addLinkAtom(self, qmParticle: int, mmParticle: int, distance) -> int:
        """Add a link atom: a hydrogen that saturates the QM region where a bond to an MM particle is cut.

        It lies on the bond at a fixed distance from the QM particle, and its force is passed on to both ends.

        Parameters
        ----------
        qmParticle, mmParticle : int
            the ends of the bond: indices in the System
        distance : float or Quantity
            of the link atom from the QM particle (nm)

        Returns
        -------
        int
            the index of the link atom that was added
        """
        return _c.QMRegionForce_addLinkAtom(self, qmParticle, mmParticle, strip(distance, NANOMETER))

    def getNumLinkAtoms(self) -> int:
        """Get the number of link atoms."""
        return _c.QMRegionForce_getNumLinkAtoms(self)

    def getLinkAtomParameters(self, index: int) -> tuple[int, int, unit.Quantity]:
        """Get (qmParticle, mmParticle, distance) of a link atom; see addLinkAtom()."""
        qm, mm, distance = _c.QMRegionForce_getLinkAtomParameters(self, index)
        return qm, mm, distance * NANOMETER

    def addVirtualCharge(
        self, particles: Sequence[int], weights: Sequence[float], charge, atomicNumber: int = 10
    ) -> int:
        """Add a point charge at a weighted average of particle positions, seen by the QM region but not subtracted.

        No NonbondedForce holds it: charges that are redistributed at a cut bond are written with these. They are
        never switched off.

        Parameters
        ----------
        particles : sequence of int
            indices in the System: QM particles, or particles in an embedding group that is not switched (without
            periodic boundary conditions also particles in no group)
        weights : sequence of float
            the weight of each of them; they add up to 1
        charge : float or Quantity
            the charge (e)
        atomicNumber : int
            the hardness element; see addEmbeddingCharge()

        Returns
        -------
        int
            the index of the charge that was added
        """
        return _c.QMRegionForce_addVirtualCharge(
            self, list(particles), list(weights), strip(charge, CHARGE), atomicNumber
        )

    def getNumVirtualCharges(self) -> int:
        """Get the number of virtual charges."""
        return _c.QMRegionForce_getNumVirtualCharges(self)

    def getVirtualChargeParameters(self, index: int) -> tuple[list[int], list[float], unit.Quantity, int]:
        """Get (particles, weights, charge, atomicNumber) of a virtual charge; see addVirtualCharge()."""
        particles, weights, charge, number = _c.QMRegionForce_getVirtualChargeParameters(self, index)
        return particles, weights, charge * CHARGE, number

    def setVirtualCharge(self, index: int, charge) -> None:
        """Set the charge (e) of a virtual charge."""
        _c.QMRegionForce_setVirtualCharge(self, index, strip(charge, CHARGE))

    def addException(self, qmParticle: int, mmParticle: int, chargeProduct) -> int:
        """Add a pair whose subtracted term is k_e chargeProduct/R instead of k_e q_a Q_j/R.

        Parameters
        ----------
        qmParticle, mmParticle : int
            indices in the System of a QM particle and of a particle that carries an embedding charge
        chargeProduct : float or Quantity
            that of the NonbondedForce's exception (e^2)

        Returns
        -------
        int
            the index of the exception that was added
        """
        return _c.QMRegionForce_addException(self, qmParticle, mmParticle, strip(chargeProduct, CHARGE_PRODUCT))

    def getNumExceptions(self) -> int:
        """Get the number of exceptions."""
        return _c.QMRegionForce_getNumExceptions(self)

    def getExceptionParameters(self, index: int) -> tuple[int, int, unit.Quantity]:
        """Get (qmParticle, mmParticle, chargeProduct) of an exception; see addException()."""
        qm, mm, product = _c.QMRegionForce_getExceptionParameters(self, index)
        return qm, mm, product * CHARGE_PRODUCT

    def setExceptionParameters(self, index: int, qmParticle: int, mmParticle: int, chargeProduct) -> None:
        """Set the parameters of an exception; see addException()."""
        product = strip(chargeProduct, CHARGE_PRODUCT)
        _c.QMRegionForce_setExceptionParameters(self, index, qmParticle, mmParticle, product)

    def addEmbeddingGroup(self, particles: Sequence[int], center: int = -1, switched: bool = True) -> int:
        """Add a group whose charges the QM region sees together, in one image and with one switching factor.

        Parameters
        ----------
        particles : sequence of int
            indices in the System: a molecule, an ion, a residue of integer charge
        center : int
            the one of them whose distance to the QM particles decides, or -1 for their centroid
        switched : bool
            whether a cutoff acts on this group. False for groups that are bonded to the QM region

        Returns
        -------
        int
            the index of the group that was added
        """
        return _c.QMRegionForce_addEmbeddingGroup(self, list(particles), center, switched)

    def getNumEmbeddingGroups(self) -> int:
        """Get the number of embedding groups."""
        return _c.QMRegionForce_getNumEmbeddingGroups(self)

    def getEmbeddingGroupParameters(self, index: int) -> tuple[list[int], int, bool]:
        """Get (particles, center, switched) of an embedding group; see addEmbeddingGroup()."""
        return _c.QMRegionForce_getEmbeddingGroupParameters(self, index)

    def getCutoffDistance(self) -> unit.Quantity:
        """Get the distance beyond which groups are not seen, or 0 if there is no cutoff."""
        return _c.QMRegionForce_getCutoffDistance(self) * NANOMETER

    def setCutoffDistance(self, distance) -> None:
        """Set the distance r_off (nm) from the QM particles beyond which groups are not seen; 0 is no cutoff.

        With t = (R - r_on)/(r_off - r_on) and S(R) = 1 - 10t^3 + 15t^4 - 6t^5 a group is scaled by
        S_g = 1 - prod_a (1 - S(R_ac)), over the distances R_ac of all QM particles a from its center c.
        """
        _c.QMRegionForce_setCutoffDistance(self, strip(distance, NANOMETER))

    def getSwitchingDistance(self) -> unit.Quantity:
        """Get the distance at which switching begins."""
        return _c.QMRegionForce_getSwitchingDistance(self) * NANOMETER

    def setSwitchingDistance(self, distance) -> None:
        """Set the distance r_on (nm) at which switching begins; smaller than the cutoff."""
        _c.QMRegionForce_setSwitchingDistance(self, strip(distance, NANOMETER))

    def setUsesPeriodicBoundaryConditions(self, periodic: bool) -> None:
        """Set whether positions are taken modulo the periodic box; the default is False.

        Then every embedding charge must be in a group, and the cutoff plus the radius of the QM region (the largest
        distance of a QM particle from its centroid) must be at most half of the box's smallest width.
        """
        _c.QMRegionForce_setUsesPeriodicBoundaryConditions(self, periodic)

    def getFixedCharge(self, index: int) -> unit.Quantity:
        """Get the fixed charge of a QM particle, given its index within the QM region."""
        return _c.QMRegionForce_getFixedCharge(self, index) * CHARGE

    def setFixedCharge(self, index: int, charge) -> None:
        """Set the fixed charge (e) of a QM particle, given its index within the QM region."""
        _c.QMRegionForce_setFixedCharge(self, index, strip(charge, CHARGE))

    def updateParametersInContext(self, context: openmm.Context) -> None:
        """Copy embedding, virtual and fixed charges and the exceptions' products to a Context, and nothing else."""
        _c.QMRegionForce_updateParametersInContext(self, context)
