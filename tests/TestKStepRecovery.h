#include "FaultyForce.h"
#include <algorithm>
#include <memory>
#include <random>
#include <set>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * Faults are injected into corrector and model: each must be noticed, counted and undone.
 */

static const double TEMPERATURE = 300;

/** Three particles; the model is 5 % too soft. */
struct Molecule {
    System system;
    FaultyForce *corrector, *model;
    Molecule() {
        for (double mass : {4.0, 6.0, 9.0})
            system.addParticle(mass);
        corrector = new FaultyForce(2000, 100, never);
        corrector->setForceGroup(1);
        system.addForce(corrector);
        model = new FaultyForce(1900, 95, never);
        model->setForceGroup(2);
        system.addForce(model);
    }
    static vector<Vec3> positions() {
        return {Vec3(0.01, 0, 0), Vec3(0.31, 0.02, 0), Vec3(0.1, 0.28, 0.05)};
    }
};

static long long totalFaults(const KStepIntegrator::Statistics& s) {
    return s.nonFinite+s.convergenceFailures+s.outliersD+s.outliersForce+s.outsideRegion;
}

static const int MACRO_STEPS = 10000;

/**
 * 10^4 macro-steps (fewer on the other platforms) in NVE with faults at random calls, about one in 300 macro-steps:
 * every one is noticed as what it is, and the energy is conserved as in a run without faults.
 */
void testInjectedFaults(InjectedFault fault, bool inModel, const string& kind) {
    int numSteps = (isLongSamplingPossible() ? MACRO_STEPS : MACRO_STEPS/10);
    double deviations[2];
    for (bool faulty : {false, true}) {
        Molecule molecule;
        FaultyForce* force = (inModel ? molecule.model : molecule.corrector);
        KStepIntegrator integrator(0.002, 4);
        unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
        context->setVelocitiesToTemperature(TEMPERATURE, 3);
        integrator.step(150); // the monitor must know the distribution of D
        double start = integrator.computeConservedEnergy();
        double deviation = 0;
        mt19937 random(17);
        bernoulli_distribution chance(1/(inModel ? 1200.0 : 300.0));
        for (int i = 0; i < numSteps; i++) {
            if (faulty)
                force->chooseFault = [&] (long long call) { return chance(random) ? fault : NoFault; };
            integrator.step(1);
            // Asking for the energy may call the forces too.
            force->chooseFault = never;
            for (const Vec3& x : getPositions(*context))
                ASSERT(isfinite(x.dot(x)));
            deviation = max(deviation, fabs(integrator.computeConservedEnergy()-start));
        }
        deviations[faulty] = deviation;
        KStepIntegrator::Statistics statistics = integrator.getStatistics();
        ASSERT_EQUAL(force->numFaults, totalFaults(statistics));
        ASSERT_EQUAL(force->numFaults, (long long) integrator.getEvents().size());
        ASSERT_EQUAL(numSteps+150, context->getStepCount());
        ASSERT_NEAR((numSteps+150)*0.008, context->getTime(), 1e-8);
        ASSERT_EQUAL(0, statistics.modelUnfit);
        if (faulty) {
            ASSERT(force->numFaults > numSteps/600);
            for (const KStepIntegrator::Event& event : integrator.getEvents())
                ASSERT_EQUAL(kind, event.kind);
        }
    }
    // Smaller k conserves the energy better, so the faulty run must not be worse than the other by more than chance.
    if (!(deviations[1] < 1.3*deviations[0]+0.01))
        throwException(__FILE__, __LINE__, "The energy deviates by "+to_string(deviations[1])+" with faults, "+to_string(deviations[0])+" without.");
}

/**
 * With K = 1 model and correction add up to the corrector, and so do plain steps: a run with faults and friction is the
 * run without model, noise included, since the random state comes back with the rest.
 */
void testRandomStateIsRestored() {
    Molecule faulty, plain;
    faulty.corrector->chooseFault = [] (long long call) { return call%7 == 5 ? NoConvergence : NoFault; };
    KStepIntegrator integrator(0.002, 1, "impulse", TEMPERATURE, 5), reference(0.002, 1, "impulse", TEMPERATURE, 5);
    vector<unique_ptr<Context> > contexts;
    for (KStepIntegrator* i : {&integrator, &reference}) {
        i->setRandomNumberSeed(9);
        contexts.emplace_back(createContext(i == &integrator ? faulty.system : plain.system, *i, Molecule::positions()));
        contexts.back()->setVelocitiesToTemperature(TEMPERATURE, 4);
        // Ten faults and more declare the model unfit, which shall not matter here.
        i->step(8);
    }
    ASSERT_EQUAL(1, integrator.getStatistics().redone);
    ASSERT_VECS(getPositions(*contexts[1]), getPositions(*contexts[0]), tolerance(1e-10));
    ASSERT_VECS(getVelocities(*contexts[1]), getVelocities(*contexts[0]), tolerance(1e-8));
}

/** Which interval follows which: K, K/2, ..., 1, plain steps; these for 8 macro-steps, then twice as long after 10. */
void testIntervals() {
    Molecule molecule;
    bool fail = false;
    molecule.model->chooseFault = [&] (long long call) { return fail ? NaNForce : NoFault; };
    KStepIntegrator integrator(0.002, 8);
    unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
    integrator.step(2);
    ASSERT_EQUAL(8, integrator.getStatistics().currentK);
    fail = true;
    integrator.step(1);
    fail = false;
    vector<int> from, to;
    for (const KStepIntegrator::Event& event : integrator.getEvents()) {
        from.push_back(event.fromK);
        to.push_back(event.toK);
        ASSERT_EQUAL(2, event.step);
        ASSERT_NEAR(2*0.016, event.time, 1e-12);
    }
    ASSERT(from == vector<int>({8, 4, 2, 1}));
    ASSERT(to == vector<int>({4, 2, 1, 0}));
    ASSERT_EQUAL(1, integrator.getStatistics().redone);
    ASSERT_EQUAL(1, integrator.getStatistics().plainMacroSteps);
    vector<int> intervals;
    for (int i = 0; i < 50; i++) {
        integrator.step(1);
        intervals.push_back(integrator.getStatistics().currentK);
    }
    // What getStatistics() shows is the interval of the next macro-step.
    vector<int> expected(7, 0);
    for (int k : {1, 2, 4})
        expected.insert(expected.end(), 10, k);
    expected.insert(expected.end(), 50-expected.size(), 8);
    ASSERT(intervals == expected);
    ASSERT_EQUAL(9, integrator.getStatistics().plainMacroSteps);
}

/** Adaptive k starts with a call each base step and grows; frames stay h apart. */
void testAdaptive(int k, vector<int> divisors) {
    Molecule molecule;
    KStepIntegrator integrator(0.002, k);
    integrator.setAdaptive(true);
    ASSERT(integrator.getAdaptive());
    unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    double start = integrator.computeConservedEnergy();
    long long calls = integrator.getStatistics().correctorCalls;
    int steps = 0;
    for (int interval : divisors) {
        for (int i = 0; i < 10; i++) {
            integrator.step(1);
            steps++;
            ASSERT_EQUAL(calls+k/interval, integrator.getStatistics().correctorCalls);
            calls += k/interval;
            ASSERT_NEAR(steps*k*0.002, context->getTime(), 1e-12);
            ASSERT_EQUAL(steps, context->getStepCount());
        }
    }
    // k = 1 is Verlet with the true force at 2 fs; a doubled kick would show at once.
    ASSERT_NEAR(start, integrator.computeConservedEnergy(), 0.3);
    KStepIntegrator metropolis(0.002, 4, "metropolis", TEMPERATURE);
    ASSERT_THROWS(metropolis.setAdaptive(true), "cannot be adaptive");
}

/** A model that fails too often is declared unfit and left alone; the true energy is conserved from there on. */
void testUnfitModel() {
    Molecule molecule;
    mt19937 random(5);
    bernoulli_distribution chance(0.02);
    molecule.model->chooseFault = [&] (long long call) { return chance(random) ? NaNForce : NoFault; };
    KStepIntegrator integrator(0.002, 4);
    unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    for (int i = 0; i < 1000 && !integrator.getStatistics().modelUnfit; i++)
        integrator.step(1);
    ASSERT_EQUAL(1, integrator.getStatistics().modelUnfit);
    ASSERT_EQUAL(10, integrator.getStatistics().redone);
    ASSERT_EQUAL(0, integrator.getStatistics().currentK);
    long long modelCalls = molecule.model->numCalls;
    double start = getTrueEnergy(*context), deviation = 0;
    for (int i = 0; i < 100; i++) {
        integrator.step(1);
        deviation = max(deviation, fabs(getTrueEnergy(*context)-start));
    }
    ASSERT(deviation < 0.3);
    ASSERT_EQUAL(modelCalls, molecule.model->numCalls);
}

/** A fault that plain steps do not avoid is an error with the first fault's reason, and nothing is lost. */
void testGivesUp() {
    Molecule molecule;
    bool fail = false;
    molecule.corrector->chooseFault = [&] (long long call) { return fail ? NoConvergence : NoFault; };
    KStepIntegrator integrator(0.002, 4, "impulse", TEMPERATURE, 1);
    unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
    context->setVelocitiesToTemperature(TEMPERATURE, 3);
    integrator.step(5);
    State before = context->getState(State::Positions | State::Velocities);
    fail = true;
    ASSERT_THROWS(integrator.step(1), "injected: no convergence");
    State after = context->getState(State::Positions | State::Velocities);
    ASSERT_VECS(before.getPositions(), after.getPositions(), 0);
    ASSERT_VECS(before.getVelocities(), after.getVelocities(), 0);
    ASSERT_EQUAL(before.getTime(), after.getTime());
    ASSERT_EQUAL(before.getStepCount(), after.getStepCount());
    fail = false;
    integrator.step(1);
    ASSERT_EQUAL(6, context->getStepCount());
    ASSERT_EQUAL(4, integrator.getStatistics().currentK);
}

/** Faults in metropolis and reweight are counted; they end a path, or give a weight of zero. */
void testOtherSchemes() {
    for (string scheme : {"metropolis", "reweight"}) {
        Molecule molecule;
        molecule.corrector->chooseFault = [&] (long long call) { return call > 0 && call%3 == 0 ? NoConvergence : NoFault; };
        KStepIntegrator integrator(0.002, 4, scheme, TEMPERATURE, 1);
        integrator.setExtraChances(1);
        unique_ptr<Context> context(createContext(molecule.system, integrator, Molecule::positions()));
        context->setVelocitiesToTemperature(TEMPERATURE, 3);
        int numInfinite = 0;
        for (int i = 0; i < 60; i++) {
            integrator.step(1);
            numInfinite += (scheme == "reweight" && isinf(integrator.computeD()));
        }
        KStepIntegrator::Statistics statistics = integrator.getStatistics();
        ASSERT_EQUAL(molecule.corrector->numFaults, statistics.convergenceFailures);
        ASSERT(statistics.convergenceFailures >= 19);
        ASSERT_EQUAL(60, statistics.macroSteps);
        if (scheme == "metropolis") {
            ASSERT(statistics.flips >= statistics.convergenceFailures);
        }
        else {
            ASSERT_EQUAL(statistics.convergenceFailures, numInfinite);
            ASSERT(statistics.effectiveSamples > 0 && statistics.effectiveSamples <= 60-numInfinite+1e-9);
        }
        ASSERT(isfinite(statistics.meanD) && isfinite(statistics.sdD));
    }
}

void runTests() {
    testInjectedFaults(NaNEnergy, false, "nonFinite");
    testInjectedFaults(NaNForce, false, "nonFinite");
    testInjectedFaults(NoConvergence, false, "convergenceFailure");
    testInjectedFaults(WrongEnergy, false, "outlierD");
    testInjectedFaults(WrongForce, false, "outlierForce");
    testInjectedFaults(NaNForce, true, "nonFinite");
    testRandomStateIsRestored();
    testIntervals();
    testAdaptive(8, {1, 2, 4, 8, 8});
    testAdaptive(5, {1, 5, 5});
    testAdaptive(12, {1, 3, 6, 12});
    testUnfitModel();
    testGivesUp();
    testOtherSchemes();
}
