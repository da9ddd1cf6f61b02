#ifndef OPENMMKSTEP_COMMONKSTEPKERNELS_H_
#define OPENMMKSTEP_COMMONKSTEPKERNELS_H_

#include "DeviceParticles.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/Mollification.h"
#include <cstdint>
#include <functional>
#include <memory>

namespace OpenMM {
class KernelFactory;
}

namespace OpenMMKStep {

/** Make one of the kernels of this library.  Throws if the Context uses more than one device. */
OpenMM::KernelImpl* createCommonKernel(const std::string& name, const OpenMM::Platform& platform, int numDevices, OpenMM::ComputeContext& context);

/** Register a factory, which the platform then owns, for all kernels of this library. */
void registerCommonKernels(OpenMM::Platform& platform, OpenMM::KernelFactory* factory);

/**
 * IntegrateKStepStepKernel for the platforms of OpenMM's common compute layer (OpenCL, CUDA).  Nothing but numbers that
 * the integrator asks for, and the few particles that mollification and jump models move, comes to the host.
 */
class CommonIntegrateKStepStepKernel : public IntegrateKStepStepKernel {
public:
    CommonIntegrateKStepStepKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& context) :
            IntegrateKStepStepKernel(name, platform), cc(context), key{0, 0}, numDraws(0), langevinInterval(0) {
    }
    void initialize(const OpenMM::System& system, const KStepIntegrator& integrator) override;
    void sortParticles(OpenMM::ContextImpl& context, int numSteps) override;
    void setForces(OpenMM::ContextImpl& context, ForceSlot slot, double scale) override;
    void addForces(OpenMM::ContextImpl& context, ForceSlot slot) override;
    void mollify(OpenMM::ContextImpl& context) override;
    void unmollify(OpenMM::ContextImpl& context) override;
    void kick(OpenMM::ContextImpl& context, ForceSlot slot, double interval) override;
    void setLangevin(const std::vector<double>& friction, const std::vector<double>& temperature) override;
    void drift(OpenMM::ContextImpl& context, double stepSize, double tolerance, double* heat) override;
    void driftSurroundings(OpenMM::ContextImpl& context, double stepSize, double tolerance) override;
    void randomizeJumpVelocities(OpenMM::ContextImpl& context, double interval) override;
    void getJumpState(OpenMM::ContextImpl& context, std::vector<OpenMM::Vec3>& positions, std::vector<OpenMM::Vec3>& velocities, std::vector<OpenMM::Vec3>& forces) override;
    void applyJump(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& displacements, const std::vector<OpenMM::Vec3>& velocityChanges) override;
    void constrainVelocities(OpenMM::ContextImpl& context, double tolerance) override;
    void computeRegionKineticEnergies(OpenMM::ContextImpl& context, std::vector<double>& energies) override;
    void scaleVelocities(OpenMM::ContextImpl& context, const std::vector<double>& factors) override;
    double computeAccelerationNorm(OpenMM::ContextImpl& context, ForceSlot slot) override;
    void saveState(OpenMM::ContextImpl& context) override;
    void restoreState(OpenMM::ContextImpl& context, double velocityScale) override;
    bool isStateFinite(OpenMM::ContextImpl& context) override;
    double computeKineticEnergy(OpenMM::ContextImpl& context, double timeShift, double tolerance) override;
    void getShiftedVelocities(OpenMM::ContextImpl& context, double timeShift, double tolerance, std::vector<OpenMM::Vec3>& velocities) override;
    void pushForces(OpenMM::ContextImpl& context) override;
    void popForces(OpenMM::ContextImpl& context) override;
    void createCheckpoint(OpenMM::ContextImpl& context, std::ostream& stream) const override;
    void loadCheckpoint(OpenMM::ContextImpl& context, std::istream& stream) override;
private:
    /** The particles that a move or an Ornstein-Uhlenbeck step acts on. */
    enum Subset {All = 0, Surroundings = 1, Jumping = 2};
    /** Particles whose values come to the host. */
    struct ParticleList {
        std::vector<int> particles;
        OpenMM::ComputeArray array, vectors, forces;
    };
    void initializeList(ParticleList& list, const std::vector<int>& particles, const std::string& name);
    void createKernels();
    void copyForces(ForceSlot slot, int scale, int keep);
    void move(double interval, double tolerance, Subset subset);
    void randomizeVelocities(double interval, Subset subset);
    void withShiftedVelocities(double timeShift, double tolerance, const std::function<void()>& action);
    double sumKineticEnergy();
    void getPositions(ParticleList& list, std::vector<OpenMM::Vec3>& positions);
    void addPositions(ParticleList& list, const std::vector<OpenMM::Vec3>& displacements);
    void getForces(ParticleList& list, ForceSlot slot, std::vector<OpenMM::Vec3>& forces);
    void setForces(ParticleList& list, ForceSlot slot, const std::vector<OpenMM::Vec3>& forces);
    void savePositions(OpenMM::ComputeArray& to);
    void restorePositions(OpenMM::ComputeArray& from);
    void copy(OpenMM::ArrayInterface& from, OpenMM::ComputeArray& to);
    OpenMM::ComputeContext& cc;
    std::unique_ptr<DeviceParticles> atoms;
    bool hasConstraints, hasVirtualSites, hasFriction;
    int numRegions;
    std::vector<double> regionFriction, regionTemperature;
    std::unique_ptr<Mollification> mollification;
    ParticleList mollified, jumping;
    OpenMM::ComputeArray slots[2], region, regionHasFriction, langevin, factors, stays, nobodyStays, sums, found;
    OpenMM::ComputeArray savedSlots[2], savedForces;
    OpenMM::ComputeArray savedPositions, savedVelocities, truePositions;
    std::vector<int> savedAtomIndex;
    std::vector<OpenMM::mm_int4> savedCellOffsets;
    OpenMM::ComputeArray unshiftedVelocities;
    OpenMM::ComputeKernel copyForcesKernel, kickKernel, shiftKernel, moveFreelyKernel, beginMoveKernel, endMoveKernel;
    OpenMM::ComputeKernel randomizeKernel, scaleKernel, kineticKernel, accelerationKernel, nonFiniteKernel, savePositionsKernel, restorePositionsKernel;
    OpenMM::ComputeKernel gatherPositionsKernel, gatherVelocitiesKernel, gatherForcesKernel, scatterForcesKernel, addPositionsKernel, addVelocitiesKernel;
    // The random numbers: a key that never changes and the number of Ornstein-Uhlenbeck steps made.
    std::uint32_t key[2];
    std::uint64_t numDraws;
    double langevinInterval;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_COMMONKSTEPKERNELS_H_*/
