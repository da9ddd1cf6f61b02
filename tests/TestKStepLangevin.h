#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The inner step with friction (BAOAB), constraints, virtual sites and massless particles.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

/**
 * Harmonic oscillators at omega dt = 1.  There BAOAB's positions have the exact variance kT/K.  The on-step velocities
 * are too cold by the factor 1-(omega dt)^2/4 (Leimkuhler and Matthews), and the half-step kinetic energy, which the
 * integrator reports, is right.
 */
void testHarmonicOscillators() {
    const int numParticles = 100;
    const double mass = 2, dt = 0.01, k = mass/(dt*dt);
    System system;
    vector<int> particles;
    for (int i = 0; i < numParticles; i++) {
        system.addParticle(mass);
        particles.push_back(i);
    }
    for (int group : {1, 2}) {
        CustomExternalForce* force = addExternalForce(system, "0.5*k*(x^2+y^2+z^2)", particles, group);
        force->addGlobalParameter("k", k);
    }
    KStepIntegrator integrator(dt, 2, "impulse", TEMPERATURE, 5.0);
    integrator.setRandomNumberSeed(61);
    unique_ptr<Context> context(createContext(system, integrator, vector<Vec3>(numParticles)));
    context->setVelocitiesToTemperature(TEMPERATURE, 1);
    integrator.step(100);
    BlockedMean positionSquares, velocitySquares, kineticEnergy;
    int numSamples = 10000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy);
        double x = 0, v = 0;
        for (int j = 0; j < numParticles; j++) {
            x += state.getPositions()[j].dot(state.getPositions()[j])/(3*numParticles);
            v += state.getVelocities()[j].dot(state.getVelocities()[j])/(3*numParticles);
        }
        positionSquares.add(x);
        velocitySquares.add(v);
        kineticEnergy.add(state.getKineticEnergy());
    }
    positionSquares.assertMean("variance of a position", KT/k, 0.008*KT/k);
    velocitySquares.assertMean("variance of an on-step velocity", 0.75*KT/mass, 0.008*KT/mass);
    kineticEnergy.assertMean("half-step kinetic energy", 1.5*numParticles*KT, 0.008*1.5*numParticles*KT);
}

/**
 * Without friction the kinetic energy is that of the velocities, and the half-step shift is half a base step of the
 * fast forces with friction.
 */
void testKineticEnergy() {
    System system;
    system.addParticle(2);
    addExternalForce(system, "500*x^2", {0}, 0);
    addExternalForce(system, "70*y^2", {0}, 1);
    addExternalForce(system, "300*y^2", {0}, 2);
    const Vec3 position(0.1, -0.2, 0.3), velocity(1, 2, 3);
    for (double friction : {0.0, 1.0}) {
        KStepIntegrator integrator(0.002, 4, "impulse", TEMPERATURE, friction);
        unique_ptr<Context> context(createContext(system, integrator, {position}));
        context->setVelocities({velocity});
        Vec3 fastForce(-1000*position[0], -600*position[1], 0);
        Vec3 v = velocity+fastForce*(friction == 0 ? 0 : 0.5*0.002/2);
        ASSERT_NEAR(0.5*2*v.dot(v), context->getState(State::Energy).getKineticEnergy(), tolerance(1e-8));
        // Asking for it must not disturb the forces that the user sees.
        ASSERT_VEC(Vec3(-100, 0.2*740, 0), context->getState(State::Forces | State::Energy).getForces()[0], tolerance(1e-6));
    }
}

/**
 * Without forces and next to absolute zero, velocities decay as exp(-friction t), whatever k is.
 */
void testFrictionRate() {
    System system;
    system.addParticle(2);
    addExternalForce(system, "0", {0}, 1);
    KStepIntegrator integrator(0.02, 5, "impulse", 1e-12, 3.0);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3()}));
    context->setVelocities({Vec3(1, -2, 3)});
    integrator.step(4);
    ASSERT_VEC(Vec3(1, -2, 3)*exp(-3.0*0.4), getVelocities(*context)[0], 1e-4);
}

/** Assert that constrained distances are kept and that no velocity points along them. */
static void assertConstraints(const System& system, const State& state) {
    for (int i = 0; i < system.getNumConstraints(); i++) {
        int a, b;
        double distance;
        system.getConstraintParameters(i, a, b, distance);
        Vec3 delta = state.getPositions()[b]-state.getPositions()[a];
        double length = sqrt(delta.dot(delta));
        ASSERT_NEAR(1, length/distance, getConstraintError());
        ASSERT_NEAR(0, (state.getVelocities()[b]-state.getVelocities()[a]).dot(delta)/length, 1e-4);
    }
}

/**
 * A chain with all bonds constrained (CCMA), in a field that the model gets wrong.  The constraints remove one degree
 * of freedom each.
 */
void testConstrainedChain() {
    const int numParticles = 6;
    System system;
    vector<Vec3> positions;
    vector<int> particles;
    for (int i = 0; i < numParticles; i++) {
        system.addParticle(i%2 == 0 ? 4 : 7);
        positions.push_back(Vec3(0.12*i, 0.09*(i%2), 0));
        particles.push_back(i);
        if (i > 0)
            system.addConstraint(i-1, i, 0.15);
    }
    addExternalForce(system, "150*(x^2+y^2+z^2)", particles, 1);
    addExternalForce(system, "100*(x^2+y^2+(z-0.05)^2)", particles, 2);
    addBondForce(system, "40*(r-0.25)^2", {{0, 2}, {1, 3}, {2, 4}, {3, 5}}, 0);
    KStepIntegrator integrator(0.004, 3, "impulse", TEMPERATURE, 5.0);
    integrator.setRandomNumberSeed(62);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 2);
    integrator.step(100);
    BlockedMean kineticEnergy;
    int numSamples = 40000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy);
        assertConstraints(system, state);
        kineticEnergy.add(state.getKineticEnergy());
    }
    double expected = 0.5*(3*numParticles-(numParticles-1))*KT;
    kineticEnergy.assertMean("kinetic energy of the chain", expected, 0.01*expected);
}

/**
 * A droplet of rigid waters (SETTLE): constraints and temperature.
 */
void testWaterDroplet() {
    const int size = 3, numWaters = size*size*size;
    System system;
    NonbondedForce* nonbonded = new NonbondedForce();
    vector<Vec3> positions;
    vector<int> oxygens;
    for (int i = 0; i < numWaters; i++) {
        int first = 3*i;
        oxygens.push_back(first);
        for (int j = 0; j < 3; j++)
            system.addParticle(j == 0 ? 15.999 : 1.008);
        nonbonded->addParticle(-0.834, 0.315, 0.635);
        nonbonded->addParticle(0.417, 1, 0);
        nonbonded->addParticle(0.417, 1, 0);
        nonbonded->addException(first, first+1, 0, 1, 0);
        nonbonded->addException(first, first+2, 0, 1, 0);
        nonbonded->addException(first+1, first+2, 0, 1, 0);
        system.addConstraint(first, first+1, 0.09572);
        system.addConstraint(first, first+2, 0.09572);
        system.addConstraint(first+1, first+2, 0.15139);
        Vec3 origin = Vec3(i%size, (i/size)%size, i/(size*size))*0.31;
        positions.push_back(origin);
        positions.push_back(origin+Vec3(0.075695, 0.058588, 0));
        positions.push_back(origin+Vec3(-0.075695, 0.058588, 0));
    }
    system.addForce(nonbonded);
    addExternalForce(system, "20*((x-0.3)^2+(y-0.3)^2+(z-0.3)^2)", oxygens, 1);
    addExternalForce(system, "10*((x-0.3)^2+(y-0.3)^2+(z-0.3)^2)", oxygens, 2);
    // OpenMM 8.6.1's minimizer crashes on PoCL.
    VerletIntegrator verlet(0.001);
    Context minimized(system, verlet, Platform::getPlatformByName("Reference"));
    minimized.setPositions(positions);
    LocalEnergyMinimizer::minimize(minimized, 50);
    KStepIntegrator integrator(0.002, 2, "impulse", TEMPERATURE, 10.0);
    integrator.setRandomNumberSeed(63);
    unique_ptr<Context> context(createContext(system, integrator, getPositions(minimized)));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    integrator.step(1000);
    BlockedMean kineticEnergy;
    int numSamples = 6000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy);
        assertConstraints(system, state);
        kineticEnergy.add(state.getKineticEnergy());
    }
    kineticEnergy.assertMean("kinetic energy of the droplet", 3*numWaters*KT, 0.012*3*numWaters*KT);
}

/**
 * Forces on a virtual site act on the particles that define it, so a System without the site in which they are written
 * as a function of those particles moves the same way, the noise included.
 */
void testVirtualSite(const string& scheme) {
    vector<vector<Vec3> > results;
    for (bool withSite : {true, false}) {
        System system;
        system.addParticle(4);
        system.addParticle(6);
        vector<Vec3> positions = {Vec3(0.1, 0, 0), Vec3(0, 0.2, 0.1)};
        addBondForce(system, "300*(r-0.25)^2", {{0, 1}}, 0);
        if (withSite) {
            system.addParticle(0);
            system.setVirtualSite(2, new TwoParticleAverageSite(0, 1, 0.3, 0.7));
            positions.push_back(Vec3(5, 5, 5));
        }
        for (int group : {1, 2}) {
            string k = (group == 1 ? "60" : "40");
            if (withSite)
                addExternalForce(system, k+"*((x-0.1)^2+y^2+z^2)", {2}, group);
            else {
                CustomCompoundBondForce* force = new CustomCompoundBondForce(2, k+"*((0.3*x1+0.7*x2-0.1)^2+(0.3*y1+0.7*y2)^2+(0.3*z1+0.7*z2)^2)");
                force->addBond({0, 1});
                force->setForceGroup(group);
                system.addForce(force);
            }
        }
        KStepIntegrator integrator(0.005, 4, scheme, TEMPERATURE, 2.0);
        integrator.setRandomNumberSeed(64);
        unique_ptr<Context> context(createContext(system, integrator, positions));
        context->computeVirtualSites();
        context->setVelocities(withSite ? vector<Vec3>{Vec3(1, 0, 0), Vec3(0, 1, 0), Vec3()} : vector<Vec3>{Vec3(1, 0, 0), Vec3(0, 1, 0)});
        for (int i = 0; i < 50; i++) {
            integrator.step(1);
            vector<Vec3> x = getPositions(*context);
            if (withSite)
                ASSERT_VEC(x[0]*0.3+x[1]*0.7, x[2], tolerance(1e-12));
        }
        if (scheme == "metropolis")
            ASSERT(integrator.getStatistics().flips > 0);
        vector<Vec3> x = getPositions(*context), v = getVelocities(*context);
        results.push_back({x[0], x[1], v[0], v[1]});
    }
    ASSERT_VECS(results[1], results[0], tolerance(1e-7));
}

/**
 * A particle without mass stays where it is, and acts like a fixed point.
 */
void testMasslessParticle(const string& scheme) {
    const Vec3 fixedPoint(0.5, 0.1, -0.2);
    vector<vector<Vec3> > results;
    for (bool withParticle : {true, false}) {
        System system;
        system.addParticle(4);
        vector<Vec3> positions = {Vec3()};
        if (withParticle) {
            system.addParticle(0);
            positions.push_back(fixedPoint);
            addBondForce(system, "60*r^2", {{0, 1}}, 1);
            addBondForce(system, "40*r^2", {{0, 1}}, 2);
        }
        else {
            addExternalForce(system, "60*((x-0.5)^2+(y-0.1)^2+(z+0.2)^2)", {0}, 1);
            addExternalForce(system, "40*((x-0.5)^2+(y-0.1)^2+(z+0.2)^2)", {0}, 2);
        }
        KStepIntegrator integrator(0.005, 4, scheme, TEMPERATURE, 2.0);
        integrator.setRandomNumberSeed(65);
        unique_ptr<Context> context(createContext(system, integrator, positions));
        const vector<Vec3> start = getPositions(*context);
        integrator.step(50);
        vector<Vec3> x = getPositions(*context), v = getVelocities(*context);
        if (withParticle) {
            ASSERT_VEC(start[1], x[1], 0);
            ASSERT_VEC(Vec3(), v[1], 0);
        }
        results.push_back({x[0], v[0]});
    }
    ASSERT_VECS(results[1], results[0], tolerance(1e-7));
}

void runTests() {
    testHarmonicOscillators();
    testKineticEnergy();
    testFrictionRate();
    testConstrainedChain();
    testWaterDroplet();
    for (string scheme : {"impulse", "metropolis"}) {
        testVirtualSite(scheme);
        testMasslessParticle(scheme);
    }
}
