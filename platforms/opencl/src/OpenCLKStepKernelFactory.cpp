#include "CommonKStepKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/opencl/OpenCLContext.h"
#include "openmm/opencl/OpenCLPlatform.h"
#include "openmmkstep/internal/export.h"

using namespace OpenMMKStep;
using namespace OpenMM;

namespace {

class OpenCLKStepKernelFactory : public KernelFactory {
public:
    KernelImpl* createKernelImpl(std::string name, const Platform& platform, ContextImpl& context) const override {
        OpenCLPlatform::PlatformData& data = *static_cast<OpenCLPlatform::PlatformData*>(context.getPlatformData());
        return createCommonKernel(name, platform, data.contexts.size(), *data.contexts[0]);
    }
};

} // namespace

extern "C" OPENMM_EXPORT_KSTEP void registerPlatforms() {
}

extern "C" OPENMM_EXPORT_KSTEP void registerKernelFactories() {
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (dynamic_cast<OpenCLPlatform*>(&platform) != NULL)
            registerCommonKernels(platform, new OpenCLKStepKernelFactory());
    }
}
