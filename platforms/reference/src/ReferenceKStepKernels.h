#ifndef OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_
#define OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_

#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/Mollification.h"
#include "openmm/Vec3.h"
#include "sfmt/SFMT.h"
#include <memory>
#include <vector>

namespace OpenMMKStep {

/**
 * The double precision implementation of IntegrateKStepStepKernel; it also serves the CPU platform.
 */
class ReferenceIntegrateKStepStepKernel : public IntegrateKStepStepKernel {
public:
    ReferenceIntegrateKStepStepKernel(std::string name, const OpenMM::Platform& platform) :
            IntegrateKStepStepKernel(name, platform), nextGaussian(0), nextGaussianIsValid(false) {
    }
    void initialize(const OpenMM::System& system, const KStepIntegrator& integrator) override;
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
    double computeForceNorm(OpenMM::ContextImpl& context, ForceSlot slot) override;
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
    enum Subset {All, Surroundings, Jumping};
    void move(OpenMM::ContextImpl& context, double interval, double tolerance, Subset subset=All);
    void randomizeVelocities(OpenMM::ContextImpl& context, double interval, Subset subset=All);
    double gaussian();
    bool hasConstraints, hasVirtualSites, hasFriction;
    std::vector<int> regionIndex;
    std::vector<double> regionFriction, regionTemperature;
    std::unique_ptr<Mollification> mollification;
    std::vector<int> jumpParticles;
    std::vector<char> isJumping;
    // In surroundingsInverseMasses the jump's particles have 0, like particles that never move.
    std::vector<double> masses, inverseMasses, surroundingsInverseMasses;
    std::vector<OpenMM::Vec3> slots[2], savedSlots[2], savedPositions, savedVelocities, savedForces, truePositions, newPositions, shiftedVelocities;
    std::vector<OpenMM::Vec3> mollified;
    mutable OpenMM_SFMT::SFMT random;
    double nextGaussian;
    bool nextGaussianIsValid;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_*/
