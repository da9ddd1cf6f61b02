#include "exports.h"
#include "openmm_interop.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/internal/Mollification.h"
#include <array>
#include <pybind11/numpy.h>
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
    m.def("KStepIntegrator_setMollifiedAngles", [](py::object self, const vector<tuple<int, int, int, double>>& angles) {
        vector<I::MollifiedAngle> list;
        for (const auto& [particle1, particle2, particle3, angle] : angles)
            list.push_back({particle1, particle2, particle3, angle});
        unwrap<I>(self).setMollifiedAngles(list);
    });
    m.def("KStepIntegrator_getMollifiedAngles", [](py::object self) {
        vector<tuple<int, int, int, double>> angles;
        for (const I::MollifiedAngle& a : unwrap<I>(self).getMollifiedAngles())
            angles.push_back({a.particle1, a.particle2, a.particle3, a.angle});
        return angles;
    });
    m.def("KStepIntegrator_mollifyPositions", [](py::object self, vector<array<double, 3>> positions) {
        I& integrator = unwrap<I>(self);
        Mollification mollification(integrator.getMollification(), integrator.getMollifiedAngles());
        vector<OpenMM::Vec3> x;
        for (int i : mollification.getParticles()) {
            const array<double, 3>& p = positions.at(i);
            x.push_back(OpenMM::Vec3(p[0], p[1], p[2]));
        }
        mollification.apply(x);
        for (size_t i = 0; i < x.size(); i++)
            positions[mollification.getParticles()[i]] = {x[i][0], x[i][1], x[i][2]};
        return positions;
    });
    m.def("KStepIntegrator_computeMollificationBias", method<I>(&I::computeMollificationBias));
    m.def("KStepIntegrator_getAllowResonance", method<I>(&I::getAllowResonance));
    m.def("KStepIntegrator_setAllowResonance", method<I>(&I::setAllowResonance));
    m.def("KStepIntegrator_computeConservedEnergy", method<I>(&I::computeConservedEnergy));
    m.def("KStepIntegrator_computeD", method<I>(&I::computeD));
    m.def("KStepIntegrator_computeHalfStepVelocities", [](py::object self) {
        vector<OpenMM::Vec3> velocities = unwrap<I>(self).computeHalfStepVelocities();
        vector<tuple<double, double, double>> result;
        for (const OpenMM::Vec3& v : velocities)
            result.push_back({v[0], v[1], v[2]});
        return result;
    });
    m.def("KStepIntegrator_getThermostat", method<I>(&I::getThermostat));
    m.def("KStepIntegrator_setThermostat", method<I>(&I::setThermostat));
    m.def("KStepIntegrator_setRegion", method<I>(&I::setRegion));
    m.def("KStepIntegrator_getNumRegions", method<I>(&I::getNumRegions));
    m.def("KStepIntegrator_getRegion", [](py::object self, int index) {
        const I::Region& region = unwrap<I>(self).getRegion(index);
        return py::make_tuple(region.particles, region.temperature, region.friction, region.thermostat);
    });
    m.def("KStepIntegrator_getAdaptive", method<I>(&I::getAdaptive));
    m.def("KStepIntegrator_setAdaptive", method<I>(&I::setAdaptive));
    m.def("KStepIntegrator_getErrorRecovery", method<I>(&I::getErrorRecovery));
    m.def("KStepIntegrator_setErrorRecovery", method<I>(&I::setErrorRecovery));
    m.def("KStepIntegrator_getIncludeShadowWork", method<I>(&I::getIncludeShadowWork));
    m.def("KStepIntegrator_setIncludeShadowWork", method<I>(&I::setIncludeShadowWork));
    m.def("KStepIntegrator_setJumpModelData", [](py::object self, const py::bytes& data, const vector<int>& particles) {
        unwrap<I>(self).setJumpModelData(data, particles);
    });
    m.def("KStepIntegrator_getJumpModelData", [](py::object self) { return py::bytes(unwrap<I>(self).getJumpModelData()); });
    m.def("KStepIntegrator_getJumpParticles", method<I>(&I::getJumpParticles));
    m.def("KStepIntegrator_getJumpNumThreads", method<I>(&I::getJumpNumThreads));
    m.def("KStepIntegrator_setJumpNumThreads", method<I>(&I::setJumpNumThreads));
    m.def("KStepIntegrator_getAllowJumpWithoutThermostat", method<I>(&I::getAllowJumpWithoutThermostat));
    m.def("KStepIntegrator_setAllowJumpWithoutThermostat", method<I>(&I::setAllowJumpWithoutThermostat));
    m.def("KStepIntegrator_getEvents", [](py::object self) {
        py::list events;
        for (const I::Event& event : unwrap<I>(self).getEvents()) {
            py::dict d;
            d["step"] = event.step;
            d["time"] = event.time;
            d["kind"] = event.kind;
            d["fromK"] = event.fromK;
            d["toK"] = event.toK;
            events.append(d);
        }
        return events;
    });
    m.def("KStepIntegrator_getMaxUndoneStates", method<I>(&I::getMaxUndoneStates));
    m.def("KStepIntegrator_setMaxUndoneStates", method<I>(&I::setMaxUndoneStates));
    m.def("KStepIntegrator_takeUndoneStates", [](py::object self) {
        py::list states;
        for (const I::UndoneState& state : unwrap<I>(self).takeUndoneStates()) {
            py::dict d;
            d["step"] = state.step;
            d["kind"] = state.kind;
            d["D"] = state.D;
            d["positions"] = py::array_t<double>({(py::ssize_t) state.positions.size(), (py::ssize_t) 3}, reinterpret_cast<const double*>(state.positions.data()));
            d["box"] = py::array_t<double>({(py::ssize_t) 3, (py::ssize_t) 3}, reinterpret_cast<const double*>(state.box));
            states.append(d);
        }
        return states;
    });
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
        d["effectiveSamples"] = s.effectiveSamples;
        d["nonFinite"] = s.nonFinite;
        d["convergenceFailures"] = s.convergenceFailures;
        d["outliersD"] = s.outliersD;
        d["outliersForce"] = s.outliersForce;
        d["outsideRegion"] = s.outsideRegion;
        d["redone"] = s.redone;
        d["plainMacroSteps"] = s.plainMacroSteps;
        d["currentK"] = s.currentK;
        d["modelUnfit"] = s.modelUnfit;
        return d;
    });
}
