#include "openmmkstep/internal/TbliteCalculator.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

TbliteCalculator::TbliteCalculator(const XtbForce& force, const TbliteLibrary& library) : XtbCalculator(force, library), lib(library),
        error(NULL), context(NULL), structure(NULL), calculator(NULL), result(NULL) {
}

TbliteCalculator::~TbliteCalculator() {
    lock_guard<mutex> lock(lib.getMutex());
    deleteHandles();
}

/** Errors are in the one handle or the other.  They stay there, so the handles must be deleted after one. */
bool TbliteCalculator::fetchError(string& message) const {
    vector<char> buffer(2048, '\0');
    int size = buffer.size();
    if (lib.checkError(error) != 0)
        lib.getError(error, buffer.data(), &size);
    else if (lib.checkContext(context) != 0)
        lib.getContextError(context, buffer.data(), &size);
    else
        return false;
    message = buffer.data();
    return true;
}

void TbliteCalculator::createHandles() {
    error = lib.newError();
    context = lib.newContext();
    lib.setContextVerbosity(context, 0);
    structure = lib.newStructure(error, numbers.size(), numbers.data(), qmX.data(), &charge, &unpairedElectrons, NULL, NULL);
    string message;
    if (fetchError(message)) {
        deleteHandles();
        // Charge and spin are checked beforehand: what is refused here is a geometry.
        throw ConvergenceError("XtbForce: tblite does not accept the molecule at the current positions: "+message);
    }
    calculator = (method == "GFN1-xTB" ? lib.newGFN1Calculator : lib.newGFN2Calculator)(context, structure, NULL);
    if (!fetchError(message)) {
        lib.setCalculatorAccuracy(context, calculator, accuracy);
        lib.setCalculatorMaxIter(context, calculator, maxIterations);
        lib.setCalculatorTemperature(context, calculator, electronicTemperature*HARTREE_PER_KELVIN);
    }
    if (!message.empty() || fetchError(message)) {
        deleteHandles();
        throw OpenMMException("XtbForce: tblite could not set up "+method+" for this molecule: "+message);
    }
    result = lib.newResult();
}

void TbliteCalculator::deleteHandles() {
    if (context == NULL)
        return;
    if (result != NULL)
        lib.deleteResult(&result);
    if (calculator != NULL)
        lib.deleteCalculator(&calculator);
    if (structure != NULL)
        lib.deleteStructure(&structure);
    lib.deleteContext(&context);
    lib.deleteError(&error);
    error = context = structure = calculator = result = NULL;
}

bool TbliteCalculator::tryCompute(const vector<double>& charges, const vector<int>& chargeNumbers, double& energy, string& message) {
    if (context == NULL)
        createHandles();
    else
        lib.updateStructureGeometry(error, structure, qmX.data(), NULL);
    if (fetchError(message))
        return false;
    lib.getSinglepoint(context, structure, calculator, result);
    if (fetchError(message))
        return false;
    lib.getResultEnergy(error, result, &energy);
    lib.getResultGradient(error, result, qmGradient.data());
    return !fetchError(message);
}

vector<double> TbliteCalculator::fetchPartialCharges() const {
    vector<double> charges(numbers.size());
    lib.getResultCharges(error, result, charges.data());
    if (lib.checkError(error) != 0)
        throw OpenMMException("XtbForce: tblite gives no partial charges.");
    return charges;
}
