#include "TestUtilities.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The scheme "metropolis" must sample exp(-H/kT) whatever the model is.  All models here are so wrong that a good part
 * of the tests fail.  Base steps are short enough (omega dt of 0.1 or less) for the time step error to be far below the
 * error bars.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

/** Assert that the share of accepted first tests is where the test has power: neither all nor hardly any. */
static void assertAcceptance(const KStepIntegrator& integrator, double low, double high) {
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    double acceptance = statistics.firstAccepted/(double) statistics.macroSteps;
    stringstream details;
    details << "The share of accepted first tests is " << acceptance << ", not between " << low << " and " << high;
    if (!(acceptance > low && acceptance < high))
        throwException(__FILE__, __LINE__, details.str());
    ASSERT_EQUAL(statistics.macroSteps, statistics.accepted+statistics.flips);
    ASSERT(statistics.flips > 0);
}

/**
 * Check the velocities' variance; the half-step kinetic energy has to agree with equipartition too.
 */
static void assertKineticEnergies(const BlockedMean& velocitySquares, const BlockedMean& kineticEnergy, double mass, int degreesOfFreedom, double maxRelativeError) {
    velocitySquares.assertMean("variance of a velocity component", KT/mass, maxRelativeError*KT/mass);
    double expected = 0.5*degreesOfFreedom*KT;
    kineticEnergy.assertMean("kinetic energy", expected, maxRelativeError*expected);
}

/**
 * One particle in a potential that is harmonic along x, quartic along y and a tilted double well along z; the model is
 * harmonic with wrong force constants and a shifted centre.
 */
void testAnharmonicOscillator(int extraChances) {
    const double mass = 2;
    System system;
    system.addParticle(mass);
    addExternalForce(system, "40*x^2", {0}, 0);
    addExternalForce(system, "20*(x-0.1)^2+2000*y^4+600*(z^2-0.06)^2+6*z", {0}, 1);
    addExternalForce(system, "45*x^2+70*(y-0.05)^2+55*(z+0.1)^2", {0}, 2);
    KStepIntegrator integrator(0.008, 25, "metropolis", TEMPERATURE, 1.0);
    integrator.setExtraChances(extraChances);
    integrator.setRandomNumberSeed(11+extraChances);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3()}));
    context->setVelocitiesToTemperature(TEMPERATURE, 5);
    integrator.step(500);
    BlockedMean means[3], squares[3], energy, velocitySquares, kineticEnergy;
    int numSamples = 400000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy, false, integrator.getIntegrationForceGroups());
        Vec3 position = state.getPositions()[0], velocity = state.getVelocities()[0];
        for (int j = 0; j < 3; j++) {
            means[j].add(position[j]);
            squares[j].add(position[j]*position[j]);
        }
        energy.add(state.getPotentialEnergy());
        velocitySquares.add(velocity.dot(velocity)/3);
        kineticEnergy.add(state.getKineticEnergy());
    }
    assertAcceptance(integrator, 0.4, 0.8);
    auto x = [] (double x) { return 40*x*x+20*(x-0.1)*(x-0.1); };
    auto y = [] (double y) { return 2000*y*y*y*y; };
    auto z = [] (double z) { return 600*(z*z-0.06)*(z*z-0.06)+6*z; };
    auto identity = [] (double x) { return x; };
    auto square = [] (double x) { return x*x; };
    double expectedMeans[] = {boltzmannAverage(identity, x, KT, -1.5, 1.5), 0, boltzmannAverage(identity, z, KT, -1.5, 1.5)};
    double expectedSquares[] = {boltzmannAverage(square, x, KT, -1.5, 1.5), boltzmannAverage(square, y, KT, -1.5, 1.5), boltzmannAverage(square, z, KT, -1.5, 1.5)};
    for (int i = 0; i < 3; i++) {
        string axis(1, "xyz"[i]);
        means[i].assertMean("mean of "+axis, expectedMeans[i], 0.025*sqrt(expectedSquares[i]));
        squares[i].assertMean("mean of "+axis+"^2", expectedSquares[i], 0.02*expectedSquares[i]);
    }
    double expectedEnergy = boltzmannAverage(x, x, KT, -1.5, 1.5)+boltzmannAverage(y, y, KT, -1.5, 1.5)+boltzmannAverage(z, z, KT, -1.5, 1.5);
    energy.assertMean("potential energy", expectedEnergy, 0.015*expectedEnergy);
    assertKineticEnergies(velocitySquares, kineticEnergy, mass, 3, 0.01);
}

/**
 * A free diatomic molecule whose model has a wrong force constant and a wrong length.
 */
void testDiatomic(int extraChances) {
    const double mass = 4, k = 2000, r0 = 0.2, modelK = 1400, modelR0 = 0.22;
    System system;
    system.addParticle(mass);
    system.addParticle(mass);
    addBondForce(system, "1000*(r-0.2)^2", {{0, 1}}, 1);
    HarmonicBondForce* model = new HarmonicBondForce();
    model->addBond(0, 1, modelR0, modelK);
    model->setForceGroup(2);
    system.addForce(model);
    KStepIntegrator integrator(0.003, 20, "metropolis", TEMPERATURE, 1.0);
    integrator.setExtraChances(extraChances);
    integrator.setRandomNumberSeed(21+extraChances);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(0.2, 0, 0)}));
    context->setVelocitiesToTemperature(TEMPERATURE, 6);
    integrator.step(500);
    BlockedMean length, squaredDeviation, energy, velocitySquares, kineticEnergy;
    int numSamples = 150000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy, false, integrator.getIntegrationForceGroups());
        Vec3 delta = state.getPositions()[1]-state.getPositions()[0];
        double r = sqrt(delta.dot(delta));
        length.add(r);
        squaredDeviation.add((r-r0)*(r-r0));
        energy.add(state.getPotentialEnergy());
        velocitySquares.add((state.getVelocities()[0].dot(state.getVelocities()[0])+state.getVelocities()[1].dot(state.getVelocities()[1]))/6);
        kineticEnergy.add(state.getKineticEnergy());
    }
    assertAcceptance(integrator, 0.4, 0.8);
    // The distribution of the length carries the Jacobian r^2, here as an energy -2 kT ln r.
    auto effective = [=] (double r) { return 0.5*k*(r-r0)*(r-r0)-2*KT*log(r); };
    double deviation = boltzmannAverage([=] (double r) { return (r-r0)*(r-r0); }, effective, KT, 1e-6, 0.6);
    length.assertMean("bond length", boltzmannAverage([] (double r) { return r; }, effective, KT, 1e-6, 0.6), 0.02*sqrt(KT/k));
    squaredDeviation.assertMean("squared deviation of the bond length", deviation, 0.015*deviation);
    energy.assertMean("potential energy", 0.5*k*deviation, 0.0075*k*deviation);
    assertKineticEnergies(velocitySquares, kineticEnergy, mass, 6, 0.01);
}

/**
 * Three particles in wells of their own (corrector and model), coupled by springs in the common group.  Velocities
 * live much longer than a macro-step and one chance is half a period of the slowest motion, so what happens to the
 * velocities after a rejection shows.  The covariance matrix is kT times the inverse of the matrix of force constants.
 */
void testCoupledParticles(int extraChances) {
    const double mass = 3, coupling = 60;
    const double k[] = {50, 90, 140}, modelK[] = {80, 55, 210};
    System system;
    for (int i = 0; i < 3; i++)
        system.addParticle(mass);
    CustomExternalForce* corrector = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
    CustomExternalForce* model = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
    corrector->addPerParticleParameter("k");
    model->addPerParticleParameter("k");
    for (int i = 0; i < 3; i++) {
        corrector->addParticle(i, {k[i]});
        model->addParticle(i, {modelK[i]});
    }
    corrector->setForceGroup(1);
    model->setForceGroup(2);
    system.addForce(corrector);
    system.addForce(model);
    addBondForce(system, "30*r^2", {{0, 1}, {1, 2}}, 0);
    KStepIntegrator integrator(0.01, 20, "metropolis", TEMPERATURE, 1.0);
    integrator.setExtraChances(extraChances);
    integrator.setRandomNumberSeed(31+extraChances);
    unique_ptr<Context> context(createContext(system, integrator, vector<Vec3>(3)));
    context->setVelocitiesToTemperature(TEMPERATURE, 7);
    integrator.step(500);
    BlockedMean products[3][3], energy, velocitySquares, kineticEnergy;
    int numSamples = 200000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Velocities | State::Energy, false, integrator.getIntegrationForceGroups());
        double sum = 0;
        for (int a = 0; a < 3; a++) {
            sum += state.getVelocities()[a].dot(state.getVelocities()[a])/9;
            for (int b = 0; b <= a; b++)
                products[a][b].add(state.getPositions()[a].dot(state.getPositions()[b])/3);
        }
        energy.add(state.getPotentialEnergy());
        velocitySquares.add(sum);
        kineticEnergy.add(state.getKineticEnergy());
    }
    assertAcceptance(integrator, 0.4, 0.8);
    // The matrix of force constants is tridiagonal; its inverse is written out by cofactors.
    double a = k[0]+coupling, b = k[1]+2*coupling, c = k[2]+coupling, q = coupling;
    double determinant = a*b*c-q*q*(a+c);
    double inverse[3][3] = {{b*c-q*q, 0, 0}, {q*c, a*c, 0}, {q*q, a*q, a*b-q*q}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j <= i; j++) {
            double scale = KT*sqrt(inverse[i][i]*inverse[j][j])/determinant;
            products[i][j].assertMean("covariance "+to_string(i)+" "+to_string(j), KT*inverse[i][j]/determinant, 0.02*scale);
        }
    energy.assertMean("potential energy", 4.5*KT, 0.01*4.5*KT);
    assertKineticEnergies(velocitySquares, kineticEnergy, mass, 9, 0.01);
}

/**
 * A rigid dipole in a uniform field.  The cosine of its angle with the field is distributed as exp(-U/kT), so the mean
 * is Langevin's function; the model's field is too weak and points elsewhere.
 */
void testRigidDipole() {
    const double length = 0.2, field = 25;
    System system;
    system.addParticle(3);
    system.addParticle(5);
    system.addConstraint(0, 1, length);
    for (int group : {1, 2}) {
        CustomExternalForce* force = new CustomExternalForce(group == 1 ? "q*25*z" : "q*(15*z+8*x)");
        force->addPerParticleParameter("q");
        force->addParticle(0, {1});
        force->addParticle(1, {-1});
        force->setForceGroup(group);
        system.addForce(force);
    }
    KStepIntegrator integrator(0.005, 20, "metropolis", TEMPERATURE, 2.0);
    integrator.setRandomNumberSeed(41);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(), Vec3(0.2, 0, 0)}));
    context->setVelocitiesToTemperature(TEMPERATURE, 8);
    integrator.step(500);
    BlockedMean cosine, perpendicular, kineticEnergy;
    int numSamples = 100000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context->getState(State::Positions | State::Energy);
        Vec3 axis = (state.getPositions()[1]-state.getPositions()[0])/length;
        ASSERT_NEAR(1, axis.dot(axis), 1e-4);
        cosine.add(axis[2]);
        perpendicular.add(axis[0]);
        kineticEnergy.add(state.getKineticEnergy());
    }
    assertAcceptance(integrator, 0.4, 0.85);
    double strength = field*length/KT;
    cosine.assertMean("cosine of the dipole's angle", 1/tanh(strength)-1/strength, 0.01);
    perpendicular.assertMean("component of the dipole perpendicular to the field", 0, 0.01);
    kineticEnergy.assertMean("kinetic energy", 2.5*KT, 0.01*2.5*KT);
}

/**
 * With a model that equals the corrector every first test is accepted, and D is zero.
 */
void testPerfectModel() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "50*(x^2+y^2+z^2)", {0}, 1);
    addExternalForce(system, "50*(x^2+y^2+z^2)", {0}, 2);
    KStepIntegrator integrator(0.01, 10, "metropolis", TEMPERATURE);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(0.1, 0, 0)}));
    integrator.step(100);
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    ASSERT_EQUAL(100, statistics.macroSteps);
    ASSERT_EQUAL(100, statistics.firstAccepted);
    ASSERT_EQUAL(100, statistics.chances);
    ASSERT_EQUAL(0, statistics.flips);
    ASSERT_NEAR(0, statistics.meanD, tolerance(1e-12));
    ASSERT_NEAR(0, statistics.sdD, tolerance(1e-12));
}

/**
 * A model that leads to certain rejection: each iteration makes all its tests, takes that much time, counts as one
 * step, gives the positions back exactly and turns all velocities round, those of distant particles included.
 */
void testRejection() {
    System system;
    system.addParticle(3);
    system.addParticle(5);
    addExternalForce(system, "1e7*(x^2+y^2+z^2)", {0}, 1);
    addExternalForce(system, "-50*x", {0}, 2);
    KStepIntegrator integrator(0.01, 10, "metropolis", TEMPERATURE);
    integrator.setExtraChances(3);
    integrator.setRandomNumberSeed(3);
    vector<Vec3> positions = {Vec3(), Vec3(1, 2, 3)}, velocities = {Vec3(0.5, -0.25, 0.125), Vec3(0.1, 0.2, -0.3)};
    vector<Vec3> reversed = {-velocities[0], -velocities[1]};
    unique_ptr<Context> context(createContext(system, integrator, positions));
    context->setVelocities(velocities);
    for (int i = 1; i <= 4; i++) {
        integrator.step(1);
        ASSERT_VECS(positions, getPositions(*context), 0);
        ASSERT_VECS((i%2 == 1 ? reversed : velocities), getVelocities(*context), 0);
        ASSERT_EQUAL(i, context->getStepCount());
        ASSERT_NEAR(3*i*0.1, context->getTime(), 1e-12);
        KStepIntegrator::Statistics statistics = integrator.getStatistics();
        ASSERT_EQUAL(i, statistics.macroSteps);
        ASSERT_EQUAL(i, statistics.flips);
        ASSERT_EQUAL(3*i, statistics.chances);
        ASSERT_EQUAL(0, statistics.accepted);
        // The corrector is asked once for each test and never again for the state that is restored.
        ASSERT_EQUAL(3*i+1, statistics.correctorCalls);
        ASSERT_NEAR(0, statistics.meanD, tolerance(1e-12));
    }
}

/**
 * The statistics of D describe the states at the ends of macro-steps, restored ones included.
 */
void testStatisticsOfD() {
    System system;
    system.addParticle(3);
    addExternalForce(system, "50*(x^2+y^2+z^2)", {0}, 1);
    addExternalForce(system, "30*(x^2+y^2+z^2)", {0}, 2);
    KStepIntegrator integrator(0.01, 15, "metropolis", TEMPERATURE);
    integrator.setExtraChances(1);
    integrator.setRandomNumberSeed(5);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(0.1, 0, 0)}));
    integrator.step(10);
    integrator.resetStatistics();
    const int n = 200;
    double sum = 0, sumSquares = 0;
    for (int i = 0; i < n; i++) {
        integrator.step(1);
        Vec3 x = getPositions(*context)[0];
        double d = 20*x.dot(x);
        sum += d;
        sumSquares += d*d;
    }
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    ASSERT_EQUAL(n, statistics.macroSteps);
    ASSERT(statistics.flips > 0);
    ASSERT_NEAR(sum/n, statistics.meanD, tolerance(1e-6));
    ASSERT_NEAR(sqrt((sumSquares-sum*sum/n)/(n-1)), statistics.sdD, tolerance(1e-6));
}

/**
 * The same seed must give the same path as on the Reference platform, noise, tests and flips included.  On Reference
 * itself this shows that nothing but the seed decides.
 */
void testPathAgainstReference() {
    System system;
    for (int i = 0; i < 3; i++)
        system.addParticle(3);
    system.addConstraint(0, 1, 0.2);
    addExternalForce(system, "50*(x^2+y^2+z^2)", {0, 1, 2}, 1);
    addExternalForce(system, "30*(x^2+y^2+(z-0.05)^2)", {0, 1, 2}, 2);
    addBondForce(system, "30*r^2", {{1, 2}}, 0);
    vector<Vec3> positions = {Vec3(), Vec3(0.2, 0, 0), Vec3(0.1, 0.2, 0)};
    vector<vector<Vec3> > results;
    KStepIntegrator::Statistics statistics[2];
    for (int i = 0; i < 2; i++) {
        KStepIntegrator integrator(0.01, 10, "metropolis", TEMPERATURE);
        if (isGPUPlatform())
            integrator.setFriction(1e-13); // the noise is another one there
        integrator.setRandomNumberSeed(51);
        integrator.setConstraintTolerance(1e-10);
        unique_ptr<Context> context;
        if (i == 0)
            context.reset(new Context(system, integrator, Platform::getPlatformByName("Reference")));
        else
            context.reset(createContext(system, integrator, positions));
        context->setPositions(positions);
        context->setVelocitiesToTemperature(TEMPERATURE, 9);
        integrator.step(40);
        results.push_back(getPositions(*context));
        statistics[i] = integrator.getStatistics();
    }
    ASSERT_VECS(results[0], results[1], tolerance(1e-6));
    ASSERT(statistics[0].flips > 0 && statistics[0].accepted > statistics[0].firstAccepted);
    ASSERT_EQUAL(statistics[0].flips, statistics[1].flips);
    ASSERT_EQUAL(statistics[0].chances, statistics[1].chances);
    ASSERT_NEAR(statistics[0].meanD, statistics[1].meanD, 1e-5);
}

void runTests() {
    testPerfectModel();
    testRejection();
    testStatisticsOfD();
    testPathAgainstReference();
    testCoupledParticles(4);
    if (isLongSamplingPossible()) {
        testCoupledParticles(1);
        for (int extraChances : {1, 4}) {
            testAnharmonicOscillator(extraChances);
            testDiatomic(extraChances);
        }
        testRigidDipole();
    }
}
