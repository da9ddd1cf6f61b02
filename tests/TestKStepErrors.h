#include "TestUtilities.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include <functional>
#include <limits>
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * What is refused, and how a step that fails leaves the Context.
 */

static const double TEMPERATURE = 300;

/**
 * A corrector that pulls all particles back along x with a constant force and throws where the first one is beyond x=1.
 */
class ThrowingForce : public Force {
public:
    explicit ThrowingForce(bool convergence) : convergence(convergence) {
    }
    bool usesPeriodicBoundaryConditions() const override {
        return false;
    }
protected:
    ForceImpl* createImpl() const override;
private:
    bool convergence;
};

class ThrowingForceImpl : public CustomCPPForceImpl {
public:
    ThrowingForceImpl(const ThrowingForce& owner, bool convergence) : CustomCPPForceImpl(owner), owner(owner), convergence(convergence) {
    }
    const Force& getOwner() const override {
        return owner;
    }
    double computeForce(ContextImpl& context, const vector<Vec3>& positions, vector<Vec3>& forces) override {
        if (positions[0][0] > 1 && convergence)
            throw ConvergenceError("no convergence here");
        if (positions[0][0] > 1)
            throw OpenMMException("the corrector is broken");
        double energy = 0;
        for (size_t i = 0; i < positions.size(); i++) {
            forces[i] = Vec3(-20, 0, 0);
            energy += 20*positions[i][0];
        }
        return energy;
    }
private:
    const ThrowingForce& owner;
    bool convergence;
};

ForceImpl* ThrowingForce::createImpl() const {
    return new ThrowingForceImpl(*this, convergence);
}

static Force* createThrowingCorrector(bool convergence) {
    ThrowingForce* force = new ThrowingForce(convergence);
    force->setForceGroup(1);
    return force;
}

/** A corrector whose energy and force stop being numbers beyond x=1. */
static Force* createCorrector(const string& energy) {
    CustomExternalForce* force = new CustomExternalForce(energy);
    force->addParticle(0);
    force->setForceGroup(1);
    return force;
}

static const string NOT_A_NUMBER = "-20*sqrt(1-x)";
static const string INFINITE = "5*x+select(step(x-1), 1/(1-step(x-1)), 0)";

/** Two particles, with the given corrector and a gentle model. */
static void buildSystem(System& system, Force* corrector) {
    system.addParticle(3);
    system.addParticle(4);
    system.addForce(corrector);
    addExternalForce(system, "5*(x^2+y^2+z^2)", {0, 1}, 2);
    addIdleForce(system);
}

void testRefusedArguments() {
    const double nan = numeric_limits<double>::quiet_NaN(), infinity = numeric_limits<double>::infinity();
    ASSERT_THROWS(KStepIntegrator(0.001, 1, "jump", TEMPERATURE), "needs k of at least 2");
    ASSERT_THROWS(KStepIntegrator(0.001, 4).setJumpModelData("model", {0}), "belongs to the scheme 'jump'");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "jump", TEMPERATURE).setJumpModelData("model", {0, 1, 0}), "each given once");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "jump", TEMPERATURE).setJumpModelData("", {0}), "has no content");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "jump", TEMPERATURE).setJumpModel("no/such/file.pt", {0}), "'no/such/file.pt' cannot be read");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "verlet", TEMPERATURE), "found 'verlet'");
    ASSERT_THROWS(KStepIntegrator(0.001, 0), "found 0");
    ASSERT_THROWS(KStepIntegrator(0.001, -3), "found -3");
    for (double bad : {0.0, -0.001, nan, infinity})
        ASSERT_THROWS(KStepIntegrator(bad, 4), "base step size");
    for (double bad : {-1.0, nan, infinity})
        ASSERT_THROWS(KStepIntegrator(0.001, 4, "metropolis", bad), "temperature");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "metropolis"), "'metropolis' samples at a temperature");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "metropolis", TEMPERATURE, 0), "needs friction");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "impulse", 0, 1), "with friction a positive temperature is required");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "impulse", TEMPERATURE, infinity), "friction");
    KStepIntegrator integrator(0.001, 4, "metropolis", TEMPERATURE);
    ASSERT_THROWS(integrator.setK(0), "found 0");
    for (double bad : {0.0, -0.001, nan, infinity}) {
        ASSERT_THROWS(integrator.setStepSize(bad), "base step size");
        ASSERT_THROWS(integrator.setBaseStepSize(bad), "base step size");
    }
    for (double bad : {-1.0, nan, infinity}) {
        ASSERT_THROWS(integrator.setTemperature(bad), "temperature");
        ASSERT_THROWS(integrator.setFriction(bad), "friction");
    }
    ASSERT_THROWS(integrator.setExtraChances(0), "found 0");
    for (int bad : {-1, 32}) {
        ASSERT_THROWS(integrator.setCorrectorForceGroup(bad), "0 to 31");
        ASSERT_THROWS(integrator.setModelForceGroup(bad), "0 to 31");
    }
    ASSERT_THROWS(integrator.step(1), "not bound to a context");
    ASSERT_THROWS(integrator.stepTo(1), "not bound to a context");
    // Nothing of what was refused has been taken over.
    ASSERT_EQUAL(4, integrator.getK());
    ASSERT_EQUAL(0.001, integrator.getBaseStepSize());
    ASSERT_EQUAL(TEMPERATURE, integrator.getTemperature());
    ASSERT_EQUAL(1.0, integrator.getFriction());
    ASSERT_EQUAL(4, integrator.getExtraChances());
    ASSERT_EQUAL(1, integrator.getCorrectorForceGroup());
    ASSERT_EQUAL(2, integrator.getModelForceGroup());
}

/**
 * A System that does not fit is refused when the Context is created.  The same integrator can then be used for a
 * System that does.  (What is checked for a KStepModelForce needs a model file; the Python tests do that.)
 */
void testRefusedSystems() {
    const vector<Vec3> positions(2);
    System good, noCorrector, noModel;
    buildSystem(good, createCorrector("20*x"));
    for (System* system : {&noCorrector, &noModel}) {
        system->addParticle(3);
        system->addParticle(4);
    }
    addExternalForce(noCorrector, "x", {0}, 2);
    addExternalForce(noModel, "x", {0}, 1);
    unique_ptr<Context> context;
    KStepIntegrator integrator(0.001, 4, "metropolis", TEMPERATURE);
    ASSERT_THROWS(context.reset(createContext(noCorrector, integrator, positions)), "no Force in the corrector's force group (1)");
    ASSERT_THROWS(context.reset(createContext(noModel, integrator, positions)), "needs a model");
    integrator.setModelForceGroup(1);
    ASSERT_THROWS(context.reset(createContext(good, integrator, positions)), "different force groups");
    integrator.setModelForceGroup(2);
    integrator.setIntegrationForceGroups(1);
    ASSERT_THROWS(context.reset(createContext(good, integrator, positions)), "leave out the corrector's");
    integrator.setIntegrationForceGroups(-1);
    context.reset(createContext(good, integrator, positions));
    integrator.step(2);
    ASSERT_EQUAL(2, context->getStepCount());
}

/** Settings that no longer fit are noticed at the next step, and it works again once they are put right. */
void testSettingsChangedLater() {
    System system;
    buildSystem(system, createCorrector("20*x"));
    KStepIntegrator integrator(0.001, 4, "metropolis", TEMPERATURE);
    unique_ptr<Context> context(createContext(system, integrator, vector<Vec3>(2)));
    integrator.setFriction(0);
    ASSERT_THROWS(integrator.step(1), "needs friction");
    integrator.setFriction(1);
    integrator.setTemperature(0);
    ASSERT_THROWS(integrator.step(1), "temperature");
    integrator.setTemperature(TEMPERATURE);
    integrator.step(1);
    ASSERT_EQUAL(1, context->getStepCount());
}

/** Run from the state of one Context in a new one with a harmless corrector, and return the positions. */
static vector<Vec3> runFresh(const vector<Vec3>& positions, const vector<Vec3>& velocities, Force* corrector, int steps) {
    System system;
    buildSystem(system, corrector);
    KStepIntegrator integrator(0.01, 5);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(velocities);
    integrator.step(steps);
    return getPositions(*context);
}

/**
 * An impulse step whose end cannot be evaluated throws and leaves the state before it.  From there, with velocities
 * that lead elsewhere, and from new positions the dynamics is that of a new Context.
 */
void testFailedImpulseStep(function<Force*()> createForce, const string& message, double friction) {
    System system;
    buildSystem(system, createForce());
    KStepIntegrator integrator(0.01, 5, "impulse", TEMPERATURE, friction);
    integrator.setRandomNumberSeed(1);
    const vector<Vec3> positions = {Vec3(0.6, 0.1, 0), Vec3(0, 0.2, 0.1)};
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities({Vec3(5, 0, 0), Vec3(0.1, 0.2, 0.3)});
    integrator.step(1);
    State before = context->getState(State::Positions | State::Velocities);
    // The second attempt starts from what the first one left.
    for (int i = 0; i < 2; i++)
        ASSERT_THROWS(integrator.step(1), message);
    ASSERT_VECS(before.getPositions(), getPositions(*context), 0);
    ASSERT_VECS(before.getVelocities(), getVelocities(*context), 0);
    ASSERT_EQUAL(before.getTime(), context->getTime());
    ASSERT_EQUAL(1, context->getStepCount());
    ASSERT_EQUAL(1, integrator.getStatistics().macroSteps);
    ASSERT(isfinite(integrator.getStatistics().meanD));
    vector<Vec3> velocities(2, Vec3(-2, 0.5, 0));
    integrator.setFriction(0);
    context->setVelocities(velocities);
    integrator.step(3);
    ASSERT_VECS(runFresh(before.getPositions(), velocities, createForce(), 3), getPositions(*context), tolerance(1e-12));
    context->setPositions(positions);
    context->setVelocities(velocities);
    integrator.step(3);
    ASSERT_VECS(runFresh(positions, velocities, createForce(), 3), getPositions(*context), tolerance(1e-12));
}

/**
 * In metropolis the same failures mean only that this proposal is refused.
 */
void testFailedProposal(Force* corrector) {
    System system;
    buildSystem(system, corrector);
    KStepIntegrator integrator(0.01, 5, "metropolis", TEMPERATURE, 0.1);
    integrator.setExtraChances(3);
    integrator.setRandomNumberSeed(1);
    const vector<Vec3> positions = {Vec3(0.99, 0, 0), Vec3(0, 0.2, 0.1)}, velocities = {Vec3(10, 0, 0), Vec3(1, 2, 3)};
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(velocities);
    const vector<Vec3> start = getPositions(*context);
    integrator.step(1);
    ASSERT_VECS(start, getPositions(*context), 0);
    for (int i = 0; i < 2; i++)
        ASSERT_VEC(-velocities[i], getVelocities(*context)[i], 0);
    ASSERT_EQUAL(1, context->getStepCount());
    ASSERT_EQUAL(1, integrator.getStatistics().flips);
    ASSERT_EQUAL(3, integrator.getStatistics().chances);
    // After the flip the particle leaves the border, downhill in D, so it is accepted again.
    integrator.setExtraChances(1);
    integrator.step(20);
    ASSERT(integrator.getStatistics().accepted > 0);
}

/**
 * A model that has no value beyond a border: positions on the path become NaN, which ends this path.
 */
void testModelWithoutValue() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "20*x", {0}, 1);
    addExternalForce(system, "-20*sqrt(1-x)", {0}, 2);
    KStepIntegrator integrator(0.01, 5, "metropolis", TEMPERATURE, 0.1);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(0.9, 0, 0)}));
    context->setVelocities({Vec3(10, 0, 0)});
    const vector<Vec3> start = getPositions(*context);
    integrator.step(1);
    ASSERT_VECS(start, getPositions(*context), 0);
    ASSERT_VEC(Vec3(-10, 0, 0), getVelocities(*context)[0], 0);
    ASSERT_EQUAL(1, integrator.getStatistics().flips);
    KStepIntegrator impulse(0.01, 5);
    impulse.setErrorRecovery(false);
    context.reset(createContext(system, impulse, {Vec3(0.9, 0, 0)}));
    context->setVelocities({Vec3(10, 0, 0)});
    // The CPU platform itself may be the one who complains about the position.
    ASSERT_THROWS(impulse.step(1), "NaN");
    ASSERT_VECS(start, getPositions(*context), 0);
    ASSERT_VEC(Vec3(10, 0, 0), getVelocities(*context)[0], 0);
    ASSERT_EQUAL(0, context->getTime());
}

/**
 * A corrector that is broken, unlike one that does not converge, stops metropolis with the last good state kept.
 */
void testThrowingCorrectorInMetropolis() {
    System system;
    buildSystem(system, createThrowingCorrector(false));
    KStepIntegrator integrator(0.01, 5, "metropolis", TEMPERATURE, 0.1);
    const vector<Vec3> positions = {Vec3(0.9, 0, 0), Vec3(0, 0.2, 0.1)}, velocities = {Vec3(10, 0, 0), Vec3(1, 2, 3)};
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(velocities);
    const vector<Vec3> start = getPositions(*context);
    ASSERT_THROWS(integrator.step(1), "the corrector is broken");
    ASSERT_VECS(start, getPositions(*context), 0);
    ASSERT_VECS(velocities, getVelocities(*context), 0);
    ASSERT_EQUAL(0, context->getTime());
    ASSERT_EQUAL(0, context->getStepCount());
    ASSERT_EQUAL(0, integrator.getStatistics().macroSteps);
    context->setVelocities({Vec3(-10, 0, 0), Vec3(1, 2, 3)});
    integrator.step(1);
    ASSERT_EQUAL(1, context->getStepCount());
}

/** A start that has no energy is refused, and new positions put it right. */
void testBadStart() {
    System system;
    buildSystem(system, createCorrector(NOT_A_NUMBER));
    for (string scheme : {"impulse", "metropolis"}) {
        KStepIntegrator integrator(0.001, 5, scheme, TEMPERATURE);
        unique_ptr<Context> context(createContext(system, integrator, {Vec3(2, 0, 0), Vec3()}));
        ASSERT_THROWS(integrator.step(1), "NaN or infinite at the current positions");
        ASSERT_EQUAL(0, context->getStepCount());
        context->setPositions({Vec3(0.2, 0, 0), Vec3()});
        integrator.step(2);
        ASSERT_EQUAL(2, context->getStepCount());
    }
}

void runTests() {
    testRefusedArguments();
    testRefusedSystems();
    testSettingsChangedLater();
    for (double friction : {0.0, 1.0}) {
        testFailedImpulseStep([] { return createCorrector(NOT_A_NUMBER); }, "NaN or infinite", friction);
        testFailedImpulseStep([] { return createCorrector(INFINITE); }, "NaN or infinite", friction);
        testFailedImpulseStep([] { return createThrowingCorrector(false); }, "the corrector is broken", friction);
        testFailedImpulseStep([] { return createThrowingCorrector(true); }, "no convergence here", friction);
    }
    testFailedProposal(createCorrector(NOT_A_NUMBER));
    testFailedProposal(createCorrector(INFINITE));
    testFailedProposal(createThrowingCorrector(true));
    testModelWithoutValue();
    testThrowingCorrectorInMetropolis();
    testBadStart();
}
