#ifndef OPENMMKSTEP_TESTUTILITIES_H_
#define OPENMMKSTEP_TESTUTILITIES_H_

#include "OpenMM.h"
#include "openmm/internal/AssertionUtilities.h"
#include "openmmkstep/KStepIntegrator.h"
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

/**
 * What all C++ tests share.  Every comparison is written so that NaN fails it.
 */
namespace KStepTests {

/** R in kJ/mol/K, typed in again from CODATA so that a wrong constant in the sources is noticed. */
const double GAS = 8.31446261815324e-3;

/** The platform under test; the shells in platforms/<platform>/tests set it. */
inline OpenMM::Platform*& testPlatform() {
    static OpenMM::Platform* platform = NULL;
    return platform;
}

/** The precision of a GPU platform under test (double or mixed); empty for the others. */
inline std::string& testPrecision() {
    static std::string precision;
    return precision;
}

/** Create a Context on the platform under test, with one thread and positions set. */
inline OpenMM::Context* createContext(const OpenMM::System& system, OpenMM::Integrator& integrator, const std::vector<OpenMM::Vec3>& positions) {
    std::map<std::string, std::string> properties;
    if (testPlatform()->getName() == "CPU")
        properties["Threads"] = "1";
    if (!testPrecision().empty())
        properties["Precision"] = testPrecision();
    OpenMM::Context* context = new OpenMM::Context(system, integrator, *testPlatform(), properties);
    context->setPositions(positions);
    return context;
}

/**
 * Whether millions of steps of a tiny system are affordable.  Threads cost the CPU platform a hundred times the
 * computation there.
 */
inline bool isLongSamplingPossible() {
    return testPlatform()->getName() == "Reference";
}

/**
 * The share of a sampling run that this platform makes.  Error bars may be larger accordingly: on the other platforms
 * such a test is a coarse check of the whole chain, next to the comparison of single paths with Reference.
 */
inline double samplingShare() {
    return isLongSamplingPossible() ? 1.0 : 0.04;
}

inline std::vector<OpenMM::Vec3> getPositions(const OpenMM::Context& context) {
    return context.getState(OpenMM::State::Positions).getPositions();
}

inline std::vector<OpenMM::Vec3> getVelocities(const OpenMM::Context& context) {
    return context.getState(OpenMM::State::Velocities).getVelocities();
}

/** The potential energy of the true Hamiltonian as the integrator defines it. */
inline double getTruePotential(OpenMM::Context& context) {
    return context.getState(OpenMM::State::Energy, false, context.getIntegrator().getIntegrationForceGroups()).getPotentialEnergy();
}

inline double getTrueEnergy(OpenMM::Context& context) {
    OpenMM::State state = context.getState(OpenMM::State::Energy, false, context.getIntegrator().getIntegrationForceGroups());
    return state.getPotentialEnergy()+state.getKineticEnergy();
}

/** Mean and standard error of correlated samples, from the spread of the means of 40 blocks. */
class BlockedMean {
public:
    void add(double value) {
        values.push_back(value);
    }
    double getMean() const {
        double sum = 0;
        for (double value : values)
            sum += value;
        return sum/values.size();
    }
    double getStandardError() const {
        const int numBlocks = 40;
        size_t blockSize = values.size()/numBlocks;
        double mean = getMean(), sum = 0;
        for (int block = 0; block < numBlocks; block++) {
            double blockMean = 0;
            for (size_t i = 0; i < blockSize; i++)
                blockMean += values[block*blockSize+i]/blockSize;
            sum += (blockMean-mean)*(blockMean-mean);
        }
        return sqrt(sum/(numBlocks*(numBlocks-1.0)));
    }
    /**
     * Assert that the mean is the expected one within 4 standard errors, and that the standard error is small enough
     * for the comparison to mean something: at most maxError on Reference.
     */
    void assertMean(const std::string& name, double expected, double maxError) const {
        double mean = getMean(), error = getStandardError();
        std::stringstream details;
        details << name << ": expected " << expected << ", found " << mean << " +- " << error << " (at most " << maxError << ")";
        if (!(error > 0 && error <= maxError/sqrt(samplingShare())) || !(std::abs(mean-expected) < 4*error))
            OpenMM::throwException(__FILE__, __LINE__, details.str());
    }
private:
    std::vector<double> values;
};

/** The average of f(x) with weight exp(-energy(x)/kT), by Simpson's rule. */
template <class Function, class Energy>
double boltzmannAverage(Function f, Energy energy, double kT, double low, double high) {
    const int n = 20000;
    double sum = 0, norm = 0;
    for (int i = 0; i <= n; i++) {
        double x = low+(high-low)*i/n;
        double weight = (i == 0 || i == n ? 1 : (i%2 == 0 ? 2 : 4))*exp(-energy(x)/kT);
        sum += weight*f(x);
        norm += weight;
    }
    return sum/norm;
}

inline OpenMM::CustomExternalForce* addExternalForce(OpenMM::System& system, const std::string& energy, const std::vector<int>& particles, int group) {
    OpenMM::CustomExternalForce* force = new OpenMM::CustomExternalForce(energy);
    for (int particle : particles)
        force->addParticle(particle);
    force->setForceGroup(group);
    system.addForce(force);
    return force;
}

inline OpenMM::CustomBondForce* addBondForce(OpenMM::System& system, const std::string& energy, const std::vector<std::pair<int, int> >& bonds, int group) {
    OpenMM::CustomBondForce* force = new OpenMM::CustomBondForce(energy);
    for (auto& bond : bonds)
        force->addBond(bond.first, bond.second);
    force->setForceGroup(group);
    system.addForce(force);
    return force;
}

/** Run all tests on the platform, and in the precision, that the command line names.  The exit status is 1 when one of them fails. */
inline int runOnPlatform(int argc, char* argv[], void (*loadPlugins)(), void (*runTests)()) {
    try {
        using namespace OpenMM;
        if (argc != 2 && argc != 3)
            throw OpenMMException("The name of a platform, and for GPU platforms a precision, was expected on the command line.");
        loadPlugins();
        if (argc == 3)
            testPrecision() = argv[2];
        testPlatform() = &Platform::getPlatformByName(argv[1]);
        ASSERT(testPlatform()->supportsKernels({"IntegrateKStepStep", "CalcQMRegionForce"}));
        runTests();
    }
    catch (const std::exception& e) {
        std::cout << "exception: " << e.what() << std::endl;
        return 1;
    }
    std::cout << "Done" << std::endl;
    return 0;
}

} // namespace KStepTests

/** Compare two vectors; the tolerance is absolute. */
#define ASSERT_VEC(expected, found, tol) {\
    OpenMM::Vec3 _e_ = (expected), _f_ = (found), _d_ = _e_-_f_;\
    if (!(std::sqrt(_d_.dot(_d_)) <= (tol))) {\
        std::stringstream details;\
        details.precision(12);\
        details << "Expected " << _e_ << ", found " << _f_;\
        OpenMM::throwException(__FILE__, __LINE__, details.str());\
    }\
}

/** Compare two lists of vectors; the tolerance is absolute, 0 asks for identical numbers. */
#define ASSERT_VECS(expected, found, tol) {\
    std::vector<OpenMM::Vec3> _es_ = (expected), _fs_ = (found);\
    ASSERT_EQUAL(_es_.size(), _fs_.size());\
    for (size_t _i_ = 0; _i_ < _es_.size(); _i_++)\
        ASSERT_VEC(_es_[_i_], _fs_[_i_], tol);\
}

/** Compare two numbers; the tolerance is absolute. */
#define ASSERT_NEAR(expected, found, tol) {\
    double _e_ = (expected), _f_ = (found);\
    if (!(std::abs(_e_-_f_) <= (tol))) {\
        std::stringstream details;\
        details.precision(12);\
        details << "Expected " << _e_ << ", found " << _f_;\
        OpenMM::throwException(__FILE__, __LINE__, details.str());\
    }\
}

/** Assert that a statement throws an OpenMMException whose message holds the given text. */
#define ASSERT_THROWS(statement, text) {\
    std::string _message_ = "no exception";\
    try {\
        statement;\
    }\
    catch (const OpenMM::OpenMMException& e) {\
        _message_ = e.what();\
    }\
    if (_message_ == "no exception" || _message_.find(text) == std::string::npos)\
        OpenMM::throwException(__FILE__, __LINE__, std::string("Expected an exception with '")+(text)+"', found: "+_message_);\
}

#endif /*OPENMMKSTEP_TESTUTILITIES_H_*/
