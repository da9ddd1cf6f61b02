#include "openmmkstep/internal/XtbLibrary.h"
#include "openmm/OpenMMException.h"
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <vector>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// DEEPBIND: xtb must use the OpenMP and BLAS it was built with, not those of torch that may be in the process.
static const int LOAD_FLAGS = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;

static string& configuredPath() {
    static string path;
    return path;
}

void XtbLibrary::setPath(const string& path) {
    configuredPath() = path;
}

mutex& XtbLibrary::getMutex() {
    static mutex m;
    return m;
}

const XtbLibrary& XtbLibrary::get() {
    static const XtbLibrary library;
    return library;
}

/**
 * The libxtb of the PyPI package xtb finds the libraries it needs only if they are loaded already (its RPATH is
 * relative to a Python extension module).  They lie in the same folder; the order is that of their dependencies.
 */
static void loadNeighbours(const filesystem::path& library) {
    error_code error;
    for (const char* name : {"libquadmath", "libgfortran", "libmctc-lib", "libgomp", "libopenblas"})
        for (const auto& entry : filesystem::directory_iterator(library.parent_path(), error))
            if (entry.path().filename().string().rfind(name, 0) == 0)
                dlopen(entry.path().c_str(), LOAD_FLAGS);
}

static void* load() {
    vector<string> candidates;
    const char* variable = getenv("OPENMMKSTEP_LIBXTB");
    if (variable != NULL)
        candidates.push_back(variable);
    else {
        if (!configuredPath().empty())
            candidates.push_back(configuredPath());
        candidates.push_back("libxtb.so.6");
    }
    string errors;
    for (const string& candidate : candidates) {
        if (candidate.find('/') != string::npos)
            loadNeighbours(candidate);
        void* handle = dlopen(candidate.c_str(), LOAD_FLAGS);
        if (handle != NULL)
            return handle;
        errors += string("\n  ")+dlerror();
    }
    throw OpenMMException("XtbForce: libxtb could not be loaded.  Install it with 'pip install xtb' (Python 3.11 or older) or as libxtb6 of the system, or set the environment variable OPENMMKSTEP_LIBXTB to the path of the library.  Tried:"+errors);
}

template <class T>
static void lookUp(void* handle, const char* name, T& function) {
    function = reinterpret_cast<T>(dlsym(handle, name));
    if (function == NULL)
        throw OpenMMException(string("XtbForce: the libxtb that was found has no function ")+name+"; expected libxtb 6.5 or later.");
}

XtbLibrary::XtbLibrary() {
    void* handle = load();
    lookUp(handle, "xtb_newEnvironment", newEnvironment);
    lookUp(handle, "xtb_delEnvironment", delEnvironment);
    lookUp(handle, "xtb_checkEnvironment", checkEnvironment);
    lookUp(handle, "xtb_getError", getError);
    lookUp(handle, "xtb_setVerbosity", setVerbosity);
    lookUp(handle, "xtb_newMolecule", newMolecule);
    lookUp(handle, "xtb_delMolecule", delMolecule);
    lookUp(handle, "xtb_updateMolecule", updateMolecule);
    lookUp(handle, "xtb_newCalculator", newCalculator);
    lookUp(handle, "xtb_delCalculator", delCalculator);
    lookUp(handle, "xtb_loadGFN1xTB", loadGFN1xTB);
    lookUp(handle, "xtb_loadGFN2xTB", loadGFN2xTB);
    lookUp(handle, "xtb_loadGFNFF", loadGFNFF);
    lookUp(handle, "xtb_setExternalCharges", setExternalCharges);
    lookUp(handle, "xtb_setAccuracy", setAccuracy);
    lookUp(handle, "xtb_setMaxIter", setMaxIter);
    lookUp(handle, "xtb_setElectronicTemp", setElectronicTemp);
    lookUp(handle, "xtb_singlepoint", singlepoint);
    lookUp(handle, "xtb_newResults", newResults);
    lookUp(handle, "xtb_delResults", delResults);
    lookUp(handle, "xtb_getEnergy", getEnergy);
    lookUp(handle, "xtb_getGradient", getGradient);
    lookUp(handle, "xtb_getPCGradient", getPCGradient);
    lookUp(handle, "xtb_getCharges", getCharges);
    lookUp(handle, "xtb_getNao", getNao);
    lookUp(handle, "xtb_getOrbitalOccupations", getOrbitalOccupations);
    lookUp(handle, "xtb_getOrbitalCoefficients", getOrbitalCoefficients);
    ompSetNumThreads = reinterpret_cast<void (*)(int)>(dlsym(handle, "omp_set_num_threads"));
    ompGetMaxThreads = reinterpret_cast<int (*)()>(dlsym(handle, "omp_get_max_threads"));
    flushFortran = reinterpret_cast<void (*)(const int*)>(dlsym(handle, "_gfortran_flush_i4"));
    openblasSetNumThreads = reinterpret_cast<void (*)(int)>(dlsym(handle, "openblas_set_num_threads"));
}
