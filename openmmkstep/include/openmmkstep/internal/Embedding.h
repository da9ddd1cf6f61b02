#ifndef OPENMMKSTEP_EMBEDDING_H_
#define OPENMMKSTEP_EMBEDDING_H_

#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmmkstep/QMRegionForce.h"
#include <vector>

namespace OpenMMKStep {

/**
 * The geometry and the classical electrostatics of a QM region and the point charges around it: the one implementation
 * of both the subtractive term and the damped potential, for XtbForce and KStepModelForce alike.
 *
 * Lengths are in nm, charges in e, energies in kJ/mol.  Forces are added to getQMForces() and getMMForces().
 */
class Embedding {
public:
    /**
     * @throws OpenMMException if a particle index does not exist in the System or an embedding charge sits on a
     *         particle of the QM region
     */
    Embedding(const QMRegionForce& force, const OpenMM::System& system);
    /** Read the charges from the force again; the particles must be the same. */
    void updateCharges(const QMRegionForce& force);
    /**
     * Take the positions from those of all particles.
     *
     * @return whether any of them differs, bit for bit, from the previous call
     * @throws OpenMMException if a position is NaN or infinite
     */
    bool setPositions(const std::vector<OpenMM::Vec3>& positions);
    /** Positions of the QM particles. */
    const std::vector<OpenMM::Vec3>& getQMPositions() const {
        return qmPositions;
    }
    /** Positions of the embedding charges. */
    const std::vector<OpenMM::Vec3>& getMMPositions() const {
        return mmPositions;
    }
    /** The embedding charges. */
    const std::vector<double>& getMMCharges() const {
        return mmCharges;
    }
    /** The atomic numbers that give the hardness of the embedding charges. */
    const std::vector<int>& getMMAtomicNumbers() const {
        return mmAtomicNumbers;
    }
    std::vector<OpenMM::Vec3>& getQMForces() {
        return qmForces;
    }
    std::vector<OpenMM::Vec3>& getMMForces() {
        return mmForces;
    }
    /** Set all forces to zero. */
    void clearForces();
    /** Set the list over all particles to the forces held here, zero elsewhere. */
    void scatterForces(std::vector<OpenMM::Vec3>& forces) const;
    /**
     * Get the energy - k_e sum_j sum_a q_a Q_j / R_aj and add its forces.
     *
     * @throws OpenMMException if a charge is closer than 1e-3 nm to a QM particle whose fixed charge is not zero
     */
    double computeSubtractiveTerm();
    /**
     * Compute the damped potential phi_a = k_e sum_j Q_j / sqrt(R_aj^2 + d_a^2), in kJ/mol/e, at every QM particle.
     *
     * @param dampingLengths   d_a for each QM particle
     */
    void computePotential(const std::vector<double>& dampingLengths, std::vector<double>& potential) const;
    /** Add the forces of an energy that depends on phi_a, given q_a = dE/dphi_a. */
    void addPotentialForces(const std::vector<double>& dampingLengths, const std::vector<double>& charges);
private:
    std::vector<int> qmParticles, mmParticles, mmAtomicNumbers;
    std::vector<double> fixedCharges, mmCharges;
    std::vector<OpenMM::Vec3> qmPositions, mmPositions, qmForces, mmForces;
    bool hasFixedCharges, hasPositions;
    // One array per coordinate, which the compiler can vectorize.
    std::vector<double> mmX[3], mmF[3];
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_EMBEDDING_H_*/
