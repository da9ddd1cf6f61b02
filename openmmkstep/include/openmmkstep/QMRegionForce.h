#ifndef OPENMMKSTEP_QMREGIONFORCE_H_
#define OPENMMKSTEP_QMREGIONFORCE_H_

#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmmkstep/internal/export.h"
#include <vector>

namespace OpenMMKStep {

/**
 * What XtbForce and KStepModelForce share: the particles of the QM region and the point charges that surround it.
 *
 * The embedding charges Q_j polarize the QM region.  The fixed charges q_a of the QM particles define the subtractive
 * term
 *
 *     - k_e sum_j sum_a q_a Q_j / R_aj        (kJ/mol)
 *
 * that removes the Coulomb interaction which a NonbondedForce already holds between the QM particles and the embedding
 * charges.  With all fixed charges at their default of 0 the embedding is plain.  Non-periodic: interactions are
 * computed from the positions as they are.
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
     * Add a point charge that polarizes the QM region.
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
     * Copy the embedding charges and fixed charges of this object to a Context that was created with it.  Particles
     * and hardness elements cannot be changed this way.
     */
    void updateParametersInContext(OpenMM::Context& context);
    bool usesPeriodicBoundaryConditions() const {
        return false;
    }
protected:
    QMRegionForce(const std::vector<int>& particles);
private:
    struct EmbeddingCharge {
        int particle;
        double charge;
        int atomicNumber;
    };
    std::vector<int> particles;
    std::vector<double> fixedCharges;
    std::vector<EmbeddingCharge> charges;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_QMREGIONFORCE_H_*/
