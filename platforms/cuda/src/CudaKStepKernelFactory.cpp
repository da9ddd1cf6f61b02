#include "CommonKStepKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/cuda/CudaContext.h"
#include "openmm/cuda/CudaPlatform.h"
#include "openmmkstep/internal/export.h"

using namespace OpenMMKStep;
using namespace OpenMM;

namespace {

class CudaKStepKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(std::string name, const Platform& platform, ContextImpl& context) const override {
        CudaPlatform::PlatformData& data = *static_cast<CudaPlatform::PlatformData*>(context.getPlatformData());
        return createCommonKernel(name, platform, data.contexts.size(), *data.contexts[0]);
    }
};

} // namespace

extern "C" OPENMM_EXPORT_KSTEP void registerPlatforms() {
}

extern "C" OPENMM_EXPORT_KSTEP void registerKernelFactories() {
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (dynamic_cast<CudaPlatform*>(&platform) != NULL)
            registerCommonKernels(platform, new CudaKStepKernelFactory());
    }
}
