#include "openmmkstep/internal/TemporaryFolder.h"
#include "openmm/OpenMMException.h"
#include <cstdlib>
#include <filesystem>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

TemporaryFolder::TemporaryFolder(const string& owner, const string& purpose) {
    const char* variable = getenv("TMPDIR");
    string parent = (variable == NULL || *variable == 0 ? "/tmp" : variable);
    // Absolute, since the working directory may change before the folder is removed.
    error_code error;
    path = (filesystem::absolute(parent, error)/"openmmkstep-XXXXXX").string();
    if (mkdtemp(&path[0]) == NULL)
        throw OpenMMException(owner+": no temporary folder for "+purpose+" can be made in "+parent+".  Set TMPDIR to a folder that can be written.");
}

TemporaryFolder::~TemporaryFolder() {
    error_code error;
    filesystem::remove_all(path, error);
}
