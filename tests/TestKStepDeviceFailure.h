#include "FailingDevice.h"
#include "SpringsInField.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * A driver whose calls fail: the error reaches the caller, the Context keeps the last good state or says that it cannot,
 * and where the device works again the simulation goes on as if nothing had happened.
 */

static const int NUM_TRIALS = 60, NUM_STEPS = 2;

/** A QM region in water with constraints, and an integrator that uses what its scheme can. */
class Simulation {
public:
    explicit Simulation(const string& scheme) : integrator(0.001, 4, scheme, 300, 1) {
        chain.addForce(2);
        addExternalForce(chain.system, "200*x^2", {0, 1}, 1);
        for (int i = EmbeddedChain::FIRST_WATER; i < chain.system.getNumParticles(); i += 3) {
            Vec3 arm = chain.positions[i+1]-chain.positions[i];
            chain.system.addConstraint(i, i+1, sqrt(arm.dot(arm)));
        }
        integrator.setRandomNumberSeed(3);
        if (scheme == "impulse")
            integrator.setMollification({{0, 1, 0.15}});
    }
    ~Simulation() {
        FailingDevice::work();
    }
    /** Make a Context and a few steps. */
    void start() {
        context.reset(createContext(chain.system, integrator, chain.positions));
        context->setVelocitiesToTemperature(300, 5);
        integrator.step(NUM_STEPS);
        before = getState();
    }
    State getState() {
        return context->getState(State::Positions | State::Velocities | State::Energy);
    }
    /** Run something in which the driver fails from one call on, and get the message of the error that follows. */
    string fail(long long firstCall, long long numCalls, function<void()> action) {
        string message;
        FailingDevice::fail(FailingDevice::All, firstCall, numCalls);
        try {
            action();
        }
        catch (const OpenMMException& e) {
            message = e.what();
        }
        FailingDevice::work();
        return message;
    }
    /** Assert that the state is the one before the failure. */
    void checkKept() {
        ASSERT_VECS(before.getPositions(), getState().getPositions(), 0);
        ASSERT_VECS(before.getVelocities(), getState().getVelocities(), 0);
        ASSERT_EQUAL(before.getTime(), context->getTime());
        ASSERT_EQUAL(NUM_STEPS, context->getStepCount());
        ASSERT_EQUAL(NUM_STEPS, integrator.getStatistics().macroSteps);
    }
    EmbeddedChain chain;
    KStepIntegrator integrator;
    unique_ptr<Context> context;
    State before;
};

static long long countCalls(function<void()> action) {
    FailingDevice::work();
    action();
    return FailingDevice::getNumCalls();
}

/** One call fails, whichever it is: the step is an error, and the next one continues as if it had not been tried. */
void testPassingFailure(const string& scheme) {
    Simulation undisturbed(scheme), simulation(scheme);
    undisturbed.start();
    long long numCalls = countCalls([&] { undisturbed.integrator.step(1); });
    ASSERT(numCalls > NUM_TRIALS);
    simulation.start();
    for (int trial = 0; trial < NUM_TRIALS; trial++) {
        string message = simulation.fail(trial*numCalls/NUM_TRIALS, 1, [&] { simulation.integrator.step(1); });
        ASSERT(message.find("(-5)") != string::npos && message.find("KStepIntegrator") == string::npos);
        simulation.checkKept();
    }
    // In metropolis a step that failed has used up random numbers.
    simulation.integrator.step(1);
    if (scheme == "impulse")
        ASSERT_VECS(getPositions(*undisturbed.context), getPositions(*simulation.context), 1e-12);
}

/** The same in evaluations outside steps, some of which move particles or change velocities for a while. */
void testPassingFailureOfEvaluation(function<void(KStepIntegrator&)> evaluate) {
    Simulation simulation("impulse");
    simulation.integrator.setFriction(0);
    simulation.start();
    auto evaluateAnew = [&] {
        simulation.context->setPositions(simulation.before.getPositions());
        evaluate(simulation.integrator);
    };
    evaluateAnew(); // makes arrays
    long long numCalls = countCalls(evaluateAnew), numSettingCalls = countCalls([&] {
        simulation.context->setPositions(simulation.before.getPositions());
    });
    ASSERT(numCalls-numSettingCalls > 10);
    for (long long call = numSettingCalls; call < numCalls; call++) {
        ASSERT(simulation.fail(call, 1, evaluateAnew).find("(-5)") != string::npos);
        simulation.checkKept();
    }
}

/** Calls fail from one on for good.  Nobody goes on from a state that is neither the old nor the new one. */
void testLostDevice(const string& scheme) {
    Simulation undisturbed(scheme), simulation(scheme);
    undisturbed.start();
    long long numCalls = countCalls([&] { undisturbed.integrator.step(1); });
    simulation.start();
    int numLost = 0;
    for (int trial = 0; trial < NUM_TRIALS; trial++) {
        string message = simulation.fail(trial*numCalls/NUM_TRIALS, FailingDevice::FOREVER, [&] { simulation.integrator.step(1); });
        ASSERT(message.find("(-5)") != string::npos);
        if (message.find("could not be restored") == string::npos) {
            simulation.checkKept();
            continue;
        }
        numLost++;
        ASSERT_THROWS(simulation.integrator.step(1), "load a checkpoint");
        ASSERT_THROWS(simulation.integrator.computeD(), "load a checkpoint");
        simulation.context->setPositions(simulation.before.getPositions());
        simulation.context->setVelocities(simulation.before.getVelocities());
        simulation.checkKept();
    }
    ASSERT(numLost > NUM_TRIALS/2);
    simulation.integrator.step(1);
    // The Context can be given up while the device is gone.
    FailingDevice::fail(FailingDevice::All, 0, FailingDevice::FOREVER);
    simulation.context.reset();
}

/** Memory runs out while a Context is made, at any of its arrays: an error, after which another one can be made. */
void testOutOfMemory() {
    Simulation simulation("impulse");
    FailingDevice::work(FailingDevice::Allocations);
    simulation.start();
    long long numAllocations = FailingDevice::getNumCalls();
    vector<Vec3> expected = simulation.before.getPositions();
    ASSERT(numAllocations > NUM_TRIALS);
    for (int trial = 0; trial < NUM_TRIALS; trial++) {
        simulation.context.reset();
        FailingDevice::fail(FailingDevice::Allocations, trial*numAllocations/NUM_TRIALS, FailingDevice::FOREVER);
        string message;
        try {
            simulation.start();
        }
        catch (const exception& e) { // OpenMM lets some of the driver's pass
            message = e.what();
        }
        ASSERT(message.find("(-4)") != string::npos || message == "clCreateBuffer");
    }
    simulation.context.reset();
    FailingDevice::work();
    simulation.start();
    ASSERT_VECS(expected, simulation.before.getPositions(), 0);
}

/** What a Context has made on the device goes with it. */
void testNothingIsLeft() {
    Simulation simulation("impulse");
    simulation.start();
    simulation.context.reset();
    long long numReferences = FailingDevice::getNumReferences();
    for (int i = 0; i < 3; i++) {
        simulation.start();
        simulation.integrator.computeHalfStepVelocities();
        ASSERT(FailingDevice::getNumReferences() > numReferences+100);
        simulation.context.reset();
        ASSERT_EQUAL(numReferences, FailingDevice::getNumReferences());
    }
}

void runTests() {
    testNothingIsLeft();
    for (string scheme : {"impulse", "metropolis"}) {
        testPassingFailure(scheme);
        testLostDevice(scheme);
    }
    testPassingFailureOfEvaluation([] (KStepIntegrator& integrator) { integrator.computeD(); });
    testPassingFailureOfEvaluation([] (KStepIntegrator& integrator) { integrator.computeMollificationBias(); });
    testPassingFailureOfEvaluation([] (KStepIntegrator& integrator) { integrator.computeConservedEnergy(); });
    testOutOfMemory();
}
