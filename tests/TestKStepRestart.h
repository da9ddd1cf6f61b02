#include "TestUtilities.h"
#include "openmm/serialization/XmlSerializer.h"
#include <functional>
#include <memory>
#include <sstream>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * A run that is continued from a checkpoint, or from the XML of a State, is the run that went on, to the last bit.
 */

static const double TEMPERATURE = 300;

/** A molecule of three atoms, a rigid dimer and a site. */
static void buildSystem(System& system) {
    for (double mass : {12.0, 1.0, 1.0, 4.0, 5.0, 0.0})
        system.addParticle(mass);
    system.setVirtualSite(5, new TwoParticleAverageSite(3, 4, 0.3, 0.7));
    system.addConstraint(3, 4, 0.12);
    for (int group : {1, 2}) {
        double scale = (group == 1 ? 1.0 : 0.93);
        addBondForce(system, to_string(60000*scale)+"*(r-0.1)^2", {{0, 1}, {0, 2}}, group);
        addBondForce(system, to_string(8000*scale)+"*(r-0.16)^2", {{1, 2}}, group);
        addBondForce(system, to_string(3*scale)+"/r", {{0, 5}, {1, 3}, {2, 4}}, group);
    }
    addExternalForce(system, "300*(x^2+y^2+z^2)", {0, 3, 4}, 0);
}

static vector<Vec3> startPositions() {
    return {Vec3(), Vec3(0.1, 0, 0), Vec3(-0.02, 0.1, 0), Vec3(0.3, 0.1, 0.1), Vec3(0.3, 0.22, 0.1), Vec3(0.3, 0.184, 0.1)};
}

/** Run to the middle, keep the state, run on; then the same from what was kept, in a Context that was elsewhere. */
void testRestart(function<KStepIntegrator*()> createIntegrator, bool throughXml) {
    System system;
    buildSystem(system);
    unique_ptr<KStepIntegrator> first(createIntegrator()), second(createIntegrator());
    second->setRandomNumberSeed(999);
    unique_ptr<Context> one(createContext(system, *first, startPositions())), two(createContext(system, *second, startPositions()));
    one->setVelocitiesToTemperature(TEMPERATURE, 2);
    two->setVelocitiesToTemperature(TEMPERATURE, 77);
    first->step(23);
    second->step(4);
    stringstream stream;
    if (throughXml) {
        State state = one->getState(State::Positions | State::Velocities | State::Parameters | State::IntegratorParameters);
        XmlSerializer::serialize<State>(&state, "State", stream);
    }
    else
        one->createCheckpoint(stream);
    first->step(40);
    if (throughXml) {
        unique_ptr<State> state(XmlSerializer::deserialize<State>(stream));
        two->setState(*state);
    }
    else
        two->loadCheckpoint(stream);
    second->step(40);
    ASSERT_VECS(getPositions(*one), getPositions(*two), 0);
    ASSERT_VECS(getVelocities(*one), getVelocities(*two), 0);
    ASSERT_EQUAL(one->getTime(), two->getTime());
    ASSERT_EQUAL(one->getStepCount(), two->getStepCount());
    KStepIntegrator::Statistics a = first->getStatistics(), b = second->getStatistics();
    ASSERT_EQUAL(a.correctorCalls, b.correctorCalls);
    ASSERT_EQUAL(a.macroSteps, b.macroSteps);
    ASSERT_EQUAL(a.flips, b.flips);
    ASSERT_EQUAL(a.meanD, b.meanD);
    ASSERT_EQUAL(a.sdD, b.sdD);
    ASSERT_EQUAL(a.currentK, b.currentK);
    ASSERT_EQUAL(a.redone, b.redone);
    ASSERT_EQUAL(a.effectiveSamples, b.effectiveSamples);
}

static KStepIntegrator* create(double dt, int k, const string& scheme, double friction) {
    KStepIntegrator* integrator = new KStepIntegrator(dt, k, scheme, TEMPERATURE, friction);
    integrator->setRandomNumberSeed(5);
    return integrator;
}

/** A State of another integrator, a truncated checkpoint. */
void testBadStates() {
    System system;
    buildSystem(system);
    KStepIntegrator integrator(0.0005, 4);
    unique_ptr<Context> context(createContext(system, integrator, startPositions()));
    stringstream stream;
    context->createCheckpoint(stream);
    string bytes = stream.str();
    stringstream truncated(bytes.substr(0, bytes.size()-100));
    ASSERT_THROWS(context->loadCheckpoint(truncated), "truncated");
    CustomIntegrator custom(0.001);
    custom.addGlobalVariable("a", 3);
    custom.addComputePerDof("x", "x");
    unique_ptr<Context> other(createContext(system, custom, startPositions()));
    State state = other->getState(State::Positions | State::IntegratorParameters);
    ASSERT_THROWS(context->setState(state), "another integrator");
    context->setPositions(startPositions());
    integrator.step(1);
}

void runTests() {
    for (bool throughXml : {false, true}) {
        testRestart([] { return create(0.0005, 4, "impulse", 0); }, throughXml);
        testRestart([] { return create(0.0005, 4, "impulse", 2); }, throughXml);
        testRestart([] {
            KStepIntegrator* integrator = create(0.0005, 8, "impulse", 1);
            integrator->setMollification({{0, 1, 0.1}, {0, 2, 0.1}});
            return integrator;
        }, throughXml);
        testRestart([] {
            KStepIntegrator* integrator = create(0.0005, 8, "impulse", 1);
            integrator->setAdaptive(true);
            return integrator;
        }, throughXml);
        testRestart([] { return create(0.002, 10, "metropolis", 1); }, throughXml);
        testRestart([] {
            KStepIntegrator* integrator = create(0.002, 10, "metropolis", 1);
            integrator->setIncludeShadowWork(true);
            return integrator;
        }, throughXml);
        testRestart([] { return create(0.002, 10, "reweight", 1); }, throughXml);
        testRestart([] {
            KStepIntegrator* integrator = create(0.0005, 4, "impulse", 2);
            integrator->setRegion({3, 4}, 350, 4, "bussi");
            return integrator;
        }, throughXml);
    }
    testBadStates();
}
