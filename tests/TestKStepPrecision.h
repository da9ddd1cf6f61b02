#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The same path on every platform and in every precision: a cluster of water, three of its molecules with a corrector and
 * a model, against Reference.  On Reference itself this shows that a path is repeated.
 */

static const double TEMPERATURE = 300;
static const int SIDE = 3, NUM_WATERS = SIDE*SIDE*SIDE;

/**
 * Rigid waters on a lattice; the first three are flexible and have a corrector (group 1) and a model (group 2).  All
 * parameters are numbers of single precision, which OpenMM's GPU platforms keep them in.
 */
static void buildCluster(System& system, vector<Vec3>& positions) {
    NonbondedForce* nonbonded = new NonbondedForce();
    HarmonicBondForce *corrector = new HarmonicBondForce(), *model = new HarmonicBondForce();
    for (int i = 0; i < NUM_WATERS; i++) {
        int first = 3*i;
        for (int j = 0; j < 3; j++)
            system.addParticle(j == 0 ? 15.999 : 1.008);
        nonbonded->addParticle(-2*0.417f, 0.315f, 0.635f);
        nonbonded->addParticle(0.417f, 1, 0);
        nonbonded->addParticle(0.417f, 1, 0);
        for (auto pair : vector<pair<int, int> >{{0, 1}, {0, 2}, {1, 2}}) {
            int a = first+pair.first, b = first+pair.second;
            double length = (pair.first == 0 ? 0.09572f : 0.15139f);
            nonbonded->addException(a, b, 0, 1, 0);
            if (i >= 3)
                system.addConstraint(a, b, length);
            else {
                corrector->addBond(a, b, length, pair.first == 0 ? 3e5 : 2e4);
                model->addBond(a, b, (float) (length+0.0005), pair.first == 0 ? 2.8e5 : 2.2e4);
            }
        }
        Vec3 origin = Vec3(i%SIDE, (i/SIDE)%SIDE, i/(SIDE*SIDE))*0.32;
        positions.push_back(origin);
        double stretch = (i < 3 ? 1.05 : 1);
        positions.push_back(origin+Vec3(0.075695, 0.058588, 0)*stretch);
        positions.push_back(origin+Vec3(-0.075695, 0.058588, 0));
    }
    corrector->setForceGroup(1);
    model->setForceGroup(2);
    system.addForce(nonbonded);
    system.addForce(corrector);
    system.addForce(model);
}

struct Path {
    vector<Vec3> positions, velocities, forces;
    double energy, kineticEnergy, d;
    KStepIntegrator::Statistics statistics;
};

static Path run(const string& scheme, bool onReference) {
    System system;
    vector<Vec3> positions;
    buildCluster(system, positions);
    // A friction too small to be felt: the noise is not the same everywhere.
    KStepIntegrator integrator(0.0005, 4, scheme, TEMPERATURE, scheme == "impulse" ? 0.0 : 1e-13);
    integrator.setConstraintTolerance(1e-8);
    integrator.setRandomNumberSeed(5);
    unique_ptr<Context> context;
    if (onReference) {
        context.reset(new Context(system, integrator, Platform::getPlatformByName("Reference")));
        context->setPositions(positions);
    }
    else
        context.reset(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(TEMPERATURE, 4);
    Path path;
    path.forces = context->getState(State::Forces, false, integrator.getIntegrationForceGroups()).getForces();
    integrator.step(25);
    path.positions = getPositions(*context);
    path.velocities = getVelocities(*context);
    State state = context->getState(State::Energy, false, integrator.getIntegrationForceGroups());
    path.energy = state.getPotentialEnergy();
    path.kineticEnergy = state.getKineticEnergy();
    path.d = integrator.computeD();
    path.statistics = integrator.getStatistics();
    return path;
}

void testPath(const string& scheme) {
    // Positions (nm) after 100 inner steps, velocities (nm/ps), energies (kJ/mol) and, relative to the largest one, forces.
    double x = 1e-10, v = 1e-8, e = 1e-7, f = 1e-10;
    if (isGPUPlatform() || testPlatform()->getName() == "CPU") {
        // The CPU platform computes nonbonded forces in single precision.
        bool isDouble = (testPrecision() == "double"), isMixed = (testPrecision() != "single");
        x = (isDouble ? 2e-7 : isMixed ? 4e-6 : 2e-5);
        v = 100*x;
        e = (isDouble ? 0.002 : isMixed ? 0.02 : 0.1);
        f = (isDouble ? 1e-6 : 1e-5);
    }
    Path expected = run(scheme, true), found = run(scheme, false);
    double largest = 0;
    for (const Vec3& force : expected.forces)
        largest = max(largest, sqrt(force.dot(force)));
    ASSERT_VECS(expected.forces, found.forces, f*largest);
    ASSERT_VECS(expected.positions, found.positions, x);
    ASSERT_VECS(expected.velocities, found.velocities, v);
    ASSERT_NEAR(expected.energy, found.energy, e);
    ASSERT_NEAR(expected.kineticEnergy, found.kineticEnergy, e);
    ASSERT_NEAR(expected.d, found.d, e);
    ASSERT_NEAR(expected.statistics.meanD, found.statistics.meanD, e);
    ASSERT_EQUAL(expected.statistics.flips, found.statistics.flips);
    ASSERT_EQUAL(expected.statistics.correctorCalls, found.statistics.correctorCalls);
}

void runTests() {
    for (string scheme : {"impulse", "metropolis", "reweight"})
        testPath(scheme);
}
