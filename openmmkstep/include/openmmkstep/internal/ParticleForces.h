#ifndef OPENMMKSTEP_PARTICLEFORCES_H_
#define OPENMMKSTEP_PARTICLEFORCES_H_

#include "openmm/Vec3.h"
#include <vector>

namespace OpenMMKStep {

/**
 * Forces on some of the particles: a list over all particles of the System that is zero except for those named.  A QM
 * region and the charges in its range are few, and the System may be large.
 */
struct ParticleForces {
    /** Set the forces that are not zero to zero and name nobody, at a cost that does not depend on the System's size. */
    void clear() {
        for (int particle : particles)
            forces[particle] = OpenMM::Vec3();
        particles.clear();
    }
    /** For all particles of the System, in kJ/mol/nm. */
    std::vector<OpenMM::Vec3> forces;
    /** Those whose force may not be zero, each once. */
    std::vector<int> particles;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_PARTICLEFORCES_H_*/
