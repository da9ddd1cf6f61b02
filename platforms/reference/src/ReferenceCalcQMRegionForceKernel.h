#ifndef OPENMMKSTEP_REFERENCECALCQMREGIONFORCEKERNEL_H_
#define OPENMMKSTEP_REFERENCECALCQMREGIONFORCEKERNEL_H_

#include "openmmkstep/KStepKernels.h"

namespace OpenMMKStep {

/**
 * CalcQMRegionForceKernel where positions and forces are lists in memory; it also serves the CPU platform.
 */
class ReferenceCalcQMRegionForceKernel : public CalcQMRegionForceKernel {
public:
    ReferenceCalcQMRegionForceKernel(std::string name, const OpenMM::Platform& platform) :
            CalcQMRegionForceKernel(name, platform), calculation(NULL) {
    }
    void initialize(OpenMM::ContextImpl& context, const QMRegionForce& force, Calculation& calculation) override;
    double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) override;
    const std::vector<OpenMM::Vec3>& locateQMRegion(OpenMM::ContextImpl& context) override;
private:
    Calculation* calculation;
    ParticleForces forces;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_REFERENCECALCQMREGIONFORCEKERNEL_H_*/
