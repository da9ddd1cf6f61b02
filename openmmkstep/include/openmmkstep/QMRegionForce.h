#ifndef OPENMMKSTEP_QMREGIONFORCE_H_
#define OPENMMKSTEP_QMREGIONFORCE_H_

#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmmkstep/internal/export.h"
#include <vector>

namespace OpenMMKStep {

/**
 * What XtbForce and KStepModelForce share: the particles of the QM region, the link atoms that saturate its cut bonds,
 * and the point charges that surround it.
 *
 * The embedding charges Q_j polarize the QM region.  Together with the fixed charges q_a of the QM particles they also
 * define the subtractive term
 *
 *     - k_e sum_j S_g(j) sum_a C_aj / R_aj        (kJ/mol),       C_aj = q_a Q_j, or what addException() says
 *
 * that removes the Coulomb interaction which a NonbondedForce (with or without PME) already holds between the QM
 * particles and the embedding charges.  With all fixed charges at their default of 0 the embedding is plain.
 *
 * With a cutoff (setCutoffDistance()), whole groups of charges (addEmbeddingGroup()) are switched off with distance:
 * S_g scales their charges, for the QM region and in the subtractive term alike, and goes smoothly from 1 to 0.  In a
 * periodic system each group is taken in one image, the one nearest to the centroid of the QM region.
 */
class OPENMM_EXPORT_KSTEP QMRegionForce : public OpenMM::Force {
public:
    /** Get the number of particles in the QM region. */
    int getNumParticles() const {
        return particles.size();
    }
    /** Get the indices of the particles in the QM region. */
    const std::vector<int>& getParticles() const {
        return particles;
    }
    /**
     * Add a link atom: a hydrogen that saturates the QM region where a bond to an MM particle is cut.  It lies on the
     * bond, at a fixed distance from the QM particle, and its force is passed on to both ends.
     *
     * @param qmParticle   index in the System of the QM end of the bond
     * @param mmParticle   index in the System of the MM end of the bond
     * @param distance     the distance of the link atom from the QM particle in nm
     * @return the index of the link atom that was added
     */
    int addLinkAtom(int qmParticle, int mmParticle, double distance);
    /** Get the number of link atoms. */
    int getNumLinkAtoms() const {
        return linkAtoms.size();
    }
    /** Get the parameters of a link atom; see addLinkAtom(). */
    void getLinkAtomParameters(int index, int& qmParticle, int& mmParticle, double& distance) const;
    /**
     * Add a point charge that polarizes the QM region and interacts with the fixed charges in the subtractive term.
     *
     * @param particle      index in the System of the particle that carries the charge; not in the QM region
     * @param charge        the charge Q_j in units of e
     * @param atomicNumber  the element (1-86) whose chemical hardness damps the interaction at short range.  One
     *                      uniform element for all charges is right: neon for GFN2-xTB, helium (2) for GFN1-xTB
     * @return the index of the charge that was added
     */
    int addEmbeddingCharge(int particle, double charge, int atomicNumber=10);
    /** Get the number of embedding charges. */
    int getNumEmbeddingCharges() const {
        return charges.size();
    }
    /** Get the parameters of an embedding charge; see addEmbeddingCharge(). */
    void getEmbeddingChargeParameters(int index, int& particle, double& charge, int& atomicNumber) const;
    /** Set the parameters of an embedding charge; see addEmbeddingCharge(). */
    void setEmbeddingChargeParameters(int index, int particle, double charge, int atomicNumber);
    /**
     * Add a virtual charge: a point charge at a weighted average of particle positions, which polarizes the QM region
     * but is not part of the subtractive term, since no NonbondedForce holds it.  Charges that are redistributed at a
     * cut bond are written with these.  Virtual charges are never switched off.
     *
     * @param particles     indices in the System of the particles that define the position: QM particles, or particles
     *                      in an embedding group that is not switched (without periodic boundary conditions also
     *                      particles in no group)
     * @param weights       the weight of each of them; they add up to 1
     * @param charge        the charge in units of e
     * @param atomicNumber  the hardness element; see addEmbeddingCharge()
     * @return the index of the charge that was added
     */
    int addVirtualCharge(const std::vector<int>& particles, const std::vector<double>& weights, double charge, int atomicNumber=10);
    /** Get the number of virtual charges. */
    int getNumVirtualCharges() const {
        return virtualCharges.size();
    }
    /** Get the parameters of a virtual charge; see addVirtualCharge(). */
    void getVirtualChargeParameters(int index, std::vector<int>& particles, std::vector<double>& weights, double& charge, int& atomicNumber) const;
    /** Set the charge of a virtual charge, in units of e. */
    void setVirtualCharge(int index, double charge);
    /**
     * Add a pair whose term in the subtraction is k_e chargeProduct/R instead of k_e q_a Q_j/R: an exception of the
     * NonbondedForce between a QM particle and an embedding charge.
     *
     * @param qmParticle     index in the System of a particle in the QM region
     * @param mmParticle     index in the System of a particle that carries an embedding charge
     * @param chargeProduct  the product of charges in units of e^2
     * @return the index of the exception that was added
     */
    int addException(int qmParticle, int mmParticle, double chargeProduct);
    /** Get the number of exceptions. */
    int getNumExceptions() const {
        return exceptions.size();
    }
    /** Get the parameters of an exception; see addException(). */
    void getExceptionParameters(int index, int& qmParticle, int& mmParticle, double& chargeProduct) const;
    /** Set the parameters of an exception; see addException(). */
    void setExceptionParameters(int index, int qmParticle, int mmParticle, double chargeProduct);
    /**
     * Add a group of particles whose charges the QM region sees together, in one image and with one switching factor:
     * a molecule, an ion, a residue of integer charge.
     *
     * @param particles  indices in the System of the particles of the group; each particle is in one group at most
     * @param center     the one of them whose distance to the QM particles decides, or -1 for their centroid
     * @param switched   whether a cutoff acts on this group.  False for groups that are bonded to the QM region
     * @return the index of the group that was added
     */
    int addEmbeddingGroup(const std::vector<int>& particles, int center=-1, bool switched=true);
    /** Get the number of embedding groups. */
    int getNumEmbeddingGroups() const {
        return groups.size();
    }
    /** Get the parameters of an embedding group; see addEmbeddingGroup(). */
    void getEmbeddingGroupParameters(int index, std::vector<int>& particles, int& center, bool& switched) const;
    /** Get the distance in nm beyond which groups are not seen, or 0 if there is no cutoff. */
    double getCutoffDistance() const {
        return cutoffDistance;
    }
    /**
     * Set the distance from the QM particles, in nm, beyond which groups are not seen; 0, the default, is no cutoff.
     *
     * With t = (R - r_on)/(r_off - r_on) and S(R) = 1 - 10t^3 + 15t^4 - 6t^5 a group of center c is scaled by
     * S_g = 1 - prod_a (1 - S(R_ac)), over all QM particles a.
     */
    void setCutoffDistance(double distance);
    /** Get the distance in nm at which switching begins. */
    double getSwitchingDistance() const {
        return switchingDistance;
    }
    /** Set the distance r_on in nm at which switching begins; smaller than the cutoff. */
    void setSwitchingDistance(double distance);
    /**
     * Get the fixed charge of a QM particle, in units of e.
     *
     * @param index    index within the QM region (not in the System)
     */
    double getFixedCharge(int index) const;
    /**
     * Set the fixed charge of a QM particle, used in the subtractive term only.
     *
     * @param index    index within the QM region (not in the System)
     * @param charge   the charge q_a in units of e that NonbondedForce holds for this particle
     */
    void setFixedCharge(int index, double charge);
    /**
     * Copy the embedding charges, virtual charges, exceptions' products and fixed charges of this object to a Context
     * that was created with it.  Nothing else can be changed this way.
     */
    void updateParametersInContext(OpenMM::Context& context);
    /** Whether positions are taken modulo the periodic box; see setUsesPeriodicBoundaryConditions(). */
    bool usesPeriodicBoundaryConditions() const {
        return periodic;
    }
    /**
     * Set whether positions are taken modulo the periodic box; the default is false.  Then every embedding charge must
     * be in a group, and the box must be wide enough for one image: the cutoff plus the largest distance of a QM
     * particle from the centroid of the region is at most half of the box's smallest width.  An energy asked for in a
     * smaller box than before is infinite if that leaves less than 2 % of room, so that barostats reject such trials.
     */
    void setUsesPeriodicBoundaryConditions(bool periodic) {
        this->periodic = periodic;
    }
protected:
    QMRegionForce(const std::vector<int>& particles);
private:
    struct LinkAtom {
        int qmParticle, mmParticle;
        double distance;
    };
    struct EmbeddingCharge {
        int particle;
        double charge;
        int atomicNumber;
    };
    struct VirtualCharge {
        std::vector<int> particles;
        std::vector<double> weights;
        double charge;
        int atomicNumber;
    };
    struct Exception {
        int qmParticle, mmParticle;
        double chargeProduct;
    };
    struct EmbeddingGroup {
        std::vector<int> particles;
        int center;
        bool switched;
    };
    std::vector<int> particles;
    std::vector<double> fixedCharges;
    std::vector<LinkAtom> linkAtoms;
    std::vector<EmbeddingCharge> charges;
    std::vector<VirtualCharge> virtualCharges;
    std::vector<Exception> exceptions;
    std::vector<EmbeddingGroup> groups;
    double cutoffDistance, switchingDistance;
    bool periodic;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_QMREGIONFORCE_H_*/
