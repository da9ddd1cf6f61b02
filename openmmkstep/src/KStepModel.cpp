#include "openmmkstep/internal/KStepModel.h"
#include "openmm/OpenMMException.h"
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

typedef KStepModel* (*LoadFunction)(const string& data, const string& owner, bool allowNativeCode);

// The whole content of trusted packages: what may run must not depend on what a file, or a hash of it, says of itself.
static mutex trustMutex;
static set<string> trusted;

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
        throw OpenMMException(string("k-step models need torch, of the version that openmmkstep was built with (pip install torch==")+OPENMMKSTEP_TORCH_VERSION+").  Its library could not be loaded: "+dlerror());
    LoadFunction load = reinterpret_cast<LoadFunction>(dlsym(handle, "openmmkstepLoadTorchModel"));
    if (load == NULL)
        throw OpenMMException(path+" belongs to another version of openmmkstep.  Reinstall openmmkstep.");
    return load;
}

string KStepModel::readFile(const string& file, const string& owner) {
    ifstream stream(file, ios::binary);
    stringstream data;
    if (!stream || !(data << stream.rdbuf()))
        throw OpenMMException(owner+": the model file '"+file+"' cannot be read or is empty.");
    return data.str();
}

unique_ptr<KStepModel> KStepModel::load(const string& data, const string& owner) {
    static LoadFunction loader = findLoader();
    const char* variable = getenv("OPENMMKSTEP_ALLOW_NATIVE_CODE");
    bool allowed = (variable != NULL && string(variable) == "1");
    {
        lock_guard<mutex> lock(trustMutex);
        allowed |= (trusted.count(data) > 0);
    }
    return unique_ptr<KStepModel>(loader(data, owner, allowed));
}

void KStepModel::allowNativeCode(const string& data) {
    lock_guard<mutex> lock(trustMutex);
    trusted.insert(data);
}
