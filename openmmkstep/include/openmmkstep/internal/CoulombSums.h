#ifndef OPENMMKSTEP_COULOMBSUMS_H_
#define OPENMMKSTEP_COULOMBSUMS_H_

#include "openmm/Vec3.h"
#include <vector>

namespace OpenMMKStep {

/**
 * Point charges in arrays that the compiler can vectorize, and sums over them around one point: the inner loops of the
 * embedding.  Lengths are in nm, charges in e; energies are without the Coulomb constant.
 */
class CoulombSums {
public:
    /** Take positions and charges from lists of equal length. */
    void setCharges(const std::vector<OpenMM::Vec3>& positions, const std::vector<double>& charges);
    /** Set the forces to zero. */
    void clearForces();
    /** The force on charge j that addForces() has added up. */
    OpenMM::Vec3 getForce(int j) const {
        return OpenMM::Vec3(force[0][j], force[1][j], force[2][j]);
    }
    /** Sum Q_j/sqrt(R_j^2 + d2) over the charges. */
    double sumPotential(const OpenMM::Vec3& point, double d2) const;
    /**
     * Add the forces of the energy scale*Q_j/sqrt(R_j^2 + d2) on the charges from `first` on.
     *
     * @param[out] potential  the sum of Q_j/sqrt(R_j^2 + d2)
     * @param[out] minR2      the smallest R_j^2
     * @return the sum of the forces
     */
    OpenMM::Vec3 addForces(int first, const OpenMM::Vec3& point, double d2, double scale, double& potential, double& minR2);
private:
    std::vector<double> x[3], force[3], q;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_COULOMBSUMS_H_*/
