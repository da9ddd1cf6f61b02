#include "openmmkstep/internal/EngineLibrary.h"
#include "openmm/OpenMMException.h"
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <link.h>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// DEEPBIND: an engine must use the OpenMP and BLAS it was built with, not those of torch that may be in the process.
static const int LOAD_FLAGS = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;

vector<EngineLibrary::Place> EngineLibrary::listPlaces(const string& variable, const string& package, const string& packageFile, const string& soname) {
    const char* value = getenv(variable.c_str());
    if (value != NULL && *value != 0)
        return {{"the environment variable "+variable+", which excludes all other places", value, ""}};
    const char* prefix = getenv("CONDA_PREFIX");
    bool isConda = (prefix != NULL && *prefix != 0);
    return {{"the environment variable "+variable, "", "not set"},
            {"the PyPI package "+package, packageFile, "not installed in this Python"},
            {"the system's libraries", soname, ""},
            {"the conda environment", isConda ? string(prefix)+"/lib/"+soname : "", "CONDA_PREFIX is not set"}};
}

static void* tryLoad(const string& file, const vector<string>& neighbours, string& problem) {
    void* handle = dlopen(file.c_str(), LOAD_FLAGS);
    if (handle == NULL && file.find('/') != string::npos) {
        error_code error;
        for (const string& name : neighbours)
            for (const auto& entry : filesystem::directory_iterator(filesystem::path(file).parent_path(), error))
                if (entry.path().filename().string().rfind(name, 0) == 0)
                    dlopen(entry.path().c_str(), LOAD_FLAGS);
        handle = dlopen(file.c_str(), LOAD_FLAGS);
    }
    if (handle == NULL)
        problem = dlerror();
    return handle;
}

EngineLibrary::EngineLibrary(const string& name, const vector<Place>& places, const vector<string>& neighbours, const string& remedy) :
        name(name), handle(NULL) {
    string searched, problem;
    for (const Place& place : places) {
        if (place.file.empty())
            problem = place.reason;
        else
            handle = tryLoad(place.file, neighbours, problem);
        if (handle != NULL)
            break;
        searched += "\n  "+place.name+": "+problem;
    }
    if (handle == NULL)
        throw OpenMMException("XtbForce: "+name+" could not be loaded.  "+remedy+"  Searched, in this order:"+searched);
    struct link_map* map;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0) {
        error_code error;
        path = filesystem::canonical(map->l_name, error).string();
        if (error)
            path = map->l_name;
    }
    ompSetNumThreads = reinterpret_cast<void (*)(int)>(find("omp_set_num_threads"));
    ompGetMaxThreads = reinterpret_cast<int (*)()>(find("omp_get_max_threads"));
    openblasSetNumThreads = reinterpret_cast<void (*)(int)>(find("openblas_set_num_threads"));
}

void* EngineLibrary::find(const char* function) const {
    return dlsym(handle, function);
}

void EngineLibrary::failLookUp(const char* function) const {
    throw OpenMMException("XtbForce: "+path+" has no function "+function+"; expected "+name+" "+oldestVersion+" or later.");
}

EngineLibrary::ThreadCountGuard::ThreadCountGuard(const EngineLibrary& library, int numThreads) : library(library), previous(0) {
    if (library.ompSetNumThreads != NULL && library.ompGetMaxThreads != NULL) {
        previous = library.ompGetMaxThreads();
        library.ompSetNumThreads(numThreads);
    }
    if (library.openblasSetNumThreads != NULL)
        library.openblasSetNumThreads(numThreads);
}

EngineLibrary::ThreadCountGuard::~ThreadCountGuard() {
    if (previous > 0)
        library.ompSetNumThreads(previous);
}
