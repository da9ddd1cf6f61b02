#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The scheme "impulse" without friction: an integrator that is exactly reversible, of second order, and equal to
 * well-known algorithms in limiting cases.
 */

static vector<Vec3> moleculePositions() {
    return {Vec3(), Vec3(0.15, 0, 0), Vec3(0.2, 0.14, 0), Vec3(0.33, 0.16, 0.08), Vec3(0.1, 0.4, 0.3), Vec3(-0.2, 0.3, -0.1)};
}

static vector<Vec3> moleculeVelocities() {
    return {Vec3(0.3, -0.2, 0.1), Vec3(-0.5, 0.4, 0.2), Vec3(0.1, 0.3, -0.6), Vec3(0.2, -0.4, 0.3), Vec3(0.6, -0.1, 0.2), Vec3(-0.3, 0.2, 0.5)};
}

/**
 * A stiff, anharmonic chain of four particles (Morse bonds and angles as corrector; harmonic, softer and longer bonds
 * as model) with two solvent particles.  All forces are internal, so momentum is conserved.
 */
static void buildMolecule(System& system, bool withModel, bool withConstraint=false) {
    for (double mass : {12.0, 14.0, 12.0, 2.0, 16.0, 20.0})
        system.addParticle(mass);
    vector<pair<int, int> > bonds = {{0, 1}, {1, 2}, {2, 3}};
    addBondForce(system, "300*(1-exp(-15*(r-0.15)))^2", bonds, 1);
    HarmonicAngleForce* angles = new HarmonicAngleForce();
    angles->addAngle(0, 1, 2, 1.9, 300);
    angles->addAngle(1, 2, 3, 1.9, 200);
    angles->setForceGroup(1);
    system.addForce(angles);
    if (withModel) {
        addBondForce(system, "55000*(r-0.155)^2", bonds, 2);
        HarmonicAngleForce* modelAngles = new HarmonicAngleForce();
        modelAngles->addAngle(0, 1, 2, 2.0, 250);
        modelAngles->addAngle(1, 2, 3, 1.8, 220);
        modelAngles->setForceGroup(2);
        system.addForce(modelAngles);
    }
    addBondForce(system, "0.02/r^6+20*r^2", {{0, 4}, {3, 4}, {2, 5}, {4, 5}}, 0);
    CustomCompoundBondForce* threeBody = new CustomCompoundBondForce(3, "5*distance(p1,p2)*distance(p2,p3)+3*angle(p1,p2,p3)");
    threeBody->addBond({3, 4, 5});
    system.addForce(threeBody);
    if (withConstraint)
        system.addConstraint(4, 5, sqrt(0.26));
}

/** The rms deviation of the true energy from its mean over a fixed time. */
static double getEnergyError(double baseStepSize, int k, double time) {
    System system;
    buildMolecule(system, true);
    KStepIntegrator integrator(baseStepSize, k);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    context->setVelocities(moleculeVelocities());
    vector<double> energies;
    double mean = 0;
    while (context->getTime() < time) {
        integrator.step(1);
        energies.push_back(getTrueEnergy(*context));
        mean += energies.back();
    }
    mean /= energies.size();
    double sum = 0;
    for (double energy : energies)
        sum += (energy-mean)*(energy-mean);
    return sqrt(sum/energies.size());
}

/**
 * Halving the macro-step, by a smaller k or by a smaller base step, must divide the energy error by four.
 */
void testOrder() {
    double errors[] = {getEnergyError(0.0001, 16, 0.4), getEnergyError(0.0001, 8, 0.4), getEnergyError(0.0001, 4, 0.4)};
    ASSERT(errors[2] > 1e-4);
    for (int i = 0; i < 2; i++) {
        ASSERT(errors[i]/errors[i+1] > 3.5);
        ASSERT(errors[i]/errors[i+1] < 4.7);
    }
    double ratio = getEnergyError(0.0004, 4, 0.4)/getEnergyError(0.0002, 4, 0.4);
    ASSERT(ratio > 3.5);
    ASSERT(ratio < 4.7);
}

void testReversibility() {
    System system;
    buildMolecule(system, true, true);
    KStepIntegrator integrator(0.0005, 4);
    integrator.setConstraintTolerance(1e-12);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    context->setVelocities(moleculeVelocities());
    context->applyVelocityConstraints(1e-12);
    vector<Vec3> startVelocities = getVelocities(*context);
    const int steps = 100;
    integrator.step(steps);
    vector<Vec3> velocities = getVelocities(*context);
    // The way has to be long enough to come back from.
    Vec3 moved = getPositions(*context)[3]-moleculePositions()[3];
    ASSERT(sqrt(moved.dot(moved)) > 0.05);
    for (Vec3& v : velocities)
        v = -v;
    context->setVelocities(velocities);
    integrator.step(steps);
    ASSERT_VECS(moleculePositions(), getPositions(*context), tolerance(1e-9));
    velocities = getVelocities(*context);
    for (size_t i = 0; i < velocities.size(); i++)
        ASSERT_VEC(-startVelocities[i], velocities[i], tolerance(1e-7));
}

void testMomentumConservation() {
    System system;
    buildMolecule(system, true);
    KStepIntegrator integrator(0.0005, 4);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    context->setVelocities(moleculeVelocities());
    auto getMomentum = [&] (const vector<Vec3>& velocities) {
        Vec3 momentum;
        for (int i = 0; i < system.getNumParticles(); i++)
            momentum += velocities[i]*system.getParticleMass(i);
        return momentum;
    };
    integrator.step(200);
    ASSERT_VEC(getMomentum(moleculeVelocities()), getMomentum(getVelocities(*context)), tolerance(1e-9));
}

/**
 * Velocity Verlet with all forces of groups 0 and 1, written out.
 */
static void integrateVerlet(double stepSize, int steps, vector<Vec3>& x, vector<Vec3>& v) {
    System system;
    buildMolecule(system, false);
    VerletIntegrator unused(0.001);
    unique_ptr<Context> context(createContext(system, unused, x));
    vector<Vec3> f = context->getState(State::Forces).getForces();
    for (int step = 0; step < steps; step++) {
        for (size_t i = 0; i < x.size(); i++) {
            v[i] += f[i]*(0.5*stepSize/system.getParticleMass(i));
            x[i] += v[i]*stepSize;
        }
        context->setPositions(x);
        f = context->getState(State::Forces).getForces();
        for (size_t i = 0; i < x.size(); i++)
            v[i] += f[i]*(0.5*stepSize/system.getParticleMass(i));
    }
}

/**
 * With k=1 all half kicks coincide, so the scheme is velocity Verlet on the true Hamiltonian, and any model cancels.
 */
void testVelocityVerlet(bool withModel) {
    System system;
    buildMolecule(system, withModel);
    KStepIntegrator integrator(0.0005, 1);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    context->setVelocities(moleculeVelocities());
    integrator.step(50);
    vector<Vec3> x = moleculePositions(), v = moleculeVelocities();
    integrateVerlet(0.0005, 50, x, v);
    ASSERT_VECS(x, getPositions(*context), tolerance(1e-10));
    ASSERT_VECS(v, getVelocities(*context), tolerance(1e-8));
}

/**
 * The same algorithm as a program for OpenMM's CustomIntegrator, where every computation may use one force group only.
 */
static void writeTwin(CustomIntegrator& twin, int k, bool constraints) {
    twin.addPerDofVariable("x1", 0);
    twin.addGlobalVariable("k", k);
    auto addCorrectorKick = [&] () {
        twin.addComputePerDof("v", "v+0.5*k*dt*f1/m");
        twin.addComputePerDof("v", "v-0.5*k*dt*f2/m");
    };
    auto addFastKick = [&] () {
        twin.addComputePerDof("v", "v+0.5*dt*f0/m");
        twin.addComputePerDof("v", "v+0.5*dt*f2/m");
    };
    twin.addUpdateContextState();
    addCorrectorKick();
    for (int i = 0; i < k; i++) {
        addFastKick();
        twin.addComputePerDof("x", "x+dt*v");
        if (constraints) {
            twin.addComputePerDof("x1", "x");
            twin.addConstrainPositions();
            twin.addComputePerDof("v", "v+(x-x1)/dt");
        }
        addFastKick();
    }
    addCorrectorKick();
    if (constraints)
        twin.addConstrainVelocities();
}

void testTwin(bool constraints, bool withModel) {
    const int k = 5;
    const double dt = 0.0004;
    System system;
    buildMolecule(system, withModel, constraints);
    KStepIntegrator integrator(dt, k);
    CustomIntegrator twin(dt);
    writeTwin(twin, k, constraints);
    vector<vector<Vec3> > positions, velocities;
    for (Integrator* i : {(Integrator*) &integrator, (Integrator*) &twin}) {
        i->setConstraintTolerance(1e-12);
        unique_ptr<Context> context(createContext(system, *i, moleculePositions()));
        context->setVelocities(moleculeVelocities());
        context->applyVelocityConstraints(1e-12);
        i->step(50);
        positions.push_back(getPositions(*context));
        velocities.push_back(getVelocities(*context));
    }
    double accuracy = tolerance(constraints ? 1e-8 : 1e-10);
    ASSERT_VECS(positions[1], positions[0], accuracy);
    ASSERT_VECS(velocities[1], velocities[0], 100*accuracy);
}

/**
 * One evaluation of the corrector for each macro-step; the first step needs one more for its start.  Asking for
 * states in between changes nothing.
 */
void testCorrectorCalls() {
    System system;
    buildMolecule(system, true);
    KStepIntegrator integrator(0.0005, 4);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    integrator.step(1);
    ASSERT_EQUAL(2, integrator.getStatistics().correctorCalls);
    integrator.step(5);
    ASSERT_EQUAL(7, integrator.getStatistics().correctorCalls);
    integrator.resetStatistics();
    ASSERT_EQUAL(0, integrator.getStatistics().macroSteps);
    for (int i = 0; i < 5; i++) {
        integrator.step(1);
        context->getState(State::Positions | State::Velocities | State::Forces | State::Energy);
        context->setVelocities(moleculeVelocities());
    }
    ASSERT_EQUAL(5, integrator.getStatistics().correctorCalls);
    ASSERT_EQUAL(5, integrator.getStatistics().macroSteps);
    ASSERT_EQUAL(0, integrator.getStatistics().chances);
}

void testBookkeeping() {
    System system;
    buildMolecule(system, true);
    KStepIntegrator integrator(0.0005, 4);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    integrator.step(7);
    ASSERT_EQUAL(7, context->getStepCount());
    ASSERT_NEAR(7*0.002, context->getTime(), 1e-12);
    // 0.03 ps is a multiple of the macro-step and must be reached exactly; 0.031 ps is passed by the next one.
    integrator.stepTo(0.03);
    ASSERT_EQUAL(15, context->getStepCount());
    integrator.stepTo(0.03);
    ASSERT_EQUAL(15, context->getStepCount());
    integrator.stepTo(0.031);
    ASSERT_EQUAL(16, context->getStepCount());
    ASSERT_NEAR(0.032, context->getTime(), 1e-12);
}

/**
 * Step sizes can be set as the macro-step or the base step, and hold for steps from then on.
 */
void testStepSizes() {
    System system;
    buildMolecule(system, true);
    KStepIntegrator integrator(0.0005, 4);
    ASSERT_NEAR(0.002, integrator.getStepSize(), 1e-15);
    integrator.setStepSize(0.0012);
    ASSERT_NEAR(0.0003, integrator.getBaseStepSize(), 1e-15);
    integrator.setBaseStepSize(0.0004);
    ASSERT_NEAR(0.0016, integrator.getStepSize(), 1e-15);
    integrator.setK(3);
    ASSERT_NEAR(0.0012, integrator.getStepSize(), 1e-15);
    ASSERT_NEAR(0.0004, integrator.getBaseStepSize(), 1e-15);
    unique_ptr<Context> context(createContext(system, integrator, moleculePositions()));
    context->setVelocities(moleculeVelocities());
    integrator.step(10);
    KStepIntegrator other(0.0002, 6);
    unique_ptr<Context> otherContext(createContext(system, other, getPositions(*context)));
    otherContext->setVelocities(getVelocities(*context));
    integrator.setBaseStepSize(0.0002);
    integrator.setK(6);
    integrator.step(10);
    other.step(10);
    ASSERT_VECS(getPositions(*otherContext), getPositions(*context), tolerance(1e-12));
    ASSERT_NEAR(10*0.0012+10*0.0012, context->getTime(), 1e-12);
}

void runTests() {
    testOrder();
    testReversibility();
    testMomentumConservation();
    testVelocityVerlet(false);
    testVelocityVerlet(true);
    for (bool constraints : {false, true})
        for (bool withModel : {false, true})
            testTwin(constraints, withModel);
    testCorrectorCalls();
    testBookkeeping();
    testStepSizes();
}
