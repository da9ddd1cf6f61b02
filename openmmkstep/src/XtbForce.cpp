#include "openmmkstep/XtbForce.h"
#include "openmmkstep/internal/LibxtbLibrary.h"
#include "openmmkstep/internal/TbliteLibrary.h"
#include "openmmkstep/internal/XtbCalculator.h"
#include "openmmkstep/internal/XtbForceImpl.h"
#include "openmmkstep/internal/XtbShells.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

XtbForce::XtbForce(const string& method, const vector<int>& particles, const vector<int>& atomicNumbers, int charge, int multiplicity) :
        QMRegionForce(particles), method(method), engine("auto"), atomicNumbers(atomicNumbers), charge(charge), multiplicity(multiplicity),
        maxIterations(250), numThreads(1), accuracy(0.05), electronicTemperature(300) {
    if (method != "GFN1-xTB" && method != "GFN2-xTB" && method != "GFN-FF")
        throw OpenMMException("XtbForce: expected the method 'GFN1-xTB', 'GFN2-xTB' or 'GFN-FF', found '"+method+"'.");
    if (particles.size() != atomicNumbers.size())
        throw OpenMMException("XtbForce: expected one atomic number for each particle, found "+to_string(particles.size())+" particles and "+to_string(atomicNumbers.size())+" atomic numbers.");
    for (int number : atomicNumbers)
        if (number < 1 || number > 86)
            throw OpenMMException("XtbForce: atomic numbers must be from 1 to 86, found "+to_string(number)+".");
    if (multiplicity < 1)
        throw OpenMMException("XtbForce: the multiplicity 2S+1 must be at least 1, found "+to_string(multiplicity)+".");
}

void XtbForce::setEngine(const string& engine) {
    if (engine != "auto" && engine != "libxtb" && engine != "tblite")
        throw OpenMMException("XtbForce: expected the engine 'auto', 'libxtb' or 'tblite', found '"+engine+"'.");
    this->engine = engine;
}

string XtbForce::findEngine() const {
    return XtbCalculator::findLibrary(*this).getName();
}

void XtbForce::setAccuracy(double accuracy) {
    if (!(accuracy >= 1e-4 && accuracy <= 1000))
        throw OpenMMException("XtbForce: the accuracy must be between 0.0001 and 1000.");
    this->accuracy = accuracy;
}

void XtbForce::setElectronicTemperature(double temperature) {
    if (!(temperature > 0))
        throw OpenMMException("XtbForce: the electronic temperature must be positive.");
    electronicTemperature = temperature;
}

void XtbForce::setMaxIterations(int iterations) {
    if (iterations < 1)
        throw OpenMMException("XtbForce: the number of SCF iterations must be at least 1.");
    maxIterations = iterations;
}

void XtbForce::setNumThreads(int threads) {
    if (threads < 1)
        throw OpenMMException("XtbForce: the number of threads must be at least 1.");
    numThreads = threads;
}

void XtbForce::getPartialCharges(Context& context, vector<double>& charges) {
    charges = dynamic_cast<XtbForceImpl&>(getImplInContext(context)).getPartialCharges(getContextImpl(context));
}

void XtbForce::computeQMRegion(Context& context, const vector<double>& dampingLengths, vector<Vec3>& positions, double& energy,
                               vector<Vec3>& forces, vector<double>& charges, vector<double>& potentials, vector<Vec3>& potentialGradients) {
    dynamic_cast<XtbForceImpl&>(getImplInContext(context)).computeQMRegion(getContextImpl(context), dampingLengths, positions, energy, forces, charges, potentials, potentialGradients);
}

double XtbForce::getElementHardness(const string& method, int atomicNumber) {
    if (method != "GFN1-xTB" && method != "GFN2-xTB")
        throw OpenMMException("XtbForce: expected the method 'GFN1-xTB' or 'GFN2-xTB', found '"+method+"'.");
    if (atomicNumber < 1 || atomicNumber > 86)
        throw OpenMMException("XtbForce: atomic numbers must be from 1 to 86, found "+to_string(atomicNumber)+".");
    return XtbShells::get(method == "GFN1-xTB", atomicNumber).hardness;
}

static void checkEngine(const string& engine) {
    if (engine != "libxtb" && engine != "tblite")
        throw OpenMMException("XtbForce: expected the engine 'libxtb' or 'tblite', found '"+engine+"'.");
}

void XtbForce::getEngineInfo(const string& engine, string& version, string& file) {
    checkEngine(engine);
    const EngineLibrary& library = (engine == "libxtb" ? static_cast<const EngineLibrary&>(LibxtbLibrary::get()) : TbliteLibrary::get());
    version = library.getVersion();
    file = library.getPath();
}

void XtbForce::getEnginePlaces(const string& engine, vector<string>& names, vector<string>& files) {
    checkEngine(engine);
    names.clear();
    files.clear();
    for (const EngineLibrary::Place& place : (engine == "libxtb" ? LibxtbLibrary::getPlaces() : TbliteLibrary::getPlaces())) {
        names.push_back(place.name);
        files.push_back(place.file);
    }
}

void XtbForce::setPackageFile(const string& engine, const string& file) {
    checkEngine(engine);
    if (engine == "libxtb")
        LibxtbLibrary::setPackageFile(file);
    else
        TbliteLibrary::setPackageFile(file);
}

ForceImpl* XtbForce::createImpl() const {
    return new XtbForceImpl(*this);
}
