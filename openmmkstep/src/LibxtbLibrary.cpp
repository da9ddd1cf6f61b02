#include "openmmkstep/internal/LibxtbLibrary.h"
#include <cctype>

using namespace OpenMMKStep;
using namespace std;

static string& packageFile() {
    static string file;
    return file;
}

void LibxtbLibrary::setPackageFile(const string& file) {
    packageFile() = file;
}

vector<EngineLibrary::Place> LibxtbLibrary::getPlaces() {
    return listPlaces("OPENMMKSTEP_LIBXTB", "xtb", packageFile(), "libxtb.so.6");
}

const LibxtbLibrary& LibxtbLibrary::get() {
    static const LibxtbLibrary library;
    return library;
}

/** The API tells no version, but the file does: libxtb.so.6.5.1. */
static string versionInName(const string& path) {
    size_t end = path.rfind(".so.");
    if (end == string::npos || end+4 == path.size() || !isdigit(path[end+4]))
        return "";
    return path.substr(end+4);
}

// The libxtb of the PyPI package finds the libraries it needs only if they are loaded already: its RPATH is relative to a
// Python extension module.  They lie in the same folder; the order is that of their dependencies.
LibxtbLibrary::LibxtbLibrary() : EngineLibrary("libxtb", getPlaces(),
        {"libquadmath", "libgfortran", "libmctc-lib", "libgomp", "libopenblas"},
        "Install it with 'pip install xtb' (Python 3.11 or older), as Debian's libxtb6 or conda-forge's xtb, or set the environment variable OPENMMKSTEP_LIBXTB to the path of the library.") {
    version = versionInName(getPath());
    oldestVersion = "6.5";
    lookUp("xtb_newEnvironment", newEnvironment);
    lookUp("xtb_delEnvironment", delEnvironment);
    lookUp("xtb_checkEnvironment", checkEnvironment);
    lookUp("xtb_getError", getError);
    lookUp("xtb_setVerbosity", setVerbosity);
    lookUp("xtb_newMolecule", newMolecule);
    lookUp("xtb_delMolecule", delMolecule);
    lookUp("xtb_updateMolecule", updateMolecule);
    lookUp("xtb_newCalculator", newCalculator);
    lookUp("xtb_delCalculator", delCalculator);
    lookUp("xtb_loadGFN1xTB", loadGFN1xTB);
    lookUp("xtb_loadGFN2xTB", loadGFN2xTB);
    lookUp("xtb_loadGFNFF", loadGFNFF);
    lookUp("xtb_setExternalCharges", setExternalCharges);
    lookUp("xtb_setAccuracy", setAccuracy);
    lookUp("xtb_setMaxIter", setMaxIter);
    lookUp("xtb_setElectronicTemp", setElectronicTemp);
    lookUp("xtb_singlepoint", singlepoint);
    lookUp("xtb_newResults", newResults);
    lookUp("xtb_delResults", delResults);
    lookUp("xtb_getEnergy", getEnergy);
    lookUp("xtb_getGradient", getGradient);
    lookUp("xtb_getPCGradient", getPCGradient);
    lookUp("xtb_getCharges", getCharges);
    lookUp("xtb_getNao", getNao);
    lookUp("xtb_getOrbitalOccupations", getOrbitalOccupations);
    lookUp("xtb_getOrbitalCoefficients", getOrbitalCoefficients);
    flushFortran = reinterpret_cast<void (*)(const int*)>(find("_gfortran_flush_i4"));
}
