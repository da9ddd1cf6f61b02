#include "TestUtilities.h"
#include <functional>
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The checks of OpenMM's own test suites of integrators that the other tests here do not make, for every scheme, each
 * with a model that differs from the corrector.  (Random seeds, force groups, checkpoints: TestKStepContext.h.  RESPA:
 * the twin in TestKStepImpulse.h.)
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

/** A way to run the integrator. */
struct Setup {
    string name, scheme;
    double friction;
    bool mollified;
};

static const vector<Setup> SETUPS = {
    {"impulse", "impulse", 0, false},
    {"impulse with friction", "impulse", 10, false},
    {"mollified impulse", "impulse", 0, true},
    {"mollified impulse with friction", "impulse", 10, true},
    {"metropolis", "metropolis", 10, false},
    {"reweight", "reweight", 10, false},
};

/** The bond from particle 0 to 1 is the one that is mollified, where the setup asks for it. */
static unique_ptr<KStepIntegrator> createIntegrator(const Setup& setup, double dt, int k, double length, double temperature=TEMPERATURE) {
    unique_ptr<KStepIntegrator> integrator(new KStepIntegrator(dt, k, setup.scheme, setup.friction == 0 ? 0 : temperature, setup.friction));
    integrator->setRandomNumberSeed(71);
    if (setup.mollified)
        integrator->setMollification({{0, 1, length}});
    return integrator;
}

/** Run a test for each setup, and say for which it failed. */
static void forEachSetup(void (*test)(const Setup&)) {
    for (const Setup& setup : SETUPS)
        try {
            test(setup);
        }
        catch (const exception& e) {
            throw OpenMMException(setup.name+": "+e.what());
        }
}

static HarmonicBondForce* createBond(double length, double k, int group) {
    HarmonicBondForce* bond = new HarmonicBondForce();
    bond->addBond(0, 1, length, k);
    bond->setForceGroup(group);
    return bond;
}

/**
 * A single bond against the analytic oscillator, damped under friction (next to absolute zero).  What oscillates is the
 * corrector's bond for the impulse; the model's where the bond is mollified, since D does not see its length then; the
 * model's in reweight; and either's in metropolis with a perfect model, where each proposal is accepted.
 */
void testSingleBond(const Setup& original) {
    Setup setup = original;
    if (setup.friction != 0)
        setup.friction = 0.1;
    const double mass = 2, length = 1.5, k = 1, modelK = (setup.scheme == "metropolis" ? k : 0.8*k), dt = 0.005;
    System system;
    system.addParticle(mass);
    system.addParticle(mass);
    system.addForce(createBond(length, k, 1));
    system.addForce(createBond(length, modelK, 2));
    unique_ptr<KStepIntegrator> integrator = createIntegrator(setup, dt, 4, length, 1e-12);
    unique_ptr<Context> context(createContext(system, *integrator, {Vec3(-1, 0, 0), Vec3(1, 0, 0)}));
    double frequency2 = (setup.mollified || setup.scheme == "reweight" ? modelK : k)/(0.5*mass), gamma = setup.friction;
    double frequency = sqrt(frequency2-0.25*gamma*gamma), amplitude = 2-length;
    double energy = 0;
    for (int i = 1; i <= 500; i++) {
        integrator->step(1);
        // x'' = -w0^2 x - gamma x' with x(0) = a, x'(0) = 0.
        double t = context->getTime(), decay = amplitude*exp(-0.5*gamma*t);
        double x = decay*(cos(frequency*t)+0.5*gamma/frequency*sin(frequency*t));
        double v = -decay*frequency2/frequency*sin(frequency*t);
        State state = context->getState(State::Positions | State::Velocities);
        ASSERT_NEAR(4*dt*i, t, 1e-9);
        ASSERT_VEC(Vec3(0.5*(length+x), 0, 0), state.getPositions()[1], 1e-3);
        ASSERT_VEC(Vec3(-0.5*(length+x), 0, 0), state.getPositions()[0], 1e-3);
        ASSERT_VEC(Vec3(0.5*v, 0, 0), state.getVelocities()[1], 1e-3);
        if (setup.friction == 0) {
            double now = integrator->computeConservedEnergy();
            if (i == 1)
                energy = now;
            ASSERT_NEAR(energy, now, 1e-3*energy);
        }
    }
    if (setup.scheme == "metropolis")
        ASSERT_EQUAL(500, integrator->getStatistics().firstAccepted);
}

/** Charged Lennard-Jones particles; their interaction is the common force. */
static NonbondedForce* createFluid(System& system, int numParticles) {
    NonbondedForce* fluid = new NonbondedForce();
    for (int i = 0; i < numParticles; i++) {
        system.addParticle(i%2 == 0 ? 5 : 10);
        fluid->addParticle(i%2 == 0 ? 0.2 : -0.2, 0.3, 1.0);
    }
    system.addForce(fluid);
    return fluid;
}

/** A corrector and a wrong model: wells for all particles, and for a bond between the first two where asked for. */
static void addWells(System& system, int numParticles, bool withBond) {
    vector<int> particles;
    for (int i = 0; i < numParticles; i++)
        particles.push_back(i);
    addExternalForce(system, "30*(x^2+y^2+z^2)", particles, 1);
    addExternalForce(system, "20*((x-0.02)^2+y^2+z^2)", particles, 2);
    if (withBond) {
        system.addForce(createBond(0.3, 5000, 1));
        system.addForce(createBond(0.31, 4500, 2));
    }
}

/**
 * Run and check at each step that constraints are kept to 1e-4 of their lengths, that no velocity points along them,
 * and that the energy is conserved where it has to be.
 */
static void checkConstrainedRun(const System& system, const Setup& setup, const vector<Vec3>& positions, double dt, double maxDeviation) {
    unique_ptr<KStepIntegrator> integrator = createIntegrator(setup, dt, 3, 0.3);
    integrator->setConstraintTolerance(1e-5);
    unique_ptr<Context> context(createContext(system, *integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 72);
    double energy = 0;
    for (int i = 0; i < 400; i++) {
        integrator->step(1);
        State state = context->getState(State::Positions | State::Velocities);
        for (int j = 0; j < system.getNumConstraints(); j++) {
            int a, b;
            double distance;
            system.getConstraintParameters(j, a, b, distance);
            Vec3 delta = state.getPositions()[b]-state.getPositions()[a];
            double length = sqrt(delta.dot(delta));
            ASSERT_NEAR(1, length/distance, getConstraintError());
            ASSERT_NEAR(0, (state.getVelocities()[b]-state.getVelocities()[a]).dot(delta)/length, 1e-3);
        }
        if (setup.friction == 0) {
            double now = integrator->computeConservedEnergy();
            if (i == 0)
                energy = now;
            ASSERT_NEAR(energy, now, maxDeviation);
        }
    }
    if (setup.scheme == "metropolis")
        ASSERT(integrator->getStatistics().accepted > 100);
}

/** Four pairs at a fixed distance; no particle is in two constraints. The first two particles have a bond instead. */
void testConstrainedPairs(const Setup& setup) {
    const int n = 10;
    System system;
    NonbondedForce* fluid = createFluid(system, n);
    vector<Vec3> positions;
    for (int i = 0; i < n; i++) {
        positions.push_back(Vec3(0.3*(i%2), 0.35*((i/2)%3)-0.3, 0.35*(i/6)));
        if (i%2 == 1) {
            fluid->addException(i-1, i, 0, 1, 0);
            if (i > 1)
                system.addConstraint(i-1, i, 0.3);
        }
    }
    addWells(system, n, true);
    checkConstrainedRun(system, setup, positions, 0.001, 0.2);
}

/**
 * A cluster in which constraints share particles (an atom with three, as with HBonds, and a chain from there), and a
 * rigid water, which SETTLE handles.  The first two particles have a bond.
 */
void testConstrainedClusters(const Setup& setup) {
    System system;
    NonbondedForce* fluid = new NonbondedForce();
    vector<Vec3> positions = {Vec3(-0.5, 0, 0), Vec3(-0.2, 0, 0), Vec3(0.1, 0, 0), Vec3(0.2, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0.1, 0, 0.1), Vec3(0.1, 0, -0.15), Vec3(0.2, 0, -0.25),
            Vec3(-0.3, 0.4, 0), Vec3(-0.3+0.075695, 0.4+0.058588, 0), Vec3(-0.3-0.075695, 0.4+0.058588, 0)};
    const int n = positions.size();
    for (int i = 0; i < n; i++) {
        double mass = (i < 2 || i == 2 || i == 6 ? 12 : (i == 8 ? 15.999 : 1.008));
        system.addParticle(mass);
        fluid->addParticle(0, 0.2, mass < 2 ? 0 : 0.5);
    }
    vector<pair<int, int> > pairs = {{2, 3}, {2, 4}, {2, 5}, {2, 6}, {6, 7}, {8, 9}, {8, 10}, {9, 10}};
    fluid->addException(0, 1, 0, 1, 0);
    for (auto& p : pairs) {
        Vec3 delta = positions[p.second]-positions[p.first];
        system.addConstraint(p.first, p.second, sqrt(delta.dot(delta)));
        fluid->addException(p.first, p.second, 0, 1, 0);
    }
    system.addForce(fluid);
    addWells(system, n, true);
    checkConstrainedRun(system, setup, positions, 0.0005, 0.1);
}

/** A constraint between a massless particle and another is an error; between two massless ones it does nothing. */
void testConstrainedMasslessParticles(const Setup& setup) {
    System system;
    for (double mass : {12.0, 16.0, 0.0, 1.0})
        system.addParticle(mass);
    system.addConstraint(2, 3, 0.15);
    addWells(system, 2, true);
    vector<Vec3> positions = {Vec3(), Vec3(0.3, 0, 0), Vec3(0.5, 0, 0), Vec3(0.65, 0, 0)};
    unique_ptr<KStepIntegrator> integrator = createIntegrator(setup, 0.001, 2, 0.3);
    ASSERT_THROWS(createContext(system, *integrator, positions), "massless");
    system.setParticleMass(3, 0);
    integrator = createIntegrator(setup, 0.001, 2, 0.3);
    unique_ptr<Context> context(createContext(system, *integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 73);
    positions = getPositions(*context);
    integrator->step(5);
    for (int i : {2, 3}) {
        ASSERT_VEC(positions[i], getPositions(*context)[i], 0);
        ASSERT_VEC(Vec3(), getVelocities(*context)[i], 0);
    }
    ASSERT(getPositions(*context)[1] != positions[1]);
}

/** A mollified bond whose heavy atom has no mass: that stays, and the hydrogen moves. */
void testMollifiedBondToMasslessParticle() {
    System system;
    for (double mass : {0.0, 1.0})
        system.addParticle(mass);
    addWells(system, 2, true);
    unique_ptr<KStepIntegrator> integrator = createIntegrator(SETUPS[2], 0.0005, 8, 0.3);
    unique_ptr<Context> context(createContext(system, *integrator, {Vec3(), Vec3(0.31, 0.02, 0)}));
    context->setVelocitiesToTemperature(TEMPERATURE, 74);
    double energy = integrator->computeConservedEnergy();
    for (int i = 0; i < 200; i++) {
        integrator->step(1);
        ASSERT_VEC(Vec3(), getPositions(*context)[0], 0);
        ASSERT_NEAR(energy, integrator->computeConservedEnergy(), 0.05);
    }
}

/** The temperature of a small fluid; OpenMM's bound 6/sqrt(number of samples) on the relative error. */
void testTemperature(const Setup& setup) {
    if (setup.friction == 0)
        return;
    const int n = 8;
    System system;
    createFluid(system, n);
    vector<Vec3> positions;
    for (int i = 0; i < n; i++)
        positions.push_back(Vec3(0.35*(i%2), 0.35*((i/2)%2), 0.35*(i/4)));
    addWells(system, n, false);
    unique_ptr<KStepIntegrator> integrator = createIntegrator(setup, 0.004, 5, 0.3);
    unique_ptr<Context> context(createContext(system, *integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 75);
    integrator->step(500);
    const int numSamples = 10000*samplingShare();
    double sum = 0;
    for (int i = 0; i < numSamples; i++) {
        sum += context->getState(State::Energy).getKineticEnergy();
        integrator->step(2);
    }
    double expected = 1.5*n*KT;
    ASSERT_NEAR(1, sum/numSamples/expected, 6/sqrt((double) numSamples));
}

/**
 * Velocities drawn for a temperature have that temperature, constraints taken into account, before any step is made.
 * Under friction the kinetic energy includes half a base step's forces, which are next to nothing here.
 */
void testInitialTemperature(const Setup& setup) {
    const int n = 20000;
    System system;
    vector<Vec3> positions;
    for (int i = 0; i < n; i++) {
        system.addParticle(10);
        positions.push_back(Vec3(0.5*(i%100), 0.5*(i/100), i%2 == 0 ? 0 : 0.1));
    }
    for (int i = 2; i < n; i += 4)
        system.addConstraint(i, i+1, sqrt(0.26));
    addWells(system, 0, true);
    unique_ptr<KStepIntegrator> integrator = createIntegrator(setup, 0.001, 2, 0.5);
    unique_ptr<Context> context(createContext(system, *integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 76);
    double expected = 0.5*(3*n-system.getNumConstraints())*KT;
    // The relative error of a draw is sqrt(2/55000) = 0.6 %.
    ASSERT_NEAR(1, context->getState(State::Energy).getKineticEnergy()/expected, 0.02);
    vector<Vec3> v = getVelocities(*context);
    for (int i = 2; i < n; i += 4) {
        Vec3 delta = positions[i+1]-positions[i];
        ASSERT_NEAR(0, (v[i+1]-v[i]).dot(delta)/sqrt(delta.dot(delta)), 1e-4);
    }
}

void runTests() {
    forEachSetup(testSingleBond);
    forEachSetup(testConstrainedPairs);
    forEachSetup(testConstrainedClusters);
    forEachSetup(testConstrainedMasslessParticles);
    forEachSetup(testTemperature);
    forEachSetup(testInitialTemperature);
    testMollifiedBondToMasslessParticle();
}
