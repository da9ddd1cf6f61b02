#include "TorchDevice.h"
#include "openmm/OpenMMException.h"
#include <dlfcn.h>
#include <torch/cuda.h>
#include <torch/version.h>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

/** The four functions of CUDA's driver that are needed.  It is there wherever torch finds a CUDA device. */
struct Driver {
    Driver() {
        void* library = dlopen("libcuda.so.1", RTLD_NOW);
        if (library == NULL)
            return;
        find(library, "cuDeviceGet", getDevice);
        find(library, "cuDevicePrimaryCtxRetain", retainPrimaryContext);
        find(library, "cuCtxPushCurrent_v2", pushContext);
        find(library, "cuCtxPopCurrent_v2", popContext);
    }
    template <class Function>
    static void find(void* library, const char* name, Function& function) {
        function = reinterpret_cast<Function>(dlsym(library, name));
    }
    bool isComplete() const {
        return getDevice != NULL && retainPrimaryContext != NULL && pushContext != NULL && popContext != NULL;
    }
    static const Driver& get() {
        static const Driver driver;
        return driver;
    }
    int (*getDevice)(int* device, int ordinal) = NULL;
    int (*retainPrimaryContext)(void** context, int device) = NULL;
    int (*pushContext)(void* context) = NULL;
    int (*popContext)(void** context) = NULL;
};

torch::Device parse(const string& name, const string& owner) {
    try {
        torch::Device device(name);
        if (device.is_cpu() || device.is_cuda())
            return device;
    }
    catch (const c10::Error&) {
    }
    throw OpenMMException(owner+": expected the device of the model to be 'cpu', 'cuda' or 'cuda:N', found '"+name+"'.");
}

} // namespace

TorchDevice::TorchDevice(const string& name, const string& owner) : device(parse(name, owner)), primaryContext(NULL) {
    if (device.is_cpu())
        return;
    // Programs that are not linked to torch's part for CUDA have not loaded it.  Torch looks for it once only.
    dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    int numDevices = (torch::cuda::is_available() ? torch::cuda::device_count() : 0);
    if (!device.has_index())
        device.set_index(0);
    if (device.index() >= numDevices)
        throw OpenMMException(owner+": the model is to run on '"+name+"', but torch "+TORCH_VERSION+" finds "+to_string(numDevices)+" CUDA devices here.  Install torch's build for CUDA and openmmkstep anew, or choose the device 'cpu'.");
    findPrimaryContext(owner);
}

/** It is retained for good, as torch does. */
void TorchDevice::findPrimaryContext(const string& owner) {
    const Driver& driver = Driver::get();
    int ordinal;
    if (!driver.isComplete() || driver.getDevice(&ordinal, device.index()) != 0 || driver.retainPrimaryContext(&primaryContext, ordinal) != 0)
        throw OpenMMException(owner+": the CUDA driver refuses the device '"+device.str()+"', which torch has found.");
}

TorchDevice::Scope::Scope(const TorchDevice& device) : isPushed(device.primaryContext != NULL) {
    if (isPushed && Driver::get().pushContext(device.primaryContext) != 0)
        throw OpenMMException("The CUDA driver refuses the context of the device '"+device.get().str()+"'.");
}

TorchDevice::Scope::~Scope() {
    void* context;
    if (isPushed)
        Driver::get().popContext(&context);
}
