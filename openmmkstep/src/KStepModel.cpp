#include "openmmkstep/internal/KStepModel.h"
#include "openmm/OpenMMException.h"
#include <dlfcn.h>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

typedef KStepModel* (*LoadFunction)(const string& data);

/** libOpenMMKStepTorch lies in the folder of this library. */
static LoadFunction findLoader() {
    Dl_info info;
    string path = "libOpenMMKStepTorch.so";
    if (dladdr(reinterpret_cast<void*>(&findLoader), &info) != 0 && info.dli_fname != NULL) {
        string self = info.dli_fname;
        size_t slash = self.rfind('/');
        if (slash != string::npos)
            path = self.substr(0, slash+1)+path;
    }
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        throw OpenMMException(string("KStepModelForce needs torch, of the version that openmmkstep was built with (pip install torch==")+OPENMMKSTEP_TORCH_VERSION+").  Its library could not be loaded: "+dlerror());
    LoadFunction load = reinterpret_cast<LoadFunction>(dlsym(handle, "openmmkstepLoadTorchModel"));
    if (load == NULL)
        throw OpenMMException("KStepModelForce: "+path+" belongs to another version of openmmkstep.  Reinstall openmmkstep.");
    return load;
}

unique_ptr<KStepModel> KStepModel::load(const string& data) {
    static LoadFunction loader = findLoader();
    return unique_ptr<KStepModel>(loader(data));
}
