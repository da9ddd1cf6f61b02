#ifndef OPENMMKSTEP_BOXSIZEERROR_H_
#define OPENMMKSTEP_BOXSIZEERROR_H_

#include "openmm/OpenMMException.h"
#include "openmmkstep/internal/export.h"

namespace OpenMMKStep {

/**
 * Thrown when the periodic box has become too small for the embedding, so that there are no forces.  The energy of such
 * a state is infinite: in the metropolis scheme a path that leads there has failed.
 */
class OPENMM_EXPORT_KSTEP BoxSizeError : public OpenMM::OpenMMException {
public:
    explicit BoxSizeError(const std::string& message) : OpenMM::OpenMMException(message) {
    }
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_BOXSIZEERROR_H_*/
