#ifndef OPENMMKSTEP_COMMONCALCQMREGIONFORCEKERNEL_H_
#define OPENMMKSTEP_COMMONCALCQMREGIONFORCEKERNEL_H_

#include "DeviceParticles.h"
#include "openmmkstep/KStepKernels.h"
#include <memory>

namespace OpenMMKStep {

/**
 * CalcQMRegionForceKernel for OpenCL and CUDA.  Only particles that the force may depend on come to the host: the QM region,
 * what is always seen, and the switched groups that the device finds in reach.  They are gathered when the force is
 * asked; the computation waits until all other forces of the evaluation are in the device's queue, so that the host and
 * the device work at the same time.
 */
class CommonCalcQMRegionForceKernel : public CalcQMRegionForceKernel {
public:
    CommonCalcQMRegionForceKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& context) :
            CalcQMRegionForceKernel(name, platform), cc(context), calculation(NULL), numQM(0), numFixed(0), numGroups(0), isWaiting(false) {
    }
    ~CommonCalcQMRegionForceKernel();
    void initialize(OpenMM::ContextImpl& context, const QMRegionForce& force, Calculation& calculation) override;
    double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) override;
    const std::vector<OpenMM::Vec3>& locateQMRegion(OpenMM::ContextImpl& context) override;
private:
    class Begin;
    class Finish;
    void listParticles(const OpenMM::System& system, const QMRegionForce& force);
    void gatherFixed();
    void gather();
    void readPositions(int numGathered);
    double finish(bool includeForces);
    void addForces();
    OpenMM::ComputeContext& cc;
    std::unique_ptr<DeviceParticles> atoms;
    Calculation* calculation;
    OpenMM::ContextImpl* contextImpl;
    /** OpenMM keeps the post-computation longer than the kernel. */
    std::shared_ptr<CommonCalcQMRegionForceKernel*> self;
    int numQM, numFixed, numGroups;
    std::vector<int> groupOf, groupsInReach;
    std::vector<OpenMM::Vec3> positions;
    ParticleForces forces;
    std::vector<long long> listedForces, numInReach;
    std::vector<OpenMM::mm_double4> found;
    bool isWaiting;
    OpenMM::ComputeArray fixed, gathered, centers, first, members, count, listed;
    OpenMM::ComputeKernel gatherPositionsKernel, gatherGroupsKernel, addForcesKernel;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_COMMONCALCQMREGIONFORCEKERNEL_H_*/
