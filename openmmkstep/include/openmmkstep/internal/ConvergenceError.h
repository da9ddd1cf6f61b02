#ifndef OPENMMKSTEP_CONVERGENCEERROR_H_
#define OPENMMKSTEP_CONVERGENCEERROR_H_

#include "openmm/OpenMMException.h"
#include "openmmkstep/internal/export.h"

namespace OpenMMKStep {

/**
 * Thrown when a corrector cannot give an energy for a geometry (an SCF that does not converge even from a cold
 * start).  It says nothing about the set-up: in the metropolis scheme it counts as D = +infinity.
 */
class OPENMM_EXPORT_KSTEP ConvergenceError : public OpenMM::OpenMMException {
public:
    explicit ConvergenceError(const std::string& message) : OpenMM::OpenMMException(message) {
    }
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_CONVERGENCEERROR_H_*/
