#include "openmmkstep/internal/TbliteLibrary.h"

using namespace OpenMMKStep;
using namespace std;

static string& packageFile() {
    static string file;
    return file;
}

void TbliteLibrary::setPackageFile(const string& file) {
    packageFile() = file;
}

vector<EngineLibrary::Place> TbliteLibrary::getPlaces() {
    return listPlaces("OPENMMKSTEP_LIBTBLITE", "tblite", packageFile(), "libtblite.so.0");
}

const TbliteLibrary& TbliteLibrary::get() {
    static const TbliteLibrary library;
    return library;
}

TbliteLibrary::TbliteLibrary() : EngineLibrary("tblite", getPlaces(), {},
        "Install it with 'pip install tblite', or set the environment variable OPENMMKSTEP_LIBTBLITE to the path of the library.") {
    oldestVersion = "0.3";
    int (*getVersion)();
    lookUp("tblite_get_version", getVersion);
    int number = getVersion();
    version = to_string(number/10000)+"."+to_string(number/100%100)+"."+to_string(number%100);
    lookUp("tblite_new_error", newError);
    lookUp("tblite_delete_error", deleteError);
    lookUp("tblite_check_error", checkError);
    lookUp("tblite_get_error", getError);
    lookUp("tblite_new_context", newContext);
    lookUp("tblite_delete_context", deleteContext);
    lookUp("tblite_check_context", checkContext);
    lookUp("tblite_get_context_error", getContextError);
    lookUp("tblite_set_context_verbosity", setContextVerbosity);
    lookUp("tblite_new_structure", newStructure);
    lookUp("tblite_delete_structure", deleteStructure);
    lookUp("tblite_update_structure_geometry", updateStructureGeometry);
    lookUp("tblite_new_gfn1_calculator", newGFN1Calculator);
    lookUp("tblite_new_gfn2_calculator", newGFN2Calculator);
    lookUp("tblite_delete_calculator", deleteCalculator);
    lookUp("tblite_set_calculator_accuracy", setCalculatorAccuracy);
    lookUp("tblite_set_calculator_max_iter", setCalculatorMaxIter);
    lookUp("tblite_set_calculator_temperature", setCalculatorTemperature);
    lookUp("tblite_new_result", newResult);
    lookUp("tblite_delete_result", deleteResult);
    lookUp("tblite_get_singlepoint", getSinglepoint);
    lookUp("tblite_get_result_energy", getResultEnergy);
    lookUp("tblite_get_result_gradient", getResultGradient);
    lookUp("tblite_get_result_charges", getResultCharges);
}
