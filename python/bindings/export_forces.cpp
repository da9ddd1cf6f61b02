#include "exports.h"
#include "openmm_interop.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/XtbForce.h"
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

namespace py = pybind11;
using namespace OpenMMKStep;
using namespace std;

static void exportQMRegionForce(py::module_& m) {
    typedef QMRegionForce F;
    m.def("QMRegionForce_getNumParticles", method<F>(&F::getNumParticles));
    m.def("QMRegionForce_getParticles", method<F>(&F::getParticles));
    m.def("QMRegionForce_addEmbeddingCharge", method<F>(&F::addEmbeddingCharge));
    m.def("QMRegionForce_getNumEmbeddingCharges", method<F>(&F::getNumEmbeddingCharges));
    m.def("QMRegionForce_getEmbeddingChargeParameters", [](py::object self, int index) {
        int particle, atomicNumber;
        double charge;
        unwrap<F>(self).getEmbeddingChargeParameters(index, particle, charge, atomicNumber);
        return make_tuple(particle, charge, atomicNumber);
    });
    m.def("QMRegionForce_setEmbeddingChargeParameters", method<F>(&F::setEmbeddingChargeParameters));
    m.def("QMRegionForce_addLinkAtom", method<F>(&F::addLinkAtom));
    m.def("QMRegionForce_getNumLinkAtoms", method<F>(&F::getNumLinkAtoms));
    m.def("QMRegionForce_getLinkAtomParameters", [](py::object self, int index) {
        int qmParticle, mmParticle;
        double distance;
        unwrap<F>(self).getLinkAtomParameters(index, qmParticle, mmParticle, distance);
        return make_tuple(qmParticle, mmParticle, distance);
    });
    m.def("QMRegionForce_addVirtualCharge", method<F>(&F::addVirtualCharge));
    m.def("QMRegionForce_getNumVirtualCharges", method<F>(&F::getNumVirtualCharges));
    m.def("QMRegionForce_getVirtualChargeParameters", [](py::object self, int index) {
        vector<int> particles;
        vector<double> weights;
        double charge;
        int atomicNumber;
        unwrap<F>(self).getVirtualChargeParameters(index, particles, weights, charge, atomicNumber);
        return make_tuple(particles, weights, charge, atomicNumber);
    });
    m.def("QMRegionForce_setVirtualCharge", method<F>(&F::setVirtualCharge));
    m.def("QMRegionForce_addException", method<F>(&F::addException));
    m.def("QMRegionForce_getNumExceptions", method<F>(&F::getNumExceptions));
    m.def("QMRegionForce_getExceptionParameters", [](py::object self, int index) {
        int qmParticle, mmParticle;
        double chargeProduct;
        unwrap<F>(self).getExceptionParameters(index, qmParticle, mmParticle, chargeProduct);
        return make_tuple(qmParticle, mmParticle, chargeProduct);
    });
    m.def("QMRegionForce_setExceptionParameters", method<F>(&F::setExceptionParameters));
    m.def("QMRegionForce_addEmbeddingGroup", method<F>(&F::addEmbeddingGroup));
    m.def("QMRegionForce_getNumEmbeddingGroups", method<F>(&F::getNumEmbeddingGroups));
    m.def("QMRegionForce_getEmbeddingGroupParameters", [](py::object self, int index) {
        vector<int> particles;
        int center;
        bool switched;
        unwrap<F>(self).getEmbeddingGroupParameters(index, particles, center, switched);
        return make_tuple(particles, center, switched);
    });
    m.def("QMRegionForce_getCutoffDistance", method<F>(&F::getCutoffDistance));
    m.def("QMRegionForce_setCutoffDistance", method<F>(&F::setCutoffDistance));
    m.def("QMRegionForce_getSwitchingDistance", method<F>(&F::getSwitchingDistance));
    m.def("QMRegionForce_setSwitchingDistance", method<F>(&F::setSwitchingDistance));
    m.def("QMRegionForce_setUsesPeriodicBoundaryConditions", method<F>(&F::setUsesPeriodicBoundaryConditions));
    m.def("QMRegionForce_getFixedCharge", method<F>(&F::getFixedCharge));
    m.def("QMRegionForce_setFixedCharge", method<F>(&F::setFixedCharge));
    m.def("QMRegionForce_updateParametersInContext", [](py::object self, py::object context) {
        unwrap<F>(self).updateParametersInContext(contextOf(context));
    });
}

static py::array_t<double> toArray(const vector<OpenMM::Vec3>& vectors) {
    py::array_t<double> array({(py::ssize_t) vectors.size(), (py::ssize_t) 3});
    auto values = array.mutable_unchecked<2>();
    for (size_t i = 0; i < vectors.size(); i++)
        for (int j = 0; j < 3; j++)
            values(i, j) = vectors[i][j];
    return array;
}

static void exportXtbForce(py::module_& m) {
    typedef XtbForce F;
    m.def("XtbForce_create", [](const string& method, const vector<int>& particles, const vector<int>& numbers, int charge, int multiplicity) {
        return park(new XtbForce(method, particles, numbers, charge, multiplicity));
    });
    m.def("XtbForce_isInstance", [](py::object force) { return tryUnwrap<F>(force) != NULL; });
    m.def("XtbForce_setPackageFile", &F::setPackageFile);
    m.def("XtbForce_getEngineInfo", [](const string& engine) {
        string version, file;
        F::getEngineInfo(engine, version, file);
        return make_tuple(version, file);
    });
    m.def("XtbForce_getEnginePlaces", [](const string& engine) {
        vector<string> names, files;
        F::getEnginePlaces(engine, names, files);
        return make_tuple(names, files);
    });
    m.def("XtbForce_getMethod", method<F>(&F::getMethod));
    m.def("XtbForce_getEngine", method<F>(&F::getEngine));
    m.def("XtbForce_setEngine", method<F>(&F::setEngine));
    m.def("XtbForce_findEngine", method<F>(&F::findEngine));
    m.def("XtbForce_getAtomicNumbers", method<F>(&F::getAtomicNumbers));
    m.def("XtbForce_getCharge", method<F>(&F::getCharge));
    m.def("XtbForce_getMultiplicity", method<F>(&F::getMultiplicity));
    m.def("XtbForce_getAccuracy", method<F>(&F::getAccuracy));
    m.def("XtbForce_setAccuracy", method<F>(&F::setAccuracy));
    m.def("XtbForce_getElectronicTemperature", method<F>(&F::getElectronicTemperature));
    m.def("XtbForce_setElectronicTemperature", method<F>(&F::setElectronicTemperature));
    m.def("XtbForce_getMaxIterations", method<F>(&F::getMaxIterations));
    m.def("XtbForce_setMaxIterations", method<F>(&F::setMaxIterations));
    m.def("XtbForce_getNumThreads", method<F>(&F::getNumThreads));
    m.def("XtbForce_setNumThreads", method<F>(&F::setNumThreads));
    m.def("XtbForce_getPartialCharges", [](py::object self, py::object context) {
        vector<double> charges;
        unwrap<F>(self).getPartialCharges(contextOf(context), charges);
        return charges;
    });
    m.def("XtbForce_computeQMRegion", [](py::object self, py::object context, const vector<double>& dampingLengths) {
        vector<OpenMM::Vec3> positions, forces, gradients;
        vector<double> charges, potentials;
        double energy;
        unwrap<F>(self).computeQMRegion(contextOf(context), dampingLengths, positions, energy, forces, charges, potentials, gradients);
        return py::make_tuple(toArray(positions), energy, toArray(forces), py::array_t<double>(charges.size(), charges.data()),
                              py::array_t<double>(potentials.size(), potentials.data()), toArray(gradients));
    });
    m.def("XtbForce_getElementHardness", &F::getElementHardness);
}

static void exportKStepModelForce(py::module_& m) {
    typedef KStepModelForce F;
    m.def("KStepModelForce_create", [](const string& file, const vector<int>& particles) {
        return park(new KStepModelForce(file, particles));
    });
    m.def("KStepModelForce_isInstance", [](py::object force) { return tryUnwrap<F>(force) != NULL; });
    m.def("KStepModelForce_getModelData", [](py::object self) { return py::bytes(unwrap<F>(self).getModelData()); });
    m.def("KStepModelForce_allowNativeCode", method<F>(&F::allowNativeCode));
    m.def("KStepModelForce_getCorrectorForceGroup", method<F>(&F::getCorrectorForceGroup));
    m.def("KStepModelForce_setCorrectorForceGroup", method<F>(&F::setCorrectorForceGroup));
    m.def("KStepModelForce_isOutsideTrainingRegion", [](py::object self, py::object context) {
        return unwrap<F>(self).isOutsideTrainingRegion(contextOf(context));
    });
    m.def("KStepModelForce_getDevice", method<F>(&F::getDevice));
    m.def("KStepModelForce_setDevice", method<F>(&F::setDevice));
    m.def("KStepModelForce_getNumThreads", method<F>(&F::getNumThreads));
    m.def("KStepModelForce_setNumThreads", method<F>(&F::setNumThreads));
}

void exportForces(py::module_& m) {
    exportQMRegionForce(m);
    exportXtbForce(m);
    exportKStepModelForce(m);
}
