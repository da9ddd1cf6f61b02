#ifndef OPENMMKSTEP_MOLLIFICATION_H_
#define OPENMMKSTEP_MOLLIFICATION_H_

#include "openmm/OpenMMException.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/internal/PeriodicBox.h"
#include <vector>

namespace OpenMMKStep {

/**
 * Thrown where A(x) is not defined for a geometry.  It says nothing about the set-up: the macro-step that led there has
 * failed, and a smaller k may avoid it.
 */
class OPENMM_EXPORT_KSTEP MollificationError : public OpenMM::OpenMMException {
public:
    explicit MollificationError(const std::string& message) : OpenMM::OpenMMException(message) {
    }
};

/**
 * The map x -> A(x) of the mollified impulse and the transpose of its Jacobian, on the few particles that it touches.
 *
 * First every bond is reset to its length: particle2 and whatever hangs on it in the list of bonds are shifted along
 * the bond.  A shift changes no other bond's vector, so the order of the bonds does not matter.  Then every angle is
 * reset: particle1 is rotated about particle2, in the plane of the three, keeping its distance.  A commutes with
 * translations and rotations of all particles.
 *
 * All arrays are in the order of getParticles(), so that a kernel needs to move no more than these between devices.
 */
class OPENMM_EXPORT_KSTEP Mollification {
public:
    typedef KStepIntegrator::MollifiedBond Bond;
    typedef KStepIntegrator::MollifiedAngle Angle;
    /**
     * @throws OpenMMException if a length or angle is out of range, a particle is the moving end of two bonds, bonds
     *         form a ring, or an angle moves a particle on which something else hangs
     */
    explicit Mollification(const std::vector<Bond>& bonds, const std::vector<Angle>& angles={});
    /** Check that the particles exist in a System and are no virtual sites. */
    void checkSystem(const OpenMM::System& system) const;
    /** Whether there is nothing to reset, so that A(x) = x. */
    bool isEmpty() const {
        return bonds.empty() && angles.empty();
    }
    /** Get the particles that move or on whose positions A depends, in increasing order. */
    const std::vector<int>& getParticles() const {
        return particles;
    }
    /**
     * Replace positions x (nm) by A(x) and remember x for applyTransposedJacobian().
     *
     * @param box   the particles of a bond or angle may be in different images of it
     * @throws MollificationError if two particles of a bond coincide or the three of an angle are in line; the positions
     *         are then undefined
     */
    void apply(std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box=PeriodicBox());
    /**
     * Turn forces at A(x) into minus the gradient with respect to x, where x is what apply() was last called with.
     */
    void applyTransposedJacobian(std::vector<OpenMM::Vec3>& forces) const;
private:
    struct BondState {
        int fixed, moving;          // indices into particles
        std::vector<int> subtree;   // what moves: the moving end and all that hangs on it
        double length, distance = 0;
        OpenMM::Vec3 direction;
    };
    struct AngleState {
        int moving, centre, other;  // indices into particles
        double cosine, sine, armLength = 0, otherLength = 0, height = 0;
        OpenMM::Vec3 arm, axis, normal;
    };
    void checkBonds(const std::vector<Bond>& list) const;
    void checkAngles(const std::vector<Bond>& bondList, const std::vector<Angle>& list) const;
    std::vector<int> particles;
    std::vector<BondState> bonds;
    std::vector<AngleState> angles;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_MOLLIFICATION_H_*/
