#ifndef OPENMMKSTEP_PERIODICBOX_H_
#define OPENMMKSTEP_PERIODICBOX_H_

#include "openmm/Vec3.h"
#include "openmmkstep/internal/export.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace OpenMM {
class ContextImpl;
}

namespace OpenMMKStep {

/**
 * A periodic box in OpenMM's reduced form, or none.  Lengths are in nm.
 */
class OPENMM_EXPORT_KSTEP PeriodicBox {
public:
    /** No box: every displacement is its own image. */
    PeriodicBox() : periodic(false) {
    }
    PeriodicBox(const OpenMM::Vec3& a, const OpenMM::Vec3& b, const OpenMM::Vec3& c) : periodic(true), a(a), b(b), c(c) {
    }
    /** The box of a Context, or none if its System does not use periodic boundary conditions. */
    static PeriodicBox getBox(OpenMM::ContextImpl& context);
    bool isPeriodic() const {
        return periodic;
    }
    /**
     * The image of a displacement in the brick |x| <= a_x/2, |y| <= b_y/2, |z| <= c_z/2.  For displacements shorter than
     * half of getSmallestWidth() this is the shortest image.
     */
    OpenMM::Vec3 getImage(OpenMM::Vec3 d) const {
        if (!periodic)
            return d;
        // Most displacements are within the box, and floor() is a function call on many machines.
        if (fabs(d[2]) > 0.5*c[2])
            d -= c*floor(d[2]/c[2]+0.5);
        if (fabs(d[1]) > 0.5*b[1])
            d -= b*floor(d[1]/b[1]+0.5);
        if (fabs(d[0]) > 0.5*a[0])
            d -= a*floor(d[0]/a[0]+0.5);
        return d;
    }
    /**
     * Bring the atoms of a region into one piece around the first of them.  Those of a region that is small against the
     * box are moved to the images nearest to the first one; those of a larger one are each moved next to the nearest
     * that is in place.
     */
    void makeWhole(std::vector<OpenMM::Vec3>& positions) const;
    /** The smallest of a_x, b_y and c_z. */
    double getSmallestWidth() const {
        return std::min(a[0], std::min(b[1], c[2]));
    }
private:
    bool periodic;
    OpenMM::Vec3 a, b, c;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_PERIODICBOX_H_*/
