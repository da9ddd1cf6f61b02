#include "openmmkstep/internal/XtbCalculator.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/LibxtbCalculator.h"
#include "openmmkstep/internal/TbliteCalculator.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <cstdlib>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

/**
 * A proper rotation by generic angles.  libxtb 6.5.1 returns wrong gradients (by hundreds of kJ/mol/nm) when two atoms
 * share coordinates along an axis, as every molecule built by hand does; in a rotated frame that does not happen.  tblite
 * does not need it, but with it no engine sees another frame than the other.
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
void toAtomicUnits(const vector<Vec3>& positions, const Vec3& origin, vector<double>& x) {
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

/** What tblite cannot do of what a force asks for, or an empty string. */
string findObstacle(const XtbForce& force) {
    if (force.getMethod() == "GFN-FF")
        return "tblite has no GFN-FF";
    int numCharges = force.getNumEmbeddingCharges()+force.getNumVirtualCharges();
    if (numCharges > 0)
        return "tblite has no point charges, but the QM region is embedded in "+to_string(numCharges)+" of them";
    return "";
}

} // namespace

const EngineLibrary& XtbCalculator::findLibrary(const XtbForce& force) {
    const string& engine = force.getEngine();
    string obstacle = findObstacle(force);
    if (engine == "libxtb")
        return LibxtbLibrary::get();
    if (engine == "tblite") {
        if (!obstacle.empty())
            throw OpenMMException("XtbForce: "+obstacle+".  Use the engine libxtb (setEngine(\"libxtb\")), or with GFN1-xTB or GFN2-xTB no electrostatic embedding (createQMMMSystem(..., embedding=\"mechanical\")).");
        return TbliteLibrary::get();
    }
    try {
        return LibxtbLibrary::get();
    }
    catch (const OpenMMException& e) {
        // Who names a libxtb wants no other engine.
        const char* variable = getenv("OPENMMKSTEP_LIBXTB");
        if (variable != NULL && *variable != 0)
            throw;
        if (!obstacle.empty())
            throw OpenMMException(string(e.what())+"\nThe other engine cannot take its place: "+obstacle+".");
        try {
            return TbliteLibrary::get();
        }
        catch (const OpenMMException& e2) {
            throw OpenMMException(string(e.what())+"\n"+e2.what());
        }
    }
}

unique_ptr<XtbCalculator> XtbCalculator::create(const XtbForce& force) {
    if (findLibrary(force).getName() == "libxtb")
        return unique_ptr<XtbCalculator>(new LibxtbCalculator(force, LibxtbLibrary::get()));
    return unique_ptr<XtbCalculator>(new TbliteCalculator(force, TbliteLibrary::get()));
}

XtbCalculator::XtbCalculator(const XtbForce& force, const EngineLibrary& library) : method(force.getMethod()), numbers(force.getAtomicNumbers()),
        charge(force.getCharge()), accuracy(force.getAccuracy()), electronicTemperature(force.getElectronicTemperature()),
        unpairedElectrons(force.getMultiplicity()-1), maxIterations(force.getMaxIterations()), library(library), numThreads(force.getNumThreads()) {
    numbers.resize(numbers.size()+force.getNumLinkAtoms(), 1);
}

bool XtbCalculator::tryComputeFinite(Embedding& embedding, double& energy, string& error) {
    if (!tryCompute(embedding.getMMCharges(), embedding.getMMAtomicNumbers(), energy, error))
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
    lock_guard<mutex> lock(library.getMutex());
    EngineLibrary::ThreadCountGuard threads(library, numThreads);
    Vec3 origin = embedding.getQMPositions()[0];
    toAtomicUnits(embedding.getQMPositions(), origin, qmX);
    toAtomicUnits(embedding.getMMPositions(), origin, mmX);
    qmGradient.resize(qmX.size());
    mmGradient.resize(mmX.size());
    double energy;
    string error;
    bool wasWarm = hasHandles();
    bool success = tryComputeFinite(embedding, energy, error);
    if (!success && wasWarm) {
        deleteHandles();
        success = tryComputeFinite(embedding, energy, error);
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
    lock_guard<mutex> lock(library.getMutex());
    deleteHandles();
}

vector<double> XtbCalculator::getPartialCharges() const {
    lock_guard<mutex> lock(library.getMutex());
    if (!hasHandles())
        throw OpenMMException("XtbForce: there is no calculation to take charges from.");
    return fetchPartialCharges();
}
