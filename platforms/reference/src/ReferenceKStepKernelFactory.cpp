#include "ReferenceCalcQMRegionForceKernel.h"
#include "ReferenceKStepKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/reference/ReferencePlatform.h"
#include "openmmkstep/internal/export.h"

using namespace OpenMMKStep;
using namespace OpenMM;

namespace {

class ReferenceKStepKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(std::string name, const Platform& platform, ContextImpl& context) const override {
        if (name == IntegrateKStepStepKernel::Name())
            return new ReferenceIntegrateKStepStepKernel(name, platform);
        if (name == CalcQMRegionForceKernel::Name())
            return new ReferenceCalcQMRegionForceKernel(name, platform);
        throw OpenMMException("Tried to create kernel with illegal kernel name '"+name+"'");
    }
};

} // namespace

extern "C" OPENMM_EXPORT_KSTEP void registerPlatforms() {
}

extern "C" OPENMM_EXPORT_KSTEP void registerKernelFactories() {
    // The CPU platform keeps its positions, velocities, forces and constraints as the Reference platform does.
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (dynamic_cast<ReferencePlatform*>(&platform) == NULL)
            continue;
        KernelFactory* factory = new ReferenceKStepKernelFactory();
        for (const std::string& name : {IntegrateKStepStepKernel::Name(), CalcQMRegionForceKernel::Name()})
            platform.registerKernelFactory(name, factory);
    }
}
