#include "CommonCalcQMRegionForceKernel.h"
#include "CommonKStepKernels.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KernelImpl* OpenMMKStep::createCommonKernel(const string& name, const Platform& platform, int numDevices, ComputeContext& context) {
    if (numDevices > 1)
        throw OpenMMException("openmmkstep runs on one device, but the Context was given "+to_string(numDevices)+".  Name one in the property DeviceIndex.");
    if (name == IntegrateKStepStepKernel::Name())
        return new CommonIntegrateKStepStepKernel(name, platform, context);
    if (name == CalcQMRegionForceKernel::Name())
        return new CommonCalcQMRegionForceKernel(name, platform, context);
    throw OpenMMException("Tried to create kernel with illegal kernel name '"+name+"'");
}

void OpenMMKStep::registerCommonKernels(Platform& platform, KernelFactory* factory) {
    platform.registerKernelFactory(IntegrateKStepStepKernel::Name(), factory);
    platform.registerKernelFactory(CalcQMRegionForceKernel::Name(), factory);
}
