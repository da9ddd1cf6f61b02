#include "FaultyForce.h"
#include "SpringsInField.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include <memory>
#include <stdexcept>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * What a platform's CalcQMRegionForceKernel must do: bring right positions to a QMRegionForce, its forces and energy to
 * the Context, and errors to the caller.  What is right comes from an Embedding of the test's own.
 */

/** Forces have the size of 1000 kJ/mol/nm here.  States of mixed precision hold them in single precision. */
static double tolerance() {
    if (!isGPUPlatform())
        return 1e-9;
    return areEnergiesDouble() ? 1e-6 : 1e-4;
}

/** A Context of an EmbeddedChain, in which group 0 pulls at every particle with a force of its own. */
class Simulation {
public:
    Simulation() {
        CustomExternalForce* pull = new CustomExternalForce("-(fx*x+fy*y+fz*z)");
        for (string name : {"fx", "fy", "fz"})
            pull->addPerParticleParameter(name);
        for (int i = 0; i < chain.system.getNumParticles(); i++) {
            pulls.push_back(Vec3(0.5+i%7, i%5-2.0, 1.0+i%3));
            pull->addParticle(i, {pulls[i][0], pulls[i][1], pulls[i][2]});
        }
        chain.system.addForce(pull);
    }
    void start() {
        context.reset(createContext(chain.system, integrator, chain.positions));
    }
    State getState(int types, int groups=-1) {
        return context->getState(types, false, groups);
    }
    /** What the SpringsInField gives at the Context's positions. */
    double computeExpected(vector<Vec3>& forces) {
        State state = getState(State::Positions);
        Vec3 a, b, c;
        state.getPeriodicBoxVectors(a, b, c);
        Embedding embedding(chain.getForce(), chain.system);
        embedding.setPositions(state.getPositions(), PeriodicBox(a, b, c));
        embedding.clearForces();
        double energy = SpringsInField::compute(embedding);
        ParticleForces list;
        list.forces.resize(chain.positions.size());
        embedding.scatterForces(list);
        forces = list.forces;
        return energy;
    }
    /** Compare energy and forces, alone and together with the other force's. */
    void check() {
        vector<Vec3> expected;
        double energy = computeExpected(expected);
        State state = getState(State::Energy | State::Forces, 1<<1);
        ASSERT_NEAR(energy, state.getPotentialEnergy(), tolerance());
        ASSERT_VECS(expected, state.getForces(), tolerance());
        for (size_t i = 0; i < expected.size(); i++)
            expected[i] += pulls[i];
        ASSERT_VECS(expected, getState(State::Forces).getForces(), tolerance());
        energy += getState(State::Energy, 1<<0).getPotentialEnergy();
        ASSERT_NEAR(energy, getState(State::Energy).getPotentialEnergy(), 10*tolerance());
        ASSERT_VECS(pulls, getState(State::Forces, 1<<0).getForces(), tolerance());
    }
    EmbeddedChain chain;
    vector<Vec3> pulls;
    VerletIntegrator integrator = VerletIntegrator(0.001);
    unique_ptr<Context> context;
};

/** Waters come and go between evaluations: forces are those of the positions, and nothing is left of earlier ones. */
void testMovingWaters() {
    Simulation simulation;
    simulation.start();
    vector<Vec3> x = simulation.chain.positions;
    mt19937 random(3);
    for (int i = 0; i < 10; i++) {
        simulation.check();
        EmbeddedChain::move(x, 0.05, random);
        simulation.context->setPositions(x);
    }
}

/** The QM atoms between evaluations, the link atom with them, also where the device has sorted and wrapped particles. */
void testLocatingQMAtoms() {
    Simulation simulation;
    simulation.start();
    Embedding embedding(simulation.chain.getForce(), simulation.chain.system);
    vector<Vec3> x = simulation.chain.positions;
    mt19937 random(7);
    for (int i = 0; i < 5; i++) {
        for (Vec3& position : x)
            position += Vec3(0.4, -0.3, 0.7);
        EmbeddedChain::move(x, 0.05, random);
        simulation.context->setPositions(x);
        vector<Vec3> found = simulation.chain.getForce().locateQMAtoms(*simulation.context);
        ASSERT_VECS(embedding.locateQMAtoms(simulation.getState(State::Positions).getPositions(), EmbeddedChain::getBox()), found, 1e-9);
        ASSERT_EQUAL(4, found.size());
    }
    ASSERT_EQUAL(0, simulation.chain.getForce().numCalls);
    simulation.check();
}

/** One water, seen in full, goes out of range: then the other force alone is left on it. */
void testLeavingTheRange() {
    Simulation simulation;
    vector<Vec3>& x = simulation.chain.positions;
    int first = -1;
    for (size_t i = EmbeddedChain::FIRST_WATER; i < x.size() && first == -1; i += 3) {
        Vec3 delta = EmbeddedChain::getBox().getImage(x[i]-x[1]);
        if (sqrt(delta.dot(delta)) < 0.4)
            first = i;
    }
    simulation.start();
    vector<Vec3> forces = simulation.getState(State::Forces).getForces();
    Vec3 felt = forces[first]-simulation.pulls[first];
    ASSERT(sqrt(felt.dot(felt)) > 1);
    for (int i = first; i < first+3; i++)
        x[i] += Vec3(0, 1.2, 0);
    simulation.context->setPositions(x);
    forces = simulation.getState(State::Forces).getForces();
    for (int i = first; i < first+3; i++)
        ASSERT_VEC(simulation.pulls[i], forces[i], 0);
    simulation.check();
}

/** Nothing is computed for other groups, nor twice at the same positions; the next step is new. */
void testNumberOfCalls() {
    Simulation simulation;
    simulation.start();
    SpringsInField& force = simulation.chain.getForce();
    simulation.getState(State::Energy | State::Forces, 1<<0);
    ASSERT_EQUAL(0, force.numCalls);
    simulation.getState(State::Energy, 1<<1);
    simulation.getState(State::Forces);
    simulation.getState(State::Energy | State::Forces, 1<<1);
    ASSERT_EQUAL(1, force.numCalls);
    simulation.integrator.step(5);
    simulation.getState(State::Energy);
    ASSERT_EQUAL(6, force.numCalls);
    simulation.integrator.setIntegrationForceGroups(1<<0);
    simulation.integrator.step(5);
    ASSERT_EQUAL(6, force.numCalls);
    simulation.check();
}

/** Several of them in one System, which OpenMM's CustomCPPForces treat differently from a single one. */
void testTwoForces() {
    Simulation simulation;
    simulation.chain.addForce(3);
    simulation.start();
    vector<Vec3> expected, forces;
    double energy = simulation.computeExpected(expected);
    forces = simulation.getState(State::Forces, (1<<1) | (1<<3)).getForces();
    for (Vec3& f : expected)
        f *= 2;
    ASSERT_VECS(expected, forces, 2*tolerance());
    ASSERT_NEAR(2*energy, simulation.getState(State::Energy, (1<<1) | (1<<3)).getPotentialEnergy(), 2*tolerance());
    ASSERT_NEAR(energy, simulation.getState(State::Energy, 1<<3).getPotentialEnergy(), tolerance());
}

void testExceptions() {
    Simulation simulation;
    simulation.start();
    SpringsInField& force = simulation.chain.getForce();
    force.fault = [] { throw ConvergenceError("injected: no convergence"); };
    for (int types : vector<int>{State::Energy, State::Forces, State::Energy | State::Forces}) {
        bool hasType = false;
        try {
            simulation.getState(types);
        }
        catch (const ConvergenceError& e) {
            hasType = (string(e.what()) == "injected: no convergence");
        }
        ASSERT(hasType);
    }
    force.fault = [] { throw runtime_error("injected: another library"); };
    ASSERT_THROWS(simulation.getState(State::Energy), "injected: another library");
    ASSERT_THROWS(simulation.integrator.step(1), "injected: another library");
    force.fault = [] {};
    simulation.check();
    vector<Vec3> x = simulation.chain.positions;
    x[1][2] = nan("");
    ASSERT_THROWS((simulation.context->setPositions(x), simulation.getState(State::Energy)), "NaN");
    simulation.context->setPositions(simulation.chain.positions);
    simulation.check();
}

/** An evaluation that another force ends leaves nothing behind for one of other groups. */
void testExceptionOfAnotherForce() {
    Simulation simulation;
    FaultyForce* faulty = new FaultyForce(1, 1, [] (long long) { return NoConvergence; });
    faulty->setForceGroup(4);
    simulation.chain.system.addForce(faulty);
    addIdleForce(simulation.chain.system);
    simulation.start();
    double energy = simulation.getState(State::Energy, 1<<0).getPotentialEnergy();
    ASSERT_THROWS(simulation.getState(State::Energy, (1<<1) | (1<<4)), "injected: no convergence");
    ASSERT_NEAR(energy, simulation.getState(State::Energy, 1<<0).getPotentialEnergy(), tolerance());
}

/** A barostat's trial asks for an energy; it is infinite and without forces.  Forces alone are an error. */
void testBoxTooSmall() {
    Simulation simulation;
    simulation.start();
    simulation.check();
    const double small = 1.5;
    simulation.context->setPeriodicBoxVectors(Vec3(small, 0, 0), Vec3(0, small, 0), Vec3(0, 0, small));
    ASSERT(isinf(simulation.getState(State::Energy).getPotentialEnergy()));
    State state = simulation.getState(State::Energy | State::Forces);
    ASSERT(isinf(state.getPotentialEnergy()));
    ASSERT_VECS(simulation.pulls, state.getForces(), tolerance());
    ASSERT_THROWS(simulation.getState(State::Forces), "too small");
    ASSERT(isfinite(simulation.getState(State::Energy, 1<<0).getPotentialEnergy()));
    const double edge = EmbeddedChain::EDGE;
    simulation.context->setPeriodicBoxVectors(Vec3(edge, 0, 0), Vec3(0, edge, 0), Vec3(0, 0, edge));
    simulation.check();
}

/** Charges change, the positions do not. */
void testUpdateParameters() {
    Simulation simulation;
    simulation.start();
    simulation.check();
    SpringsInField& force = simulation.chain.getForce();
    for (int i = 0; i < force.getNumEmbeddingCharges(); i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        force.setEmbeddingChargeParameters(i, particle, 1.1*charge, atomicNumber);
    }
    force.updateParametersInContext(*simulation.context);
    simulation.check();
}

void testReinitialize() {
    Simulation simulation;
    simulation.start();
    simulation.check();
    simulation.context->reinitialize(true);
    simulation.check();
}

void runTests() {
    testMovingWaters();
    testLocatingQMAtoms();
    testLeavingTheRange();
    testNumberOfCalls();
    testTwoForces();
    testExceptions();
    testExceptionOfAnotherForce();
    testBoxTooSmall();
    testUpdateParameters();
    testReinitialize();
}
