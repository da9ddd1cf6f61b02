#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * Monte Carlo barostats between the macro-steps: the volume's distribution is that of the true Hamiltonian, D is that
 * of the new box and positions after a trial, and molecules are moved as wholes.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;
static const double BAR = 0.060221408; // kJ/mol/nm^3

static const double PRESSURE = 20, TENSION = 20; // bar, bar nm
static const double EDGE = 2.3, STIFFNESS = 100, CUTOFF = 0.6, CHARGE = 0.4, DIELECTRIC = 50, BOND = 200, LENGTH = 0.1;

/**
 * Two diatomic molecules whose first atoms repel each other, in a box whose edges have preferred lengths.  Bonds,
 * repulsion and the box's own energy are all in the corrector, and all wrong in the model.
 */
static void buildMolecules(System& system, const string& modelBox="70*((ax-2.0)^2+(by-2.1)^2+(cz-2.0)^2)") {
    system.setDefaultPeriodicBoxVectors(Vec3(EDGE, 0, 0), Vec3(0, EDGE, 0), Vec3(0, 0, EDGE));
    for (int i = 0; i < 4; i++)
        system.addParticle(1);
    for (int group : {1, 2}) {
        bool isModel = (group == 2);
        HarmonicBondForce* bonds = new HarmonicBondForce();
        for (int i : {0, 2})
            bonds->addBond(i, i+1, isModel ? 1.1*LENGTH : LENGTH, isModel ? 0.7*BOND : BOND);
        NonbondedForce* repulsion = new NonbondedForce();
        for (int i = 0; i < 4; i++)
            repulsion->addParticle(i%2 == 1 ? 0.0 : (isModel ? 0.7*CHARGE : CHARGE), 1, 0);
        repulsion->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
        repulsion->setCutoffDistance(CUTOFF);
        repulsion->setReactionFieldDielectric(DIELECTRIC);
        CustomVolumeForce* box = new CustomVolumeForce(isModel ? modelBox : "50*((ax-2.3)^2+(by-2.3)^2+(cz-2.3)^2)");
        for (Force* force : {(Force*) bonds, (Force*) repulsion, (Force*) box}) {
            force->setForceGroup(group);
            system.addForce(force);
        }
    }
}

static const vector<Vec3> MOLECULES = {Vec3(0.5, 0.5, 0.5), Vec3(0.6, 0.5, 0.5), Vec3(1.5, 1.2, 1.4), Vec3(1.5, 1.3, 1.4)};

static Force* createBarostat(const string& kind, int seed) {
    if (kind == "isotropic") {
        MonteCarloBarostat* barostat = new MonteCarloBarostat(PRESSURE, TEMPERATURE, 1);
        barostat->setRandomNumberSeed(seed);
        return barostat;
    }
    if (kind == "anisotropic") {
        MonteCarloAnisotropicBarostat* barostat = new MonteCarloAnisotropicBarostat(Vec3(PRESSURE, PRESSURE, PRESSURE), TEMPERATURE, true, true, true, 1);
        barostat->setRandomNumberSeed(seed);
        return barostat;
    }
    MonteCarloMembraneBarostat* barostat = new MonteCarloMembraneBarostat(PRESSURE, TENSION, TEMPERATURE, MonteCarloMembraneBarostat::XYIsotropic, MonteCarloMembraneBarostat::ZFree, 1);
    barostat->setRandomNumberSeed(seed);
    return barostat;
}

/** The energy of two charges with a reaction field around them, which is zero at the cutoff. */
static double computeRepulsion(double r) {
    double field = (DIELECTRIC-1)/(2*DIELECTRIC+1)/pow(CUTOFF, 3);
    return 138.935456*CHARGE*CHARGE*(1/r+field*r*r-1/CUTOFF-field*CUTOFF*CUTOFF);
}

/** 4 pi times the integral of f(u(r)) r^2 over the range of the repulsion. */
template <class Function>
static double integrateOverPair(Function f) {
    const int n = 2000;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double r = CUTOFF*(i+0.5)/n;
        sum += f(computeRepulsion(r))*r*r*CUTOFF/n;
    }
    return 4*M_PI*sum;
}

/** What the two molecules and the box must have on average. */
struct Expected {
    double volume = 0, edgeZ = 0, repulsion = 0;
};

/**
 * The configuration integral of the pair is V (V + B) with B the integral of exp(-u/kT)-1.  The barostats change the
 * volume, one edge, or the area, uniformly, so these are the variables to integrate over.
 */
static Expected computeExpected(const string& kind) {
    double b = integrateOverPair([] (double u) { return exp(-u/KT)-1; });
    double pairEnergy = integrateOverPair([] (double u) { return u*exp(-u/KT); });
    bool isotropic = (kind == "isotropic"), membrane = (kind == "membrane");
    const int n = 80;
    const double low = 1.4, high = 3.2;
    Expected sum;
    double norm = 0;
    auto edge = [=] (int i) { return low+(high-low)*(i+0.5)/n; };
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int k = 0; k < n; k++) {
                // Edges that are tied to one another are one variable.
                if ((isotropic && (j != i || k != i)) || (membrane && j != i))
                    continue;
                double x = edge(i), y = edge(j), z = edge(k), v = x*y*z;
                double jacobian = (isotropic ? x*x : (membrane ? x : 1));
                double energy = BAR*PRESSURE*v-(membrane ? BAR*TENSION*x*y : 0);
                for (double length : {x, y, z})
                    energy += 0.5*STIFFNESS*(length-EDGE)*(length-EDGE);
                double weight = jacobian*v*(v+b)*exp(-energy/KT);
                norm += weight;
                sum.volume += weight*v;
                sum.edgeZ += weight*z;
                sum.repulsion += weight*pairEnergy/(v+b);
            }
    sum.volume /= norm;
    sum.edgeZ /= norm;
    sum.repulsion /= norm;
    return sum;
}

/**
 * In reweight the barostat sees the model's box, which must then overlap with the true one; the averages are weighted.
 */
void testDistribution(const string& kind, const string& scheme) {
    bool isReweight = (scheme == "reweight");
    System system;
    if (isReweight)
        buildMolecules(system, "55*((ax-2.25)^2+(by-2.25)^2+(cz-2.3)^2)");
    else
        buildMolecules(system);
    system.addForce(createBarostat(kind, 80+kind.size()));
    KStepIntegrator integrator(0.005, scheme == "impulse" ? 2 : 12, scheme, TEMPERATURE, 5.0);
    integrator.setRandomNumberSeed(82);
    integrator.setErrorRecovery(false); // a rare collision of the two would be an outlier of the forces
    unique_ptr<Context> context(createContext(system, integrator, MOLECULES));
    context->setVelocitiesToTemperature(TEMPERATURE, 83);
    integrator.step(500);
    vector<vector<double> > samples;
    vector<double> weights;
    double sumWeights = 0;
    int numSamples = (isLongSamplingPossible() ? 8000 : 2000); // boxes move slowly: fewer would not do
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Energy);
        Vec3 a, b, c;
        state.getPeriodicBoxVectors(a, b, c);
        const vector<Vec3>& x = state.getPositions();
        Vec3 delta = x[2]-x[0];
        for (int j = 0; j < 3; j++) {
            double length = (j == 0 ? a : (j == 1 ? b : c))[j];
            delta[j] -= length*floor(delta[j]/length+0.5);
        }
        double r = sqrt(delta.dot(delta)), bonds = 0;
        for (int j : {0, 2}) {
            double length = sqrt((x[j+1]-x[j]).dot(x[j+1]-x[j]));
            bonds += 0.5*BOND*(length-LENGTH)*(length-LENGTH);
        }
        samples.push_back({a[0]*b[1]*c[2], c[2], bonds, state.getKineticEnergy(), r < CUTOFF ? computeRepulsion(r) : 0.0});
        weights.push_back(isReweight ? exp(-integrator.computeD()/KT) : 1.0);
        sumWeights += weights.back();
    }
    Expected expected = computeExpected(kind);
    auto effective = [] (double r) { return 0.5*BOND*(r-LENGTH)*(r-LENGTH)-2*KT*log(r); };
    double bonds = 2*boltzmannAverage([] (double r) { return 0.5*BOND*(r-LENGTH)*(r-LENGTH); }, effective, KT, 1e-6, 1.5);
    vector<string> names = {"volume", "edge along z", "energy of the bonds", "kinetic energy", "repulsion"};
    vector<double> values = {expected.volume, expected.edgeZ, bonds, 6*KT, expected.repulsion};
    vector<double> maxErrors = {0.01, 0.006, 0.043, 0.03, 0.5};
    for (int i = 0; i < 5; i++) {
        if (i == 4 && !isLongSamplingPossible())
            continue; // the two rarely meet
        // The error of a weighted mean, to first order in the deviation from the expected one.
        BlockedMean mean;
        for (int j = 0; j < numSamples; j++)
            mean.add(values[i]+weights[j]*numSamples/sumWeights*(samples[j][i]-values[i]));
        mean.assertMean(kind+", "+scheme+": "+names[i], values[i], (isReweight ? 1.3 : 1.0)*maxErrors[i]*values[i]);
    }
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    if (scheme == "metropolis") {
        double acceptance = statistics.firstAccepted/(double) statistics.macroSteps;
        ASSERT(acceptance > 0.4 && acceptance < 0.95);
    }
    if (isReweight) {
        double fraction = statistics.effectiveSamples/statistics.macroSteps;
        ASSERT(fraction > 0.3 && fraction < 0.95);
    }
    ASSERT_EQUAL(0, statistics.redone);
}

/**
 * A model that is wrong only about the box: D is 20 kJ/mol/nm^3 times the volume, which a macro-step does not change.
 * So every proposal passes its test, and D after a macro-step is that of the volume; a D kept from before the barostat
 * made its trial would be neither.
 */
void testDIsRefreshed(const string& scheme) {
    System system;
    buildMolecules(system);
    for (int i = system.getNumForces()-1; i >= 0; i--)
        system.removeForce(i);
    CustomVolumeForce* box = new CustomVolumeForce("20*v");
    box->setForceGroup(1);
    system.addForce(box);
    // A small model of nothing, since the scheme 'metropolis' demands one.
    addExternalForce(system, "0", {0}, 2);
    MonteCarloBarostat* barostat = new MonteCarloBarostat(PRESSURE, TEMPERATURE, 1);
    barostat->setRandomNumberSeed(84);
    system.addForce(barostat);
    KStepIntegrator integrator(0.005, 2, scheme, TEMPERATURE, 1.0);
    integrator.setRandomNumberSeed(85);
    unique_ptr<Context> context(createContext(system, integrator, MOLECULES));
    int numChanges = 0;
    double last = EDGE*EDGE*EDGE;
    for (int i = 0; i < 200; i++) {
        integrator.resetStatistics();
        integrator.step(1);
        double volume = context->getState(0).getPeriodicBoxVolume();
        numChanges += (volume != last);
        last = volume;
        ASSERT_NEAR(20*volume, integrator.getStatistics().meanD, 1e-9*20*volume);
        if (scheme == "metropolis")
            ASSERT_EQUAL(1, integrator.getStatistics().firstAccepted);
    }
    ASSERT(numChanges > 20);
}

/**
 * A molecule is what bonds hold together, those of the corrector's and of the model's group alike.  With base steps of
 * 1e-9 ps only the barostat moves anything.
 */
void testMoleculesAreMovedAsWholes() {
    for (string kind : {"isotropic", "anisotropic", "membrane"}) {
        System system;
        buildMolecules(system);
        for (int i = system.getNumForces()-1; i >= 0; i--)
            system.removeForce(i);
        for (int group : {1, 2}) {
            HarmonicBondForce* bond = new HarmonicBondForce();
            bond->addBond(2*group-2, 2*group-1, LENGTH, BOND);
            bond->setUsesPeriodicBoundaryConditions(true);
            bond->setForceGroup(group);
            system.addForce(bond);
        }
        system.addForce(createBarostat(kind, 86));
        KStepIntegrator integrator(1e-9, 2);
        unique_ptr<Context> context(createContext(system, integrator, MOLECULES));
        context->setVelocities(vector<Vec3>(4));
        integrator.step(200);
        vector<Vec3> x = getPositions(*context);
        Vec3 moved = x[2]-MOLECULES[2];
        ASSERT(sqrt(moved.dot(moved)) > 0.01);
        for (int i : {0, 2})
            ASSERT_VEC(MOLECULES[i+1]-MOLECULES[i], x[i+1]-x[i], tolerance(1e-7));
    }
}

void runTests() {
    testMoleculesAreMovedAsWholes();
    for (string scheme : {"impulse", "metropolis", "reweight"}) {
        testDIsRefreshed(scheme);
        for (string kind : {"isotropic", "anisotropic", "membrane"})
            if (isLongSamplingPossible() || kind == "isotropic")
                testDistribution(kind, scheme);
    }
}
