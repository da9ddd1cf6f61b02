#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * GPU platforms sort their particles in space and wrap molecules into the box, between macro-steps.  Here particles of a
 * dense fluid swap places all the time, and nothing may be mixed up: neither kept forces nor saved states.
 */

static const double TEMPERATURE = 300, EDGE = 2.4;
static const int SIDE = 7, NUM_PARTICLES = SIDE*SIDE*SIDE;

/** A soft, hot fluid; corrector and model hold every eighth particle in a well at its own place. */
static void buildFluid(System& system, vector<Vec3>& positions) {
    system.setDefaultPeriodicBoxVectors(Vec3(EDGE, 0, 0), Vec3(0, EDGE, 0), Vec3(0, 0, EDGE));
    NonbondedForce* nonbonded = new NonbondedForce();
    nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
    nonbonded->setCutoffDistance(0.9);
    system.addForce(nonbonded);
    for (int i = 0; i < NUM_PARTICLES; i++) {
        system.addParticle(4+i%3);
        nonbonded->addParticle(i%2 == 0 ? 0.05 : -0.05, 0.22, 0.3);
        positions.push_back(Vec3(i%SIDE, (i/SIDE)%SIDE, i/(SIDE*SIDE))*(EDGE/SIDE));
    }
    for (int group : {1, 2}) {
        CustomExternalForce* wells = new CustomExternalForce("k*periodicdistance(x, y, z, x0, y0, z0)^2");
        for (string name : {"k", "x0", "y0", "z0"})
            wells->addPerParticleParameter(name);
        for (int i = 0; i < NUM_PARTICLES; i += 8)
            wells->addParticle(i, {(group == 1 ? 2000.0 : 1900.0)+i, positions[i][0], positions[i][1], positions[i][2]});
        wells->setForceGroup(group);
        system.addForce(wells);
    }
}

/** The energy is conserved through a dozen sortings, and the held particles stay where they are held. */
void testSortedImpulse() {
    System system;
    vector<Vec3> positions;
    buildFluid(system, positions);
    KStepIntegrator integrator(0.001, 4);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(4*TEMPERATURE, 1);
    const int numSteps = 800;
    integrator.step(50);
    double start = integrator.computeConservedEnergy(), worst = 0;
    for (int i = 0; i < numSteps/20; i++) {
        integrator.step(20);
        worst = max(worst, fabs(integrator.computeConservedEnergy()-start));
    }
    vector<Vec3> x = getPositions(*context);
    double farthest = 0, held = 0;
    for (int i = 0; i < NUM_PARTICLES; i++) {
        Vec3 delta = x[i]-positions[i];
        double distance = sqrt(delta.dot(delta));
        (i%8 == 0 ? held : farthest) = max(i%8 == 0 ? held : farthest, distance);
    }
    // The others have to have changed places for the test to mean something.
    ASSERT(farthest > 0.75*EDGE);
    ASSERT(held < 0.5);
    // Of a kinetic energy of 5,100 kJ/mol; forces on the wrong particles bring thousands.
    ASSERT(worst < 15);
}

/**
 * In metropolis with k = 64 and half of the proposals refused: the flips restore states that were saved after sorting,
 * and the temperature stays what it is set to.
 */
void testSortedMetropolis() {
    System system;
    vector<Vec3> positions;
    buildFluid(system, positions);
    KStepIntegrator integrator(0.004, 64, "metropolis", 2*TEMPERATURE, 5.0);
    integrator.setRandomNumberSeed(11);
    integrator.setExtraChances(1);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(2*TEMPERATURE, 1);
    integrator.step(10);
    BlockedMean kineticEnergy;
    const int numSteps = 400;
    for (int i = 0; i < numSteps; i++) {
        integrator.step(1);
        kineticEnergy.add(context->getState(State::Energy).getKineticEnergy());
    }
    double expected = 1.5*NUM_PARTICLES*GAS*2*TEMPERATURE;
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    ASSERT(statistics.flips > 10 && statistics.accepted > 100);
    double error = kineticEnergy.getStandardError();
    ASSERT(error > 0 && error < 0.01*expected);
    ASSERT(fabs(kineticEnergy.getMean()-expected) < 4*error);
}

void runTests() {
    testSortedImpulse();
    testSortedMetropolis();
}
