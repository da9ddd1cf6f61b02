#include "openmmkstep/internal/LibxtbCalculator.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/TemporaryFolder.h"
#include "openmm/OpenMMException.h"
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

/**
 * GFN-FF writes its topology into the working directory and prints although muted.  While this object lives the
 * process works in a temporary directory and standard output goes nowhere.
 */
class QuietDirectoryGuard {
public:
    explicit QuietDirectoryGuard(const LibxtbLibrary& lib) : lib(lib), folder("XtbForce", "GFN-FF"), original(filesystem::current_path()), savedStdout(-1) {
        filesystem::current_path(folder.getPath());
        fflush(stdout);
        savedStdout = dup(STDOUT_FILENO);
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            dup2(null, STDOUT_FILENO);
            close(null);
        }
    }
    ~QuietDirectoryGuard() {
        fflush(stdout);
        if (lib.flushFortran != NULL)
            lib.flushFortran(NULL); // else its buffer is written to the real output, at exit at the latest
        if (savedStdout >= 0) {
            dup2(savedStdout, STDOUT_FILENO);
            close(savedStdout);
        }
        error_code error;
        filesystem::current_path(original, error);
    }
private:
    const LibxtbLibrary& lib;
    TemporaryFolder folder;
    filesystem::path original;
    int savedStdout;
};

} // namespace

LibxtbCalculator::LibxtbCalculator(const XtbForce& force, const LibxtbLibrary& library) : XtbCalculator(force, library), lib(library),
        env(NULL), mol(NULL), calc(NULL), results(NULL), hasExternalCharges(false) {
}

LibxtbCalculator::~LibxtbCalculator() {
    lock_guard<mutex> lock(lib.getMutex());
    deleteHandles();
}

bool LibxtbCalculator::fetchError(string& error) {
    if (lib.checkEnvironment(env) == 0)
        return false;
    vector<char> buffer(2048, '\0');
    int size = buffer.size()-1;
    lib.getError(env, buffer.data(), &size);
    error = buffer.data();
    return true;
}

/**
 * Create the molecule at the positions in qmX.  GFN-FF takes its topology, and with it the potential, from the first
 * geometry it sees; when the handles are made anew after a failure it must be the same one.
 */
void LibxtbCalculator::createHandles() {
    env = lib.newEnvironment();
    lib.setVerbosity(env, 0);
    int numAtoms = numbers.size();
    const vector<double>& x = (method != "GFN-FF" || firstX.empty() ? qmX : firstX);
    mol = lib.newMolecule(env, &numAtoms, numbers.data(), x.data(), &charge, &unpairedElectrons, NULL, NULL);
    string error;
    if (fetchError(error)) {
        deleteHandles();
        // Charge and spin are checked beforehand: what is refused here is a geometry, such as two atoms in one place.
        throw ConvergenceError("XtbForce: libxtb does not accept the molecule at the current positions: "+error);
    }
    calc = lib.newCalculator();
    if (method == "GFN1-xTB")
        lib.loadGFN1xTB(env, mol, calc, NULL);
    else if (method == "GFN2-xTB")
        lib.loadGFN2xTB(env, mol, calc, NULL);
    else {
        QuietDirectoryGuard guard(lib);
        lib.loadGFNFF(env, mol, calc, NULL);
    }
    if (!fetchError(error)) {
        lib.setAccuracy(env, calc, accuracy);
        if (method != "GFN-FF") {
            lib.setMaxIter(env, calc, maxIterations);
            lib.setElectronicTemp(env, calc, electronicTemperature);
        }
    }
    if (!error.empty() || fetchError(error)) {
        deleteHandles();
        throw OpenMMException("XtbForce: libxtb could not set up "+method+" for this molecule: "+error);
    }
    results = lib.newResults();
    if (method != "GFN-FF")
        return;
    if (firstX.empty())
        firstX = qmX;
    else
        lib.updateMolecule(env, mol, qmX.data(), NULL);
}

void LibxtbCalculator::deleteHandles() {
    if (env == NULL)
        return;
    if (results != NULL)
        lib.delResults(&results);
    if (calc != NULL)
        lib.delCalculator(&calc);
    if (mol != NULL)
        lib.delMolecule(&mol);
    lib.delEnvironment(&env);
    env = mol = calc = results = NULL;
    hasExternalCharges = false;
}

bool LibxtbCalculator::tryCompute(const vector<double>& charges, const vector<int>& chargeNumbers, double& energy, string& error) {
    if (env == NULL)
        createHandles();
    else
        lib.updateMolecule(env, mol, qmX.data(), NULL);
    int numCharges = charges.size();
    // The charges of the last call stay until there are new ones, also if these are none.
    if (numCharges > 0 || hasExternalCharges)
        lib.setExternalCharges(env, calc, &numCharges, const_cast<int*>(chargeNumbers.data()), const_cast<double*>(charges.data()), mmX.data());
    hasExternalCharges = (numCharges > 0);
    lib.singlepoint(env, mol, calc, results);
    if (fetchError(error))
        return false;
    lib.getEnergy(env, results, &energy);
    lib.getGradient(env, results, qmGradient.data());
    if (numCharges > 0)
        lib.getPCGradient(env, results, mmGradient.data());
    return !fetchError(error);
}

vector<double> LibxtbCalculator::fetchPartialCharges() const {
    vector<double> charges(numbers.size());
    lib.getCharges(env, results, charges.data());
    if (lib.checkEnvironment(env) != 0)
        throw OpenMMException("XtbForce: "+method+" gives no partial charges.");
    return charges;
}
