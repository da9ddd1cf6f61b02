#include "exports.h"
#include "openmm_interop.h"
#include "openmmkstep/KStepIntegrator.h"
#include <pybind11/stl.h>

namespace py = pybind11;
using namespace OpenMMKStep;
using namespace std;

void exportKStepIntegrator(py::module_& m) {
    typedef KStepIntegrator I;
    m.def("KStepIntegrator_create", [](double baseStepSize, int k, const string& scheme, double temperature, double friction) {
        return park(new KStepIntegrator(baseStepSize, k, scheme, temperature, friction));
    });
    m.def("KStepIntegrator_isInstance", [](py::object integrator) { return tryUnwrap<I>(integrator) != NULL; });
    m.def("KStepIntegrator_getBaseStepSize", method<I>(&I::getBaseStepSize));
    m.def("KStepIntegrator_setBaseStepSize", method<I>(&I::setBaseStepSize));
    m.def("KStepIntegrator_getK", method<I>(&I::getK));
    m.def("KStepIntegrator_setK", method<I>(&I::setK));
    m.def("KStepIntegrator_getScheme", method<I>(&I::getScheme));
    m.def("KStepIntegrator_getTemperature", method<I>(&I::getTemperature));
    m.def("KStepIntegrator_setTemperature", method<I>(&I::setTemperature));
    m.def("KStepIntegrator_getFriction", method<I>(&I::getFriction));
    m.def("KStepIntegrator_setFriction", method<I>(&I::setFriction));
    m.def("KStepIntegrator_getRandomNumberSeed", method<I>(&I::getRandomNumberSeed));
    m.def("KStepIntegrator_setRandomNumberSeed", method<I>(&I::setRandomNumberSeed));
    m.def("KStepIntegrator_getCorrectorForceGroup", method<I>(&I::getCorrectorForceGroup));
    m.def("KStepIntegrator_setCorrectorForceGroup", method<I>(&I::setCorrectorForceGroup));
    m.def("KStepIntegrator_getModelForceGroup", method<I>(&I::getModelForceGroup));
    m.def("KStepIntegrator_setModelForceGroup", method<I>(&I::setModelForceGroup));
    m.def("KStepIntegrator_getExtraChances", method<I>(&I::getExtraChances));
    m.def("KStepIntegrator_setExtraChances", method<I>(&I::setExtraChances));
    m.def("KStepIntegrator_setMollification", [](py::object self, const vector<tuple<int, int, double>>& bonds) {
        vector<I::MollifiedBond> list;
        for (const auto& [particle1, particle2, length] : bonds)
            list.push_back({particle1, particle2, length});
        unwrap<I>(self).setMollification(list);
    });
    m.def("KStepIntegrator_getMollification", [](py::object self) {
        vector<tuple<int, int, double>> bonds;
        for (const I::MollifiedBond& bond : unwrap<I>(self).getMollification())
            bonds.push_back({bond.particle1, bond.particle2, bond.length});
        return bonds;
    });
    m.def("KStepIntegrator_computeConservedEnergy", method<I>(&I::computeConservedEnergy));
    m.def("KStepIntegrator_resetStatistics", method<I>(&I::resetStatistics));
    m.def("KStepIntegrator_stepTo", [](py::object self, double time) {
        I& integrator = unwrap<I>(self);
        py::gil_scoped_release release;
        integrator.stepTo(time);
    });
    m.def("KStepIntegrator_getStatistics", [](py::object self) {
        I::Statistics s = unwrap<I>(self).getStatistics();
        py::dict d;
        d["macroSteps"] = s.macroSteps;
        d["chances"] = s.chances;
        d["accepted"] = s.accepted;
        d["firstAccepted"] = s.firstAccepted;
        d["flips"] = s.flips;
        d["correctorCalls"] = s.correctorCalls;
        d["meanD"] = s.meanD;
        d["sdD"] = s.sdD;
        return d;
    });
}
