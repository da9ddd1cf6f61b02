#ifndef OPENMMKSTEP_TESTUTILITIES_H_
#define OPENMMKSTEP_TESTUTILITIES_H_

#include "OpenMM.h"
#include "openmm/internal/AssertionUtilities.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmmkstep/KStepIntegrator.h"
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

/**
 * What all C++ tests share.  Every comparison is written so that NaN fails it.
 */
namespace KStepTests {

/** R in kJ/mol/K, typed in again from CODATA so that a wrong constant in the sources is noticed. */
const double GAS = 8.31446261815324e-3;

/** The platform under test; runOnPlatform() sets it. */
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

/** Whether the platform under test is one of those for GPUs, on which numbers and their order are not Reference's. */
inline bool isGPUPlatform() {
    return !testPrecision().empty();
}

/**
 * A tolerance of lengths, velocities and energies.  In all precisions OpenMM's GPU platforms keep the parameters of bonds
 * and the like in single precision; in mixed they also compute forces and energies in it.
 */
inline double tolerance(double onReference) {
    if (!isGPUPlatform())
        return onReference;
    return std::max(onReference, testPrecision() == "double" ? 1e-6 : 2e-5);
}

inline bool areEnergiesDouble() {
    return !isGPUPlatform() || testPrecision() == "double";
}

/** Whether a Context runs on PoCL, OpenCL on the CPU, on which some of OpenMM itself fails. */
inline bool isPoCL(const OpenMM::Context& context) {
    if (testPlatform()->getName() != "OpenCL")
        return false;
    return testPlatform()->getPropertyValue(context, "OpenCLPlatformName").find("Portable Computing") != std::string::npos;
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

/**
 * A GPU platform computes a System's only CustomCPPForce in another thread, before and for all groups, and what it throws
 * loses its type.  With a second one, which does nothing, it is computed like any other force.
 */
class IdleForce : public OpenMM::Force {
public:
    bool usesPeriodicBoundaryConditions() const override {
        return false;
    }
protected:
    OpenMM::ForceImpl* createImpl() const override {
        class Impl : public OpenMM::CustomCPPForceImpl {
        public:
            Impl(const IdleForce& owner) : CustomCPPForceImpl(owner), owner(owner) {
            }
            const OpenMM::Force& getOwner() const override {
                return owner;
            }
            double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions, std::vector<OpenMM::Vec3>& forces) override {
                std::fill(forces.begin(), forces.end(), OpenMM::Vec3());
                return 0;
            }
        private:
            const IdleForce& owner;
        };
        return new Impl(*this);
    }
};

inline void addIdleForce(OpenMM::System& system) {
    if (isGPUPlatform())
        system.addForce(new IdleForce());
}

/**
 * How far a constrained distance may be off, relative to its length, in runs with a tolerance of 1e-5.  OpenMM's own
 * integrators are asked for it on GPU platforms, since CCMA of OpenMM 8.6.1 stops too early on PoCL (1e-3).
 */
inline double getConstraintError() {
    if (!isGPUPlatform())
        return 1e-4;
    static double worst = 0;
    if (worst > 0)
        return worst;
    OpenMM::System system;
    std::vector<OpenMM::Vec3> positions = {OpenMM::Vec3(), OpenMM::Vec3(0.1, 0, 0), OpenMM::Vec3(0.13, 0.09, 0), OpenMM::Vec3(0.1, -0.05, 0.1)};
    std::vector<std::pair<int, int> > pairs = {{0, 1}, {1, 2}, {1, 3}};
    for (double mass : {12, 3, 3, 3})
        system.addParticle(mass);
    auto getLength = [] (const std::vector<OpenMM::Vec3>& x, std::pair<int, int> pair) {
        OpenMM::Vec3 delta = x[pair.first]-x[pair.second];
        return sqrt(delta.dot(delta));
    };
    for (auto& pair : pairs)
        system.addConstraint(pair.first, pair.second, getLength(positions, pair));
    addExternalForce(system, "50*x^2+30*y^2+70*z^2", {0, 1, 2, 3}, 0);
    OpenMM::VerletIntegrator integrator(0.002);
    std::unique_ptr<OpenMM::Context> context(createContext(system, integrator, positions));
    context->setVelocitiesToTemperature(300, 1);
    for (int i = 0; i < 100; i++) {
        integrator.step(1);
        for (auto& pair : pairs)
            worst = std::max(worst, std::abs(getLength(getPositions(*context), pair)/getLength(positions, pair)-1));
    }
    worst = std::max(1e-4, 2*worst);
    return worst;
}

/** What a test program returns where it cannot run. */
const int SKIPPED = 77;

/**
 * Load OpenMM's plugin for a GPU platform and the ones under test; a plugin adds its kernels to the platforms that exist
 * when it is loaded.  Where the platform or a device for it is missing, the program ends as skipped, or fails if the
 * environment variable OPENMMKSTEP_REQUIRE names the platform.
 */
inline void loadGPUPlugins(const std::string& platform, const std::string& openmmPlugin, const std::string& referencePlugin, const std::string& plugin) {
    using namespace OpenMM;
    try {
        Platform::loadPluginLibrary(openmmPlugin);
        System system;
        system.addParticle(1);
        VerletIntegrator integrator(0.001);
        Context context(system, integrator, Platform::getPlatformByName(platform));
    }
    catch (const OpenMMException& e) {
        const char* required = std::getenv("OPENMMKSTEP_REQUIRE");
        if (required != NULL && platform == required)
            throw;
        std::cout << "Skipped, since OpenMM's platform " << platform << " cannot be used: " << e.what() << std::endl;
        std::exit(SKIPPED);
    }
    Platform::loadPluginLibrary(referencePlugin);
    Platform::loadPluginLibrary(plugin);
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
