#include "openmmkstep/internal/XtbCalculator.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

/**
 * A proper rotation by generic angles.  libxtb 6.5.1 returns wrong gradients (by hundreds of kJ/mol/nm) when two atoms
 * share coordinates along an axis, as every molecule built by hand does; in a rotated frame that does not happen.
 */
struct Rotation {
    double m[3][3];
    Rotation() {
        const double a = 0.7391, b = 1.1733, c = -2.0917; // z-y-z Euler angles
        const double ca = cos(a), sa = sin(a), cb = cos(b), sb = sin(b), cc = cos(c), sc = sin(c);
        const double values[3][3] = {{ca*cb*cc-sa*sc, -ca*cb*sc-sa*cc, ca*sb},
                                     {sa*cb*cc+ca*sc, -sa*cb*sc+ca*cc, sa*sb},
                                     {-sb*cc, sb*sc, cb}};
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                m[i][j] = values[i][j];
    }
};

const Rotation rotation;

/** Positions in nm relative to an origin, to rotated ones in bohr. */
void toXtb(const vector<Vec3>& positions, const Vec3& origin, vector<double>& x) {
    x.resize(3*positions.size());
    for (size_t i = 0; i < positions.size(); i++) {
        Vec3 p = (positions[i]-origin)*BOHR_PER_NM;
        for (int j = 0; j < 3; j++)
            x[3*i+j] = rotation.m[j][0]*p[0]+rotation.m[j][1]*p[1]+rotation.m[j][2]*p[2];
    }
}

/** Subtract a rotated gradient in Hartree/bohr from forces in kJ/mol/nm. */
void subtractGradient(const vector<double>& gradient, vector<Vec3>& forces) {
    for (size_t i = 0; i < forces.size(); i++)
        for (int j = 0; j < 3; j++)
            forces[i][j] -= FORCE_PER_AU*(rotation.m[0][j]*gradient[3*i]+rotation.m[1][j]*gradient[3*i+1]+rotation.m[2][j]*gradient[3*i+2]);
}

/** Restores the caller's thread count: torch or OpenMM may use the same OpenMP library. */
class ThreadCountGuard {
public:
    ThreadCountGuard(int numThreads) : lib(XtbLibrary::get()), previous(0) {
        if (lib.ompSetNumThreads != NULL && lib.ompGetMaxThreads != NULL) {
            previous = lib.ompGetMaxThreads();
            lib.ompSetNumThreads(numThreads);
        }
        if (lib.openblasSetNumThreads != NULL)
            lib.openblasSetNumThreads(numThreads);
    }
    ~ThreadCountGuard() {
        if (previous > 0)
            lib.ompSetNumThreads(previous);
    }
private:
    const XtbLibrary& lib;
    int previous;
};

/**
 * GFN-FF writes its topology into the working directory and prints although muted.  While this object lives the
 * process works in a temporary directory and standard output goes nowhere.
 */
class QuietDirectoryGuard {
public:
    QuietDirectoryGuard() : savedStdout(-1) {
        char name[] = "/tmp/openmmkstep-XXXXXX";
        if (mkdtemp(name) == NULL)
            throw OpenMMException("XtbForce: could not create a temporary directory for GFN-FF in /tmp.");
        directory = name;
        original = filesystem::current_path();
        filesystem::current_path(directory);
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
        if (XtbLibrary::get().flushFortran != NULL)
            XtbLibrary::get().flushFortran(NULL); // else its buffer is written to the real output, at exit at the latest
        if (savedStdout >= 0) {
            dup2(savedStdout, STDOUT_FILENO);
            close(savedStdout);
        }
        error_code error;
        filesystem::current_path(original, error);
        filesystem::remove_all(directory, error);
    }
private:
    filesystem::path directory, original;
    int savedStdout;
};

} // namespace

XtbCalculator::XtbCalculator(const XtbForce& force) : env(NULL), mol(NULL), calc(NULL), results(NULL), method(force.getMethod()),
        numbers(force.getAtomicNumbers()), charge(force.getCharge()), accuracy(force.getAccuracy()),
        electronicTemperature(force.getElectronicTemperature()), unpairedElectrons(force.getMultiplicity()-1),
        maxIterations(force.getMaxIterations()), numThreads(force.getNumThreads()), hasExternalCharges(false) {
    numbers.resize(numbers.size()+force.getNumLinkAtoms(), 1);
    XtbLibrary::get();
}

XtbCalculator::~XtbCalculator() {
    lock_guard<mutex> lock(XtbLibrary::getMutex());
    deleteHandles();
}

bool XtbCalculator::fetchError(string& error) {
    const XtbLibrary& lib = XtbLibrary::get();
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
void XtbCalculator::createHandles() {
    const XtbLibrary& lib = XtbLibrary::get();
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
        QuietDirectoryGuard guard;
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

void XtbCalculator::deleteHandles() {
    if (env == NULL)
        return;
    const XtbLibrary& lib = XtbLibrary::get();
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

bool XtbCalculator::tryCompute(Embedding& embedding, double& energy, string& error) {
    const XtbLibrary& lib = XtbLibrary::get();
    if (env == NULL)
        createHandles();
    else
        lib.updateMolecule(env, mol, qmX.data(), NULL);
    int numCharges = embedding.getMMCharges().size();
    // The charges of the last call stay until there are new ones, also if these are none.
    if (numCharges > 0 || hasExternalCharges)
        lib.setExternalCharges(env, calc, &numCharges, const_cast<int*>(embedding.getMMAtomicNumbers().data()),
                               const_cast<double*>(embedding.getMMCharges().data()), mmX.data());
    hasExternalCharges = (numCharges > 0);
    lib.singlepoint(env, mol, calc, results);
    if (fetchError(error))
        return false;
    lib.getEnergy(env, results, &energy);
    qmGradient.resize(qmX.size());
    lib.getGradient(env, results, qmGradient.data());
    if (numCharges > 0) {
        mmGradient.resize(mmX.size());
        lib.getPCGradient(env, results, mmGradient.data());
    }
    if (fetchError(error))
        return false;
    // A NaN would otherwise poison the wavefunction that the next call starts from.
    double sum = energy;
    for (double g : qmGradient)
        sum += g;
    if (!isfinite(sum)) {
        error = "the energy or gradient is not a finite number";
        return false;
    }
    return true;
}

double XtbCalculator::compute(Embedding& embedding) {
    lock_guard<mutex> lock(XtbLibrary::getMutex());
    ThreadCountGuard threads(numThreads);
    Vec3 origin = embedding.getQMPositions()[0];
    toXtb(embedding.getQMPositions(), origin, qmX);
    toXtb(embedding.getMMPositions(), origin, mmX);
    double energy;
    string error;
    bool wasWarm = (env != NULL);
    bool success = tryCompute(embedding, energy, error);
    if (!success && wasWarm) {
        deleteHandles();
        success = tryCompute(embedding, energy, error);
    }
    if (!success) {
        deleteHandles();
        throw ConvergenceError("XtbForce: "+method+" failed at the current positions, from a cold start too: "+error+"  The geometry may be unreasonable (atoms too close, a step that was too long); otherwise try more iterations (setMaxIterations) or a higher electronic temperature (setElectronicTemperature).");
    }
    subtractGradient(qmGradient, embedding.getQMForces());
    if (embedding.getMMCharges().size() > 0)
        subtractGradient(mmGradient, embedding.getMMForces());
    addChargePotential(embedding);
    return energy*KJ_PER_HARTREE;
}

void XtbCalculator::dropWarmStart() {
    if (method == "GFN-FF")
        return;
    lock_guard<mutex> lock(XtbLibrary::getMutex());
    deleteHandles();
}

vector<double> XtbCalculator::getPartialCharges() const {
    lock_guard<mutex> lock(XtbLibrary::getMutex());
    if (env == NULL)
        throw OpenMMException("XtbForce: there is no calculation to take charges from.");
    vector<double> charges(numbers.size());
    XtbLibrary::get().getCharges(env, results, charges.data());
    if (XtbLibrary::get().checkEnvironment(env) != 0)
        throw OpenMMException("XtbForce: "+method+" gives no partial charges.");
    return charges;
}
