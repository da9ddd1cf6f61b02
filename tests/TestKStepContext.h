#include "TestUtilities.h"
#include <functional>
#include <memory>
#include <sstream>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The integrator in its Context: checkpoints, seeds, changes from outside, and which forces others are shown.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

static const vector<Vec3> POSITIONS = {Vec3(0.1, 0, 0), Vec3(0, 0.3, 0.1), Vec3(0.2, -0.1, 0.9)};
static const vector<Vec3> VELOCITIES = {Vec3(0.5, -0.3, 0.2), Vec3(-0.1, 0.6, 0.4), Vec3(0.2, 0.3, -0.5)};

/**
 * Three particles: corrector and model depend on a global parameter, the common force on the periodic box.
 */
static void buildSystem(System& system) {
    for (double mass : {3.0, 4.0, 5.0})
        system.addParticle(mass);
    system.setDefaultPeriodicBoxVectors(Vec3(1.0, 0, 0), Vec3(0, 1.0, 0), Vec3(0, 0, 1.0));
    addExternalForce(system, "60*((x-shift)^2+y^2+z^2)+40*x^4", {0, 1}, 1)->addGlobalParameter("shift", 0.05);
    addExternalForce(system, "30*((x+0.3-shift)^2+y^2+3*z^2)", {0, 1}, 2)->addGlobalParameter("shift", 0.05);
    CustomBondForce* common = addBondForce(system, "50*(r-0.2)^2", {{0, 1}, {1, 2}}, 0);
    common->setUsesPeriodicBoundaryConditions(true);
}

static KStepIntegrator* createIntegrator(const string& scheme, double friction, int seed=1) {
    KStepIntegrator* integrator = new KStepIntegrator(0.005, 4, scheme, TEMPERATURE, friction);
    integrator->setRandomNumberSeed(seed);
    return integrator;
}

/** A run of its own from a given state, with changes to the Context before the first step. */
static State runFresh(const State& start, const string& scheme, int steps, function<void(Context&)> change) {
    System system;
    buildSystem(system);
    unique_ptr<KStepIntegrator> integrator(createIntegrator(scheme, -1));
    unique_ptr<Context> context(createContext(system, *integrator, start.getPositions()));
    context->setVelocities(start.getVelocities());
    change(*context);
    integrator->step(steps);
    return context->getState(State::Positions | State::Velocities);
}

/**
 * A change from outside in the middle of a run must be noticed: what follows is what a new Context does.
 */
void testChangeFromOutside(function<void(Context&)> change) {
    System system;
    buildSystem(system);
    unique_ptr<KStepIntegrator> integrator(createIntegrator("impulse", 0));
    unique_ptr<Context> context(createContext(system, *integrator, POSITIONS));
    context->setVelocities(VELOCITIES);
    integrator->step(5);
    State state = context->getState(State::Positions | State::Velocities);
    change(*context);
    integrator->step(5);
    State expected = runFresh(state, "impulse", 5, change);
    ASSERT_VECS(expected.getPositions(), getPositions(*context), tolerance(1e-12));
    ASSERT_VECS(expected.getVelocities(), getVelocities(*context), tolerance(1e-10));
    // The change has to matter for the comparison to mean something.
    State unchanged = runFresh(state, "impulse", 5, [] (Context&) {});
    Vec3 difference = unchanged.getPositions()[0]-expected.getPositions()[0];
    ASSERT(sqrt(difference.dot(difference)) > 1e-4);
}

/**
 * Metropolis compares with the energy of the state as it is now.  After the parameter changes, D of the start is 1000
 * kJ/mol higher, which makes rejection impossible; with the old D everything would be rejected.
 */
void testChangeNoticedByMetropolis() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "offset+50*x^2", {0}, 1)->addGlobalParameter("offset", 0);
    addExternalForce(system, "50*x^2", {0}, 2);
    KStepIntegrator integrator(0.005, 4, "metropolis", TEMPERATURE);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3()}));
    integrator.step(5);
    context->setParameter("offset", 1000);
    integrator.step(5);
    ASSERT_EQUAL(10, integrator.getStatistics().firstAccepted);
    ASSERT_NEAR(500, integrator.getStatistics().meanD, tolerance(1e-9));
}

/**
 * Another integrator of a CompoundIntegrator moves the particles between two stretches.
 */
void testCompoundIntegrator() {
    System system;
    buildSystem(system);
    CompoundIntegrator compound;
    KStepIntegrator* kstep = createIntegrator("impulse", 0);
    VerletIntegrator* verlet = new VerletIntegrator(0.005);
    verlet->setIntegrationForceGroups((1<<0) | (1<<1));
    compound.addIntegrator(kstep);
    compound.addIntegrator(verlet);
    unique_ptr<Context> context(createContext(system, compound, POSITIONS));
    context->setVelocities(VELOCITIES);
    ASSERT_EQUAL(-1 & ~(1<<2), compound.getIntegrationForceGroups());
    compound.step(5);
    compound.setCurrentIntegrator(1);
    compound.step(7);
    State state = context->getState(State::Positions | State::Velocities);
    compound.setCurrentIntegrator(0);
    compound.step(5);
    ASSERT_EQUAL(17, context->getStepCount());
    State expected = runFresh(state, "impulse", 5, [] (Context&) {});
    ASSERT_VECS(expected.getPositions(), getPositions(*context), tolerance(1e-12));
    ASSERT_VECS(expected.getVelocities(), getVelocities(*context), tolerance(1e-10));
}

void testReinitialize() {
    System system;
    buildSystem(system);
    unique_ptr<KStepIntegrator> integrator(createIntegrator("impulse", 0));
    unique_ptr<Context> context(createContext(system, *integrator, POSITIONS));
    context->setVelocities(VELOCITIES);
    integrator->step(5);
    State state = context->getState(State::Positions | State::Velocities);
    context->reinitialize(true);
    integrator->step(5);
    ASSERT_EQUAL(10, integrator->getStatistics().macroSteps);
    ASSERT_VECS(runFresh(state, "impulse", 5, [] (Context&) {}).getPositions(), getPositions(*context), tolerance(1e-12));
}

/**
 * A checkpoint holds all that decides how the run goes on: bit for bit the same, noise and Metropolis tests included.
 */
void testCheckpoint(const string& scheme, double friction) {
    System system;
    buildSystem(system);
    unique_ptr<KStepIntegrator> integrator(createIntegrator(scheme, friction));
    unique_ptr<Context> context(createContext(system, *integrator, POSITIONS));
    context->setVelocities(VELOCITIES);
    // An odd number of Gaussian numbers has been used by then (3 particles with 3 components each and 4 base steps, an
    // odd number of times), so the one that is kept back matters.
    integrator->setK(3);
    integrator->step(7);
    stringstream checkpoint;
    context->createCheckpoint(checkpoint);
    KStepIntegrator::Statistics start = integrator->getStatistics();
    integrator->step(25);
    State first = context->getState(State::Positions | State::Velocities);
    KStepIntegrator::Statistics firstStatistics = integrator->getStatistics();
    if (scheme == "metropolis")
        ASSERT(firstStatistics.flips > start.flips);
    // Back in the same Context, and in a new one with another seed.
    unique_ptr<KStepIntegrator> otherIntegrator(createIntegrator(scheme, friction, 99));
    otherIntegrator->setK(3);
    unique_ptr<Context> otherContext(createContext(system, *otherIntegrator, vector<Vec3>(3)));
    for (bool other : {false, true}) {
        Context& c = (other ? *otherContext : *context);
        KStepIntegrator& i = (other ? *otherIntegrator : *integrator);
        checkpoint.clear();
        checkpoint.seekg(0);
        c.loadCheckpoint(checkpoint);
        ASSERT_EQUAL(7, c.getStepCount());
        ASSERT_EQUAL(start.flips, i.getStatistics().flips);
        ASSERT_EQUAL(start.macroSteps, i.getStatistics().macroSteps);
        i.step(25);
        ASSERT_VECS(first.getPositions(), getPositions(c), 0);
        ASSERT_VECS(first.getVelocities(), getVelocities(c), 0);
        ASSERT_EQUAL(first.getTime(), c.getTime());
        ASSERT_EQUAL(firstStatistics.flips, i.getStatistics().flips);
        ASSERT_EQUAL(firstStatistics.chances, i.getStatistics().chances);
        ASSERT_EQUAL(firstStatistics.meanD, i.getStatistics().meanD);
        ASSERT_EQUAL(firstStatistics.sdD, i.getStatistics().sdD);
    }
}

/** The same seed gives the same path; another seed and seed 0 (a new one each time) give others. */
void testRandomSeed(const string& scheme) {
    System system;
    buildSystem(system);
    vector<vector<Vec3> > results;
    for (int seed : {5, 5, 6, 0, 0}) {
        unique_ptr<KStepIntegrator> integrator(createIntegrator(scheme, 1, seed));
        unique_ptr<Context> context(createContext(system, *integrator, POSITIONS));
        context->setVelocities(VELOCITIES);
        integrator->step(20);
        results.push_back(getPositions(*context));
    }
    ASSERT_VECS(results[0], results[1], 0);
    for (int i = 1; i < 5; i++)
        for (int j = i+1; j < 5; j++)
            ASSERT(results[i][0] != results[j][0]);
}

void testForceGroups() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "1", {0}, 0);
    addExternalForce(system, "10", {0}, 1);
    addExternalForce(system, "100", {0}, 2);
    addExternalForce(system, "1000", {0}, 5);
    KStepIntegrator integrator(0.001, 4);
    ASSERT_EQUAL(-1 & ~(1<<2), integrator.getIntegrationForceGroups());
    unique_ptr<Context> context(createContext(system, integrator, {Vec3()}));
    ASSERT_NEAR(1011, getTruePotential(*context), tolerance(1e-9));
    ASSERT_THROWS(integrator.setModelForceGroup(5), "while the integrator is used by a Context");
    ASSERT_THROWS(integrator.setCorrectorForceGroup(5), "while the integrator is used by a Context");
    KStepIntegrator other(0.001, 4);
    other.setModelForceGroup(5);
    context.reset(createContext(system, other, {Vec3()}));
    ASSERT_NEAR(111, getTruePotential(*context), tolerance(1e-9));
    other.setIntegrationForceGroups((1<<1) | (1<<2) | (1<<5));
    ASSERT_EQUAL((1<<1) | (1<<2), other.getIntegrationForceGroups());
    ASSERT_NEAR(110, getTruePotential(*context), tolerance(1e-9));
}

/** Forces in groups that are left out of the integration act in neither scheme. */
void testGroupsLeftOut(const string& scheme) {
    System system;
    system.addParticle(3);
    addExternalForce(system, "50*x^2", {0}, 0);
    addExternalForce(system, "20*y^2", {0}, 1);
    addExternalForce(system, "15*y^2", {0}, 2);
    vector<vector<Vec3> > results;
    for (bool withForce : {false, true}) {
        if (withForce)
            addExternalForce(system, "500*(x+y+z)", {0}, 7);
        unique_ptr<KStepIntegrator> integrator(createIntegrator(scheme, 1));
        integrator->setIntegrationForceGroups(7);
        unique_ptr<Context> context(createContext(system, *integrator, {Vec3(0.1, 0.1, 0)}));
        integrator->step(20);
        results.push_back(getPositions(*context));
    }
    ASSERT_VECS(results[0], results[1], tolerance(1e-12));
}

/** The minimizer asks the integrator for the force groups, so the model does not pull the minimum aside. */
void testMinimizer() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "30*x^2", {0}, 0);
    addExternalForce(system, "70*(x-0.1)^2+50*y^2+20*(z+0.2)^2", {0}, 1);
    addExternalForce(system, "5000*((x-1)^2+(y-1)^2+(z-1)^2)", {0}, 2);
    KStepIntegrator integrator(0.001, 4);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(0.5, 0.5, 0.5)}));
    if (isPoCL(*context))
        return; // OpenMM 8.6.1's minimizer crashes there
    LocalEnergyMinimizer::minimize(*context, 1e-4);
    ASSERT_VEC(Vec3(0.07, 0, -0.2), getPositions(*context)[0], 1e-5);
}

/**
 * A barostat acts on frozen particles (no velocity to speak of, a base step of 1e-9 ps), so that the distribution of the
 * volume is known: V^N exp(-(PV + C V^(2/3))/kT), where the last term is the corrector's energy.  The model's force
 * strongly prefers a large volume and must not be seen.
 */
void testBarostatSeesTrueEnergy() {
    const int n = 27;
    const double pressure = 100, length = 1.7;
    System system;
    system.setDefaultPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
    vector<Vec3> positions;
    vector<int> particles;
    CustomNonbondedForce* model = new CustomNonbondedForce("20/r");
    model->setNonbondedMethod(CustomNonbondedForce::CutoffPeriodic);
    model->setCutoffDistance(0.5);
    model->setForceGroup(2);
    double squares = 0;
    for (int i = 0; i < n; i++) {
        system.addParticle(1e6);
        model->addParticle();
        particles.push_back(i);
        positions.push_back(Vec3(0.2+0.1*(i%3), 0.2+0.1*((i/3)%3), 0.2+0.1*(i/9))*length);
        squares += positions.back().dot(positions.back())/(length*length);
    }
    system.addForce(model);
    const double strength = 3;
    addExternalForce(system, "3*(x^2+y^2+z^2)", particles, 1);
    MonteCarloBarostat* barostat = new MonteCarloBarostat(pressure, TEMPERATURE, 1);
    barostat->setRandomNumberSeed(7);
    system.addForce(barostat);
    KStepIntegrator integrator(1e-9, 2);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(vector<Vec3>(n));
    integrator.step(500);
    BlockedMean volume;
    int numSamples = (isLongSamplingPossible() ? 10000 : 2000);
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        volume.add(context->getState(0).getPeriodicBoxVolume());
    }
    // 1 bar is 0.0602214 kJ/mol/nm^3.
    auto energy = [=] (double v) { return 0.060221408*pressure*v+strength*squares*pow(v, 2.0/3)-n*KT*log(v); };
    double expected = boltzmannAverage([] (double v) { return v; }, energy, KT, 1e-6, 40);
    volume.assertMean("volume", expected, 0.008*expected);
    ASSERT_VECS(vector<Vec3>(n), getVelocities(*context), 1e-3);
}

/** Lennard-Jones particles in a periodic box, two of them bonded. */
static vector<Vec3> buildBox(System& system, int n, double length) {
    system.setDefaultPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
    NonbondedForce* nonbonded = new NonbondedForce();
    nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
    nonbonded->setCutoffDistance(0.6);
    vector<Vec3> positions;
    for (int i = 0; i < n; i++) {
        system.addParticle(20);
        nonbonded->addParticle(0, 0.3, 0.8);
        positions.push_back(Vec3(0.1+0.5*(i%3), 0.1+0.5*((i/3)%3), 0.1+0.5*(i/9)));
    }
    system.addForce(nonbonded);
    addBondForce(system, "200*(r-0.45)^2", {{0, 1}}, 1);
    addBondForce(system, "150*(r-0.5)^2", {{0, 1}}, 2);
    return positions;
}

/**
 * A macro-step after a barostat has changed the box, and those between such changes, are those of a new Context without
 * a barostat that starts from the scaled positions.
 */
void testBarostatChangesForces(const string& scheme) {
    const int n = 27;
    const double length = 1.5;
    System system, plainSystem;
    vector<Vec3> positions = buildBox(system, n, length);
    buildBox(plainSystem, n, length);
    MonteCarloBarostat* barostat = new MonteCarloBarostat(100, TEMPERATURE, 2);
    barostat->setRandomNumberSeed(8);
    system.addForce(barostat);
    unique_ptr<KStepIntegrator> integrator(createIntegrator(scheme, 1));
    unique_ptr<Context> context(createContext(system, *integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    integrator->step(400);
    double volume = context->getState(0).getPeriodicBoxVolume();
    ASSERT(isfinite(volume) && abs(volume-length*length*length) > 0.1);
    if (scheme == "metropolis")
        return;
    // Without noise from here on, so that two Contexts can be compared.
    integrator->setFriction(0);
    int numChanges = 0;
    for (int i = 0; i < 20; i++) {
        State before = context->getState(State::Positions | State::Velocities);
        integrator->step(1);
        State after = context->getState(State::Positions | State::Velocities);
        double scale = cbrt(after.getPeriodicBoxVolume()/before.getPeriodicBoxVolume());
        numChanges += (scale != 1);
        // Molecules are moved as a whole: the two bonded particles and the other single ones.
        vector<Vec3> start = before.getPositions();
        Vec3 center = (start[0]+start[1])*0.5;
        for (int j = 0; j < n; j++)
            start[j] += (j < 2 ? center : start[j])*(scale-1);
        Vec3 a, b, c;
        after.getPeriodicBoxVectors(a, b, c);
        unique_ptr<KStepIntegrator> freshIntegrator(createIntegrator(scheme, 0));
        unique_ptr<Context> fresh(createContext(plainSystem, *freshIntegrator, start));
        fresh->setPeriodicBoxVectors(a, b, c);
        fresh->setVelocities(before.getVelocities());
        freshIntegrator->step(1);
        // The CPU platform computes nonbonded forces in single precision.
        ASSERT_VECS(getVelocities(*fresh), after.getVelocities(), 1e-5);
    }
    ASSERT(numChanges > 2 && numChanges < 18);
}

void runTests() {
    testChangeFromOutside([] (Context& c) { c.setPositions({Vec3(0.3, 0.1, 0), Vec3(0, -0.2, 0.1), Vec3(0, 0.1, 0.7)}); });
    testChangeFromOutside([] (Context& c) { c.setVelocities({Vec3(3, 1, 0), Vec3(0, -2, 1), Vec3(0, 1, 1)}); });
    testChangeFromOutside([] (Context& c) { c.setParameter("shift", -0.2); });
    testChangeFromOutside([] (Context& c) { c.setPeriodicBoxVectors(Vec3(0.8, 0, 0), Vec3(0, 0.9, 0), Vec3(0, 0, 1.2)); });
    testChangeFromOutside([] (Context& c) { c.getIntegrator().setIntegrationForceGroups((1<<1) | (1<<2)); });
    testChangeNoticedByMetropolis();
    testCompoundIntegrator();
    testReinitialize();
    testCheckpoint("impulse", 0);
    testCheckpoint("impulse", 2);
    testCheckpoint("metropolis", 1);
    testForceGroups();
    testMinimizer();
    testBarostatSeesTrueEnergy();
    for (string scheme : {"impulse", "metropolis"}) {
        testRandomSeed(scheme);
        testGroupsLeftOut(scheme);
        testBarostatChangesForces(scheme);
    }
}
