#include "TestUtilities.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmmkstep/QMRegionForce.h"
#include <memory>
#include <sstream>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The check for a resonance with bonds to hydrogen before the first step, and the bias of a mollified run.
 */

/** A QM region whose energy is in OpenMM's own forces: it only says which particles belong to it. */
class Region : public QMRegionForce {
public:
    Region(const vector<int>& particles) : QMRegionForce(particles) {
        setForceGroup(1);
    }
protected:
    ForceImpl* createImpl() const override {
        class Impl : public CustomCPPForceImpl {
        public:
            Impl(const Region& owner) : CustomCPPForceImpl(owner), owner(owner) {
            }
            double computeForce(ContextImpl& context, const vector<Vec3>& positions, vector<Vec3>& forces) override {
                fill(forces.begin(), forces.end(), Vec3());
                return 0;
            }
            const Region& getOwner() const override {
                return owner;
            }
        private:
            const Region& owner;
        };
        return new Impl(*this);
    }
};

// Bonds to hydrogen of particles 1 (to 0) and 3 (to 2); the first vibrates faster.  Particle 2 is as heavy as 0.
const double FAST = 4.5e5, SLOW = 3e5, HEAVY = 16, HYDROGEN = 1;

static void buildSystem(System& system, bool withModel, bool withRegion=true) {
    for (double mass : {HEAVY, HYDROGEN, HEAVY, HYDROGEN})
        system.addParticle(mass);
    for (int group = 1; group <= (withModel ? 2 : 1); group++) {
        HarmonicBondForce* bonds = new HarmonicBondForce();
        // The corrector is stiffer: which of the two is asked shows in the period.
        double factor = (group == 1 ? 1.2 : 1.0);
        bonds->addBond(0, 1, 0.1, FAST*factor);
        bonds->addBond(2, 3, 0.1, SLOW*factor);
        bonds->addBond(0, 2, 0.15, 2e5*factor);
        bonds->setForceGroup(group);
        system.addForce(bonds);
    }
    if (withRegion)
        system.addForce(new Region({2, 3, 0, 1}));
}

static const vector<Vec3> START = {Vec3(), Vec3(0.1, 0.001, 0), Vec3(0, 0.15, 0), Vec3(0.03, 0.245, 0.02)};

static double getPeriod(double forceConstant) {
    return 2*M_PI/sqrt(forceConstant*(1/HEAVY+1/HYDROGEN));
}

/** Make one step of length h and return what was written to the standard error stream. */
static string step(System& system, KStepIntegrator& integrator, double h) {
    integrator.setStepSize(h);
    unique_ptr<Context> context(createContext(system, integrator, START));
    const vector<Vec3> start = getPositions(*context);
    stringstream text;
    streambuf* before = cerr.rdbuf(text.rdbuf());
    try {
        integrator.step(1);
        integrator.step(1);
    }
    catch (...) {
        cerr.rdbuf(before);
        ASSERT_VECS(start, getPositions(*context), 0.0);
        throw;
    }
    cerr.rdbuf(before);
    return text.str();
}

/** The borders are at 0.28 and 0.35 of the period of the fastest bond, by the force constant of the model. */
void testBorders() {
    System system, noModel;
    buildSystem(system, true);
    buildSystem(noModel, false);
    for (System* s : {&system, &noModel}) {
        double period = getPeriod(s == &system ? FAST : 1.2*FAST);
        KStepIntegrator integrator(0.0005, 4);
        ASSERT(step(*s, integrator, 0.279*period).empty());
        string warning = step(*s, integrator, 0.281*period);
        ASSERT(warning.find("Warning") == 0 && warning.find("between particles 0 and 1") != string::npos);
        ASSERT_EQUAL(warning.find("Warning"), warning.rfind("Warning")); // once
        ASSERT(step(*s, integrator, 0.349*period).find("0.349 of the period") != string::npos);
        ASSERT_THROWS(step(*s, integrator, 0.351*period), "setMollification() (findMollification() in Python makes the list), or take a smaller k (3 here), or call setAllowResonance(true)");
        integrator.setAllowResonance(true);
        ASSERT(step(*s, integrator, 0.4*period).empty());
    }
}

/** Bonds that mollification or a constraint holds do not count, nor particles that are in no QM region. */
void testExceptions() {
    double h = 0.45*getPeriod(FAST), slow = 0.3*getPeriod(SLOW);
    System system, constrained, plain, heavy;
    buildSystem(system, true);
    KStepIntegrator integrator(0.0005, 8);
    integrator.setMollification({{0, 1, 0.1}});
    ASSERT(step(system, integrator, slow).find("between particles 2 and 3") != string::npos);
    ASSERT_THROWS(step(system, integrator, h), "between particles 2 and 3");
    integrator.setMollification({{0, 1, 0.1}, {2, 3, 0.1}});
    ASSERT(step(system, integrator, h).empty());
    integrator.setMollification({});
    buildSystem(constrained, true);
    constrained.addConstraint(1, 0, sqrt(0.010001));
    ASSERT(step(constrained, integrator, slow).find("between particles 2 and 3") != string::npos);
    buildSystem(plain, true, false);
    ASSERT(step(plain, integrator, h).empty());
    buildSystem(heavy, true);
    for (int i : {1, 3})
        heavy.setParticleMass(i, 4.6);
    ASSERT(step(heavy, integrator, h).empty());
    KStepIntegrator everyStep(0.0005, 1);
    ASSERT(step(system, everyStep, 0.001).empty());
    ASSERT(step(system, everyStep, 0.0045).empty());
}

/** A longer step in the same Context is checked again, without new periods. */
void testChangedStep() {
    System system;
    buildSystem(system, true);
    KStepIntegrator integrator(0.0005, 4);
    unique_ptr<Context> context(createContext(system, integrator, START));
    integrator.step(1);
    integrator.setK(8);
    vector<Vec3> before = getPositions(*context);
    ASSERT_THROWS(integrator.step(1), "resonance");
    ASSERT_VECS(before, getPositions(*context), 0.0);
    integrator.setK(4);
    integrator.step(1);
    ASSERT_EQUAL(3, integrator.getStatistics().correctorCalls); // the periods cost none where there is a model
}

/** b by its definition at one point. */
void testBias() {
    System system;
    buildSystem(system, true);
    KStepIntegrator integrator(0.0005, 4);
    integrator.setMollification({{0, 1, 0.104}, {2, 3, 0.1}});
    vector<Vec3> x = START;
    x[1] = Vec3(0.103, 0, 0);
    x[3] = x[2]+Vec3(0, 0.1, 0);
    unique_ptr<Context> context(createContext(system, integrator, x));
    const vector<Vec3> start = getPositions(*context);
    // D = 0.2 k/2 (r-r0)^2 for each bond; only the one between 0 and 1 differs between x and A(x).
    ASSERT_NEAR(0.1*FAST*(0.003*0.003-0.004*0.004), integrator.computeMollificationBias(), tolerance(1e-8));
    ASSERT_VECS(start, getPositions(*context), 0.0);
    ASSERT_EQUAL(2, integrator.getStatistics().correctorCalls);
    KStepIntegrator plain(0.0005, 4), metropolis(0.0005, 4, "metropolis", 300);
    ASSERT_THROWS(plain.computeMollificationBias(), "not bound");
    unique_ptr<Context> plainContext(createContext(system, plain, x)), metropolisContext(createContext(system, metropolis, x));
    ASSERT_EQUAL(0.0, plain.computeMollificationBias());
    ASSERT_THROWS(metropolis.computeMollificationBias(), "belongs to the scheme 'impulse'");
}

/**
 * A bond that a poor model makes too short and too soft, sampled by the mollified impulse: the mean is the model's,
 * with the weights exp(-b/kT) it is the corrector's.  Both averages are known from integrals.
 */
void testWeights() {
    System system;
    system.addParticle(20.0);
    system.addParticle(4.0);
    addBondForce(system, "2000*(r-0.2)^2", {{0, 1}}, 1);
    addBondForce(system, "1500*(r-0.18)^2", {{0, 1}}, 2);
    const double kT = GAS*300;
    KStepIntegrator integrator(0.002, 4, "impulse", 300, 5);
    integrator.setErrorRecovery(false); // it would find the model unfit and go on without
    integrator.setMollification({{0, 1, 0.19}});
    integrator.setRandomNumberSeed(7);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(0.2, 0, 0)}));
    auto r = [] (double r) { return r; };
    double right = boltzmannAverage(r, [=] (double r) { return 2000*pow(r-0.2, 2)-2*kT*log(r); }, kT, 0.02, 0.4);
    double wrong = boltzmannAverage(r, [=] (double r) { return 1500*pow(r-0.18, 2)-2*kT*log(r); }, kT, 0.02, 0.4);
    ASSERT(right-wrong > 0.015);
    // The weighted mean is right where the weighted mean of r minus the right value is 0.
    BlockedMean unweighted, weighted;
    int numSamples = (int) (150000*samplingShare());
    for (int i = 0; i < numSamples; i++) {
        integrator.step(10);
        vector<Vec3> x = getPositions(*context);
        double length = sqrt((x[1]-x[0]).dot(x[1]-x[0]));
        unweighted.add(length);
        weighted.add(exp(-integrator.computeMollificationBias()/kT)*(length-right));
    }
    unweighted.assertMean("mean of the mollified run", wrong, 0.0004);
    weighted.assertMean("weighted deviation", 0, 0.0006);
}

void runTests() {
    testBorders();
    testExceptions();
    testChangedStep();
    testBias();
    testWeights();
}
