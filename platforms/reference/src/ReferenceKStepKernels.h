#ifndef OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_
#define OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_

#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmm/Vec3.h"
#include "sfmt/SFMT.h"
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
    void move(OpenMM::ContextImpl& context, double interval, double tolerance);
    void randomizeVelocities(OpenMM::ContextImpl& context, double interval);
    double gaussian();
    bool hasConstraints, hasVirtualSites, hasFriction;
    std::vector<int> regionIndex;
    std::vector<double> regionFriction, regionTemperature;
    std::vector<KStepIntegrator::MollifiedBond> mollification;
    std::vector<double> masses, inverseMasses;
    std::vector<OpenMM::Vec3> slots[2], savedSlots[2], savedPositions, savedVelocities, savedForces, truePositions, newPositions, shiftedVelocities;
    mutable OpenMM_SFMT::SFMT random;
    double nextGaussian;
    bool nextGaussianIsValid;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_REFERENCEKSTEPKERNELS_H_*/
