#include "TestUtilities.h"
#include "openmm/MonteCarloBarostat.h"
#include <memory>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * The scheme "reweight" runs on the model; with the weights exp(-D/kT) averages are those of the true Hamiltonian.
 */

static const double TEMPERATURE = 300;
static const double KT = GAS*TEMPERATURE;

/** A weighted mean; its error is that of the means of 40 blocks. */
class WeightedMean {
public:
    void add(double weight, double value) {
        weights.push_back(weight);
        products.push_back(weight*value);
    }
    void assertMean(const string& name, double expected, double maxError) const {
        const int numBlocks = 40;
        size_t size = weights.size()/numBlocks;
        double total = 0, totalWeight = 0, blockSum = 0, blockSquares = 0;
        for (int block = 0; block < numBlocks; block++) {
            double sum = 0, weight = 0;
            for (size_t i = block*size; i < (block+1)*size; i++) {
                sum += products[i];
                weight += weights[i];
            }
            total += sum;
            totalWeight += weight;
            blockSum += sum/weight;
            blockSquares += (sum/weight)*(sum/weight);
        }
        double mean = total/totalWeight;
        double error = sqrt((blockSquares/numBlocks-pow(blockSum/numBlocks, 2))/(numBlocks-1));
        stringstream details;
        details << name << ": expected " << expected << ", found " << mean << " +- " << error << " (at most " << maxError << ")";
        if (!(error > 0 && error <= maxError/sqrt(samplingShare())) || !(fabs(mean-expected) < 4*error))
            throwException(__FILE__, __LINE__, details.str());
    }
private:
    vector<double> weights, products;
};

static void buildOscillator(System& system) {
    system.addParticle(2);
    addExternalForce(system, "40*x^2", {0}, 0);
    addExternalForce(system, "20*(x-0.1)^2+2000*y^4+600*(z^2-0.06)^2+6*z", {0}, 1);
    addExternalForce(system, "35*(x+0.1)^2+70*y^2+450*(z^2-0.06)^2+2*z", {0}, 2);
}

void testExactness() {
    System system;
    buildOscillator(system);
    KStepIntegrator integrator(0.008, 25, "reweight", TEMPERATURE, 1.0);
    integrator.setRandomNumberSeed(3);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3()}));
    context->setVelocitiesToTemperature(TEMPERATURE, 5);
    integrator.step(500);
    integrator.resetStatistics();
    WeightedMean squares[3], meanZ;
    BlockedMean unweighted;
    double sum = 0, sumSquares = 0;
    int numSamples = 300000*samplingShare();
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        Vec3 x = getPositions(*context)[0];
        double weight = exp(-integrator.computeD()/KT);
        sum += weight;
        sumSquares += weight*weight;
        for (int j = 0; j < 3; j++)
            squares[j].add(weight, x[j]*x[j]);
        meanZ.add(weight, x[2]);
        unweighted.add(x[1]*x[1]);
    }
    KStepIntegrator::Statistics statistics = integrator.getStatistics();
    ASSERT_EQUAL_TOL(sum*sum/sumSquares, statistics.effectiveSamples, 1e-9);
    ASSERT_EQUAL(numSamples, statistics.correctorCalls);
    ASSERT_EQUAL(0, statistics.chances);
    // The weights matter: between a fifth and nine tenths of the samples remain.
    ASSERT(statistics.effectiveSamples > 0.2*numSamples && statistics.effectiveSamples < 0.9*numSamples);
    auto x = [] (double x) { return 40*x*x+20*(x-0.1)*(x-0.1); };
    auto y = [] (double y) { return 2000*y*y*y*y; };
    auto z = [] (double z) { return 600*(z*z-0.06)*(z*z-0.06)+6*z; };
    auto square = [] (double x) { return x*x; };
    double expected[] = {boltzmannAverage(square, x, KT, -1.5, 1.5), boltzmannAverage(square, y, KT, -1.5, 1.5), boltzmannAverage(square, z, KT, -1.5, 1.5)};
    for (int i = 0; i < 3; i++)
        squares[i].assertMean(string("mean of ")+"xyz"[i]+"^2", expected[i], 0.02*expected[i]);
    meanZ.assertMean("mean of z", boltzmannAverage([] (double x) { return x; }, z, KT, -1.5, 1.5), 0.02*sqrt(expected[2]));
    // Without weights it is the model's average, which is another.
    auto modelY = [] (double y) { return 70*y*y; };
    double modelSquare = boltzmannAverage(square, modelY, KT, -1.5, 1.5);
    unweighted.assertMean("mean of y^2 on the model", modelSquare, 0.02*modelSquare);
    ASSERT(fabs(modelSquare-expected[1]) > 0.2*expected[1]);
}

/** Others see H_fast; D belongs to the current positions, wherever they came from. */
void testEnergies() {
    System system;
    buildOscillator(system);
    KStepIntegrator integrator(0.008, 10, "reweight", TEMPERATURE, 1.0);
    unique_ptr<Context> context(createContext(system, integrator, {Vec3(0.1, 0.05, 0.2)}));
    ASSERT_EQUAL(~(1<<1), integrator.getIntegrationForceGroups());
    for (int i = 0; i < 3; i++) {
        auto energy = [&] (int groups) { return context->getState(State::Energy, false, groups).getPotentialEnergy(); };
        ASSERT_NEAR(energy(1<<0)+energy(1<<2), energy(integrator.getIntegrationForceGroups()), 1e-10);
        ASSERT_NEAR(energy(1<<1)-energy(1<<2), integrator.computeD(), 1e-10);
        if (i == 1)
            context->setPositions({Vec3(-0.1, 0.1, 0.3)});
        else
            integrator.step(3);
    }
    long long calls = integrator.getStatistics().correctorCalls;
    integrator.computeD();
    ASSERT_EQUAL(calls, integrator.getStatistics().correctorCalls);
}

/**
 * A barostat samples with H_fast: particles in a box that the model pulls together by a harmonic force on the volume.
 * The corrector is another function of the volume, and the weights lead from one mean volume to the other.
 */
void testBarostat() {
    const int n = 8;
    const double pressure = 300, pressureEnergy = 0.060221408*pressure;
    System system;
    system.setDefaultPeriodicBoxVectors(Vec3(1.2, 0, 0), Vec3(0, 1.2, 0), Vec3(0, 0, 1.2));
    vector<Vec3> positions;
    for (int i = 0; i < n; i++) {
        system.addParticle(20);
        positions.push_back(Vec3(0.1*i, 0.05*i, 0.3));
    }
    for (int group : {1, 2}) {
        CustomVolumeForce* force = new CustomVolumeForce(group == 1 ? "4*(v-1.5)^2" : "3*(v-1.4)^2");
        force->setForceGroup(group);
        system.addForce(force);
    }
    MonteCarloBarostat* barostat = new MonteCarloBarostat(pressure, TEMPERATURE, 1);
    barostat->setRandomNumberSeed(4);
    system.addForce(barostat);
    KStepIntegrator integrator(0.002, 1, "reweight", TEMPERATURE, 1);
    integrator.setRandomNumberSeed(6);
    unique_ptr<Context> context(createContext(system, integrator, positions));
    integrator.step(500);
    WeightedMean weighted;
    BlockedMean unweighted;
    int numSamples = (isLongSamplingPossible() ? 60000 : 6000);
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        double v = context->getState(0).getPeriodicBoxVolume();
        unweighted.add(v);
        weighted.add(exp(-integrator.computeD()/KT), v);
    }
    auto volume = [] (double v) { return v; };
    auto model = [=] (double v) { return pressureEnergy*v+3*(v-1.4)*(v-1.4)-n*KT*log(v); };
    auto corrector = [=] (double v) { return pressureEnergy*v+4*(v-1.5)*(v-1.5)-n*KT*log(v); };
    double modelVolume = boltzmannAverage(volume, model, KT, 1e-6, 6), trueVolume = boltzmannAverage(volume, corrector, KT, 1e-6, 6);
    ASSERT(fabs(modelVolume-trueVolume) > 0.03*trueVolume);
    unweighted.assertMean("volume on the model", modelVolume, 0.006*modelVolume);
    weighted.assertMean("volume", trueVolume, 0.006*trueVolume);
}

void testRefused() {
    System system;
    buildOscillator(system);
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "reweight"), "samples at a temperature");
    ASSERT_THROWS(KStepIntegrator(0.001, 4, "reweight", TEMPERATURE, 0), "needs friction");
    System noModel;
    noModel.addParticle(1);
    addExternalForce(noModel, "x^2", {0}, 1);
    KStepIntegrator integrator(0.001, 4, "reweight", TEMPERATURE);
    ASSERT_THROWS(createContext(noModel, integrator, {Vec3()}), "needs a model");
    ASSERT_EQUAL(1.0, integrator.getFriction());
    ASSERT_THROWS(integrator.setAdaptive(true), "cannot be adaptive");
    ASSERT_THROWS(integrator.setIncludeShadowWork(true), "makes no test");
    ASSERT_THROWS(integrator.computeD(), "not bound");
}

void runTests() {
    testExactness();
    testEnergies();
    testBarostat();
    testRefused();
}
