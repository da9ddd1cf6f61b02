#include "TestUtilities.h"
#include "openmm/CMMotionRemover.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * Temperature coupling by region: Langevin, Bussi's velocity rescaling, and none.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

/** Three tethered particles that do not feel each other. */
static void buildTethered(System& system) {
    for (double mass : {2.0, 3.0, 5.0})
        system.addParticle(mass);
    addExternalForce(system, "200*(x^2+y^2+z^2)", {0, 1, 2}, 1);
    addExternalForce(system, "190*(x^2+y^2+z^2)", {0, 1, 2}, 2);
}

/** Each region has its own temperature, and one without friction moves as if nothing else were there. */
void testTemperatures() {
    System system;
    buildTethered(system);
    KStepIntegrator integrator(0.005, 2, "impulse", 250, 2);
    ASSERT_EQUAL(0, integrator.setRegion({1}, 600, 3));
    ASSERT_EQUAL(1, integrator.setRegion({2}, 0, 0));
    integrator.setRandomNumberSeed(5);
    KStepIntegrator reference(0.005, 2);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(), Vec3(0.1, 0, 0.02)}));
    unique_ptr<Context> plain(createContext(system, reference, {Vec3(), Vec3(), Vec3(0.1, 0, 0.02)}));
    vector<Vec3> velocities = {Vec3(), Vec3(), Vec3(0.3, -0.2, 0.1)};
    context->setVelocities(velocities);
    plain->setVelocities(velocities);
    BlockedMean squares[2];
    int numSamples = 400000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        if (i < 1000) {
            reference.step(1);
            ASSERT_VEC(getPositions(*plain)[2], getPositions(*context)[2], 1e-12);
        }
        else {
            vector<Vec3> v = integrator.computeHalfStepVelocities();
            squares[0].add(2*v[0].dot(v[0])/3);
            squares[1].add(3*v[1].dot(v[1])/3);
        }
    }
    squares[0].assertMean("m v^2 of the rest", GAS*250, 0.01*GAS*250);
    squares[1].assertMean("m v^2 of the region", GAS*600, 0.01*GAS*600);
    // Changed while in use.
    integrator.setRegion({1}, 150, 20);
    integrator.setTemperature(400);
    integrator.step(2000);
    BlockedMean cold, warm;
    for (int i = 0; i < numSamples/4; i++) {
        integrator.step(1);
        vector<Vec3> v = integrator.computeHalfStepVelocities();
        cold.add(v[1].dot(v[1]));
        warm.add(2*v[0].dot(v[0])/3);
    }
    cold.assertMean("m v^2 of the region after the change", GAS*150, 0.02*GAS*150);
    warm.assertMean("m v^2 of the rest after the change", GAS*400, 0.02*GAS*400);
}

/** State's kinetic energy is that of computeHalfStepVelocities(). */
void testHalfStepVelocities() {
    System system;
    buildTethered(system);
    system.addConstraint(0, 1, 0.1);
    for (double friction : {0.0, 2.0}) {
        KStepIntegrator integrator(0.005, 2, "impulse", 300, friction);
        unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(0.1, 0, 0), Vec3(0.1, 0.1, 0.02)}));
        context->setVelocitiesToTemperature(300, 2);
        integrator.step(7);
        vector<Vec3> v = integrator.computeHalfStepVelocities(), x = getPositions(*context), onStep = getVelocities(*context);
        double energy = 0;
        for (int i = 0; i < 3; i++)
            energy += 0.5*system.getParticleMass(i)*v[i].dot(v[i]);
        ASSERT_EQUAL_TOL(energy, context->getState(State::Energy).getKineticEnergy(), 1e-12);
        ASSERT_NEAR(0, (v[1]-v[0]).dot(x[1]-x[0]), 1e-5);
        if (friction == 0)
            ASSERT_VECS(onStep, v, 1e-6)
        else {
            // The unconstrained particle: v + (dt/2) F/m with the forces of common groups and model.
            Vec3 expected = onStep[2]+x[2]*(-380*0.5*0.005/5);
            ASSERT_VEC(expected, v[2], 1e-9);
        }
    }
}

/**
 * Bussi's thermostat makes the kinetic energy of free dimers canonical, whatever its relaxation time: mean and variance
 * of a gamma distribution with the right number of degrees of freedom.
 */
void testBussi(bool removeCenterOfMass, double friction) {
    const int numDimers = 4;
    System system;
    vector<Vec3> positions;
    vector<int> region;
    for (int i = 0; i < numDimers; i++) {
        for (double mass : {2.0, 5.0})
            system.addParticle(mass);
        system.addConstraint(2*i, 2*i+1, 0.15);
        positions.push_back(Vec3(i, 0, 0));
        positions.push_back(Vec3(i, 0.15, 0));
        region.push_back(2*i+1);
        region.push_back(2*i);
    }
    // A particle without mass and a heavy one outside of the region.
    system.addParticle(0);
    system.addParticle(1e-9);
    positions.push_back(Vec3());
    positions.push_back(Vec3());
    addExternalForce(system, "0*x", {0}, 1);
    if (removeCenterOfMass)
        system.addForce(new CMMotionRemover(1));
    KStepIntegrator integrator(0.004, 3);
    integrator.setRegion(region, TEMPERATURE, friction, "bussi");
    integrator.setRandomNumberSeed(8);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(50, 3);
    integrator.step(100);
    BlockedMean mean, squares;
    double degrees = 3*2*numDimers-numDimers-(removeCenterOfMass ? 3 : 0), expected = 0.5*degrees*KT;
    int numSamples = 100000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        vector<Vec3> v = getVelocities(*context);
        double energy = 0;
        for (int j = 0; j < 2*numDimers; j++)
            energy += 0.5*system.getParticleMass(j)*v[j].dot(v[j]);
        mean.add(energy);
        squares.add((energy-expected)*(energy-expected));
    }
    mean.assertMean("kinetic energy", expected, 0.01*expected);
    squares.assertMean("its variance", 0.5*degrees*KT*KT, 0.03*0.5*degrees*KT*KT);
}

/** The relaxation time is 1/friction. */
void testBussiRelaxation() {
    System system;
    vector<Vec3> positions;
    const int n = 3000;
    for (int i = 0; i < n; i++) {
        system.addParticle(1);
        positions.push_back(Vec3(i, 0, 0));
    }
    addExternalForce(system, "0*x", {0}, 1);
    KStepIntegrator integrator(0.01, 10, "impulse", TEMPERATURE, 2);
    integrator.setThermostat("bussi");
    integrator.setRandomNumberSeed(8);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(vector<Vec3>(n, Vec3(0.1, 0.2, 0)));
    double final = 1.5*n*KT, start = 0.5*n*0.05-final;
    integrator.step(5); // 0.5 ps: exp(-1) of the deviation remains; noise is sqrt(2/(3n)) = 1.5 % of the mean
    double found = context->getState(State::Energy).getKineticEnergy()-final;
    ASSERT_NEAR(start*exp(-1.0), found, 4*0.015*final);
}

/** With Bussi's thermostat, or with friction on one particle only, metropolis samples what it should. */
void testMetropolis(bool bussi) {
    System system;
    for (double mass : {2.0, 3.0})
        system.addParticle(mass);
    addExternalForce(system, "100*(x^2+y^4+1.5*z^2)", {0, 1}, 0);
    addBondForce(system, "800*(r-0.3)^2", {{0, 1}}, 1);
    addBondForce(system, "500*(r-0.33)^2", {{0, 1}}, 2);
    KStepIntegrator integrator(0.004, 30, "metropolis", TEMPERATURE, 2);
    if (bussi)
        integrator.setThermostat("bussi");
    else {
        integrator.setRegion({1}, TEMPERATURE, 3);
        integrator.setFriction(0);
    }
    integrator.setRandomNumberSeed(12);
    integrator.setExtraChances(2);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(0.3, 0, 0)}));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    // The same sampled by plain Langevin dynamics on the true Hamiltonian, with short steps.
    LangevinMiddleIntegrator reference(TEMPERATURE, 2, 0.004);
    reference.setIntegrationForceGroups((1<<0) | (1<<1));
    reference.setRandomNumberSeed(4);
    unique_ptr<Context> plain(createContext(system, reference, {Vec3(), Vec3(0.3, 0, 0)}));
    plain->setVelocitiesToTemperature(TEMPERATURE, 4);
    BlockedMean length[2], energy[2], kinetic;
    int numSamples = 80000*samplingShare();
    for (int i = 0; i < 2; i++) {
        Context& c = (i == 0 ? *context : *plain);
        c.getIntegrator().step(i == 0 ? 200 : 2000);
        for (int sample = 0; sample < numSamples; sample++) {
            c.getIntegrator().step(i == 0 ? 1 : 20);
            State state = c.getState(State::Positions | State::Energy, false, (1<<0) | (1<<1));
            Vec3 delta = state.getPositions()[1]-state.getPositions()[0];
            length[i].add(sqrt(delta.dot(delta)));
            energy[i].add(state.getPotentialEnergy());
            if (i == 0)
                kinetic.add(state.getKineticEnergy());
        }
    }
    kinetic.assertMean("kinetic energy", 3*KT, 0.03*KT);
    ASSERT(integrator.getStatistics().flips > 0.05*numSamples);
    for (auto* pair : {length, energy}) {
        double difference = fabs(pair[0].getMean()-pair[1].getMean());
        double error = hypot(pair[0].getStandardError(), pair[1].getStandardError());
        stringstream details;
        details << "metropolis " << pair[0].getMean() << ", Langevin " << pair[1].getMean() << " +- " << error;
        if (!(difference < 4*error) || !(error < 0.02*fabs(pair[1].getMean())/sqrt(samplingShare())))
            throwException(__FILE__, __LINE__, details.str());
    }
}

/**
 * With the shadow work in the test, on-step velocities have the exact variance kT/m, at a base step (omega dt = 1) where
 * they are 25 % too small otherwise.
 */
void testShadowWork(bool include, bool constrained) {
    const double mass = 4, dt = 0.01, spring = mass/(dt*dt);
    System system;
    system.addParticle(mass);
    string oscillator = to_string(0.5*spring)+"*(x^2+y^2+z^2)";
    addExternalForce(system, oscillator, {0}, 0);
    addExternalForce(system, "4000*x^2", {0}, 1);
    addExternalForce(system, "3000*x^2", {0}, 2);
    vector<Vec3> positions(1);
    if (constrained) {
        // A rigid dimer beside it, whose velocities along the constraint must not enter the work.
        system.addParticle(3);
        system.addParticle(3);
        system.addConstraint(1, 2, 0.1);
        addExternalForce(system, "50*(x^2+y^2+z^2)", {1, 2}, 0);
        positions = {Vec3(), Vec3(), Vec3(0.1, 0, 0)};
    }
    KStepIntegrator integrator(dt, 3, "metropolis", TEMPERATURE, 5);
    integrator.setIncludeShadowWork(include);
    integrator.setRandomNumberSeed(2);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    integrator.step(100);
    BlockedMean squares, positionSquares, dimer;
    int numSamples = 200000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities);
        Vec3 v = state.getVelocities()[0], x = state.getPositions()[0];
        squares.add(mass*v.dot(v)/3);
        positionSquares.add(spring*x[1]*x[1]);
        if (constrained) {
            double sum = 0;
            for (int j : {1, 2})
                sum += 0.5*3*state.getVelocities()[j].dot(state.getVelocities()[j]);
            dimer.add(sum);
        }
    }
    squares.assertMean("m v^2", include ? KT : 0.75*KT, 0.02*KT);
    positionSquares.assertMean("k x^2", KT, 0.02*KT);
    if (constrained)
        dimer.assertMean("kinetic energy of the dimer", 2.5*KT, 0.05*KT);
    ASSERT(integrator.getStatistics().accepted > 0.5*integrator.getStatistics().macroSteps);
}

void testRefused() {
    System system;
    buildTethered(system);
    KStepIntegrator integrator(0.001, 4, "metropolis", 300);
    ASSERT_THROWS(integrator.setRegion({}, 300, 1), "needs particles");
    ASSERT_THROWS(integrator.setRegion({1, 1}, 300, 1), "each given once");
    ASSERT_THROWS(integrator.setRegion({-1}, 300, 1), "not negative");
    ASSERT_THROWS(integrator.setRegion({1}, -3, 1), "temperature of a region");
    ASSERT_THROWS(integrator.setRegion({1}, 300, NAN), "friction of a region");
    ASSERT_THROWS(integrator.setRegion({1}, 300, 1, "nose"), "found 'nose'");
    ASSERT_THROWS(integrator.setThermostat("andersen"), "found 'andersen'");
    integrator.setRegion({1, 2}, 300, 1);
    ASSERT_THROWS(integrator.setRegion({2, 0}, 300, 1), "must not overlap");
    ASSERT_THROWS(integrator.getRegion(1), "there is no region 1");
    integrator.setRegion({2, 1}, 310, 1);
    ASSERT_EQUAL(1, integrator.getNumRegions());
    ASSERT_THROWS(createContext(system, integrator, vector<Vec3>(3)), "with one temperature");
    integrator.setRegion({1, 2}, 300, 1);
    unique_ptr<Context> context(createContext(system, integrator, vector<Vec3>(3)));
    ASSERT_THROWS(integrator.setRegion({0}, 300, 1), "cannot be added");
    integrator.setRegion({1, 2}, 310, 1);
    ASSERT_THROWS(integrator.step(1), "with one temperature");
    integrator.setRegion({1, 2}, 300, 2);
    integrator.step(1);
    KStepIntegrator tooFar(0.001, 4);
    tooFar.setRegion({7}, 300, 1);
    ASSERT_THROWS(createContext(system, tooFar, vector<Vec3>(3)), "has 3 particles");
    KStepIntegrator cold(0.001, 4);
    cold.setRegion({1}, 0, 1);
    ASSERT_THROWS(createContext(system, cold, vector<Vec3>(3)), "positive temperature");
    system.addConstraint(0, 1, 0.1);
    KStepIntegrator crossing(0.001, 4);
    crossing.setRegion({1}, 300, 1, "bussi");
    ASSERT_THROWS(createContext(system, crossing, vector<Vec3>(3)), "crosses the border");
    KStepIntegrator thermostatted(0.001, 4, "impulse", 300, 1);
    thermostatted.setThermostat("bussi");
    System free;
    buildTethered(free);
    unique_ptr<Context> another(createContext(free, thermostatted, vector<Vec3>(3)));
    ASSERT_THROWS(thermostatted.computeConservedEnergy(), "without friction");
}

void runTests() {
    testTemperatures();
    testHalfStepVelocities();
    testBussi(false, 20);
    testBussi(true, 200);
    testBussiRelaxation();
    testShadowWork(true, true);
    if (isLongSamplingPossible()) {
        testMetropolis(true);
        testMetropolis(false);
        testShadowWork(false, false);
        testShadowWork(true, false);
    }
    testRefused();
}
