#ifndef OPENMMKSTEP_KSTEPKERNELS_H_
#define OPENMMKSTEP_KSTEPKERNELS_H_

#include "openmm/KernelImpl.h"
#include "openmm/Platform.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmkstep/internal/ParticleForces.h"
#include "openmmkstep/internal/export.h"
#include <iosfwd>
#include <string>
#include <vector>

namespace OpenMMKStep {

class KStepIntegrator;
class QMRegionForce;

/**
 * The device work of KStepIntegrator.  The integrator decides what happens; this kernel holds the arrays.
 */
class OPENMM_EXPORT_KSTEP IntegrateKStepStepKernel : public OpenMM::KernelImpl {
public:
    /** Force arrays that the kernel keeps beside the Context's own. */
    enum ForceSlot {
        Fast = 0,        ///< forces of the common groups and the model, on which the inner steps run
        Correction = 1   ///< corrector minus model
    };
    static std::string Name() {
        return "IntegrateKStepStep";
    }
    IntegrateKStepStepKernel(std::string name, const OpenMM::Platform& platform) : OpenMM::KernelImpl(name, platform) {
    }
    /**
     * Allocate the arrays and seed the random number generator.  Particles of no region have the region index 0, those
     * of the integrator's region i have i+1.
     */
    virtual void initialize(const OpenMM::System& system, const KStepIntegrator& integrator) = 0;
    /**
     * Called between macro-steps, when a platform may sort its particles in space.
     *
     * @param numSteps   the number of inner steps that the macro-step is going to make
     */
    virtual void sortParticles(OpenMM::ContextImpl& context, int numSteps) {
    }
    /** Set the Langevin friction (1/ps; 0 for none) and temperature (K) for each region index. */
    virtual void setLangevin(const std::vector<double>& friction, const std::vector<double>& temperature) = 0;
    /** Set a slot to scale times the Context's current forces. */
    virtual void setForces(OpenMM::ContextImpl& context, ForceSlot slot, double scale) = 0;
    /** Add the Context's current forces to a slot. */
    virtual void addForces(OpenMM::ContextImpl& context, ForceSlot slot) = 0;
    /**
     * Put the particles where mollification sees them, x -> A(x), by the class Mollification with the integrator's
     * bonds and angles; virtual sites follow.  Keeps x.  When it throws, the particles are at x.
     */
    virtual void mollify(OpenMM::ContextImpl& context) = 0;
    /**
     * Undo mollify(), and multiply the forces in the slot Correction by the transpose of the Jacobian of A, so that
     * they are minus the gradient with respect to x.
     */
    virtual void unmollify(OpenMM::ContextImpl& context) = 0;
    /** v += interval F/m with the forces of a slot.  Velocity constraints are not applied. */
    virtual void kick(OpenMM::ContextImpl& context, ForceSlot slot, double interval) = 0;
    /**
     * x += stepSize v, keeping position constraints (velocities receive the constraint forces) and virtual sites.
     * If any region has friction, the drift is split in two halves around an exact Ornstein-Uhlenbeck step of length
     * stepSize (the A-O-A of BAOAB; Leimkuhler and Matthews, Proc. R. Soc. A 472, 20160138 (2016)).
     *
     * A velocity component along the constraints at the start has no influence on the result, so velocities need
     * projecting only where they are seen from outside.
     *
     * @param heat  if not NULL, the change of the kinetic energy (kJ/mol) by the Ornstein-Uhlenbeck step is added
     */
    virtual void drift(OpenMM::ContextImpl& context, double stepSize, double tolerance, double* heat=NULL) = 0;
    /** As drift(), but the integrator's jump particles stay where they are and keep their velocities. */
    virtual void driftSurroundings(OpenMM::ContextImpl& context, double stepSize, double tolerance) = 0;
    /** An exact Ornstein-Uhlenbeck step of the velocities of the integrator's jump particles. */
    virtual void randomizeJumpVelocities(OpenMM::ContextImpl& context, double interval) = 0;
    /** Get positions, velocities and the forces in the slot Fast of the integrator's jump particles, in their order. */
    virtual void getJumpState(OpenMM::ContextImpl& context, std::vector<OpenMM::Vec3>& positions,
                              std::vector<OpenMM::Vec3>& velocities, std::vector<OpenMM::Vec3>& forces) = 0;
    /** Add to positions and velocities of the integrator's jump particles, and move virtual sites along. */
    virtual void applyJump(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& displacements,
                           const std::vector<OpenMM::Vec3>& velocityChanges) = 0;
    /** Remove the velocity components along the constraints. */
    virtual void constrainVelocities(OpenMM::ContextImpl& context, double tolerance) = 0;
    /** Kinetic energy (kJ/mol) of the velocities for each region index. */
    virtual void computeRegionKineticEnergies(OpenMM::ContextImpl& context, std::vector<double>& energies) = 0;
    /** Multiply the velocities by a factor for each region index. */
    virtual void scaleVelocities(OpenMM::ContextImpl& context, const std::vector<double>& factors) = 0;
    /**
     * sqrt(sum F^2/m) of a slot's forces over all particles with mass: an impulse of length h on particles at rest brings
     * the kinetic energy h^2/2 times its square.
     */
    virtual double computeAccelerationNorm(OpenMM::ContextImpl& context, ForceSlot slot) = 0;
    /** Keep positions, velocities and both force slots.  One state is kept; the random state is not part of it. */
    virtual void saveState(OpenMM::ContextImpl& context) = 0;
    /** Bring the saved state back, with velocities multiplied by velocityScale (1, or -1 for a momentum flip). */
    virtual void restoreState(OpenMM::ContextImpl& context, double velocityScale) = 0;
    /** Whether all positions and velocities are finite numbers. */
    virtual bool isStateFinite(OpenMM::ContextImpl& context) = 0;
    /** Kinetic energy in kJ/mol of the velocities v + timeShift F/m (slot Fast; not read where timeShift is 0). */
    virtual double computeKineticEnergy(OpenMM::ContextImpl& context, double timeShift, double tolerance) = 0;
    /**
     * The velocities v + timeShift F/m (slot Fast; not read where timeShift is 0) of particles with Langevin friction and v
     * of the others, without components along constraints.
     */
    virtual void getShiftedVelocities(OpenMM::ContextImpl& context, double timeShift, double tolerance,
                                      std::vector<OpenMM::Vec3>& velocities) = 0;
    /** Put the Context's forces aside, so that computing others does not change what the user sees. */
    virtual void pushForces(OpenMM::ContextImpl& context) = 0;
    /** Bring back the forces put aside by pushForces(). */
    virtual void popForces(OpenMM::ContextImpl& context) = 0;
    /** Write the random number generator's state. */
    virtual void createCheckpoint(OpenMM::ContextImpl& context, std::ostream& stream) const = 0;
    /** Read the random number generator's state. */
    virtual void loadCheckpoint(OpenMM::ContextImpl& context, std::istream& stream) = 0;
};

/**
 * Brings the positions of a Context to a QMRegionForce and the forces that follow from them to the Context.  What is
 * computed is the force's affair and the same on every platform; this kernel only moves numbers.
 */
class OPENMM_EXPORT_KSTEP CalcQMRegionForceKernel : public OpenMM::KernelImpl {
public:
    static std::string Name() {
        return "CalcQMRegionForce";
    }
    /** What the force does with the positions; called once per evaluation. */
    class Calculation {
    public:
        virtual ~Calculation() {
        }
        /**
         * @param positions       of all particles of the System, in nm; those that the force cannot depend on may be out
         *                        of date
         * @param groupsInReach   if not NULL, the indices (ascending) of the switched embedding groups that may be in
         *                        range at these positions; positions of the other switched groups are out of date.
         *                        NULL: all positions are right
         * @param[in,out] forces  what an earlier call left, or zeros and no particles; set to the forces in kJ/mol/nm
         * @return the energy in kJ/mol
         * @throws ConvergenceError if there is no energy at these positions; other OpenMMExceptions for anything else
         */
        virtual double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                                    const std::vector<int>* groupsInReach, ParticleForces& forces) = 0;
    };
    CalcQMRegionForceKernel(std::string name, const OpenMM::Platform& platform) : OpenMM::KernelImpl(name, platform) {
    }
    /**
     * @param force        has been found to fit the System
     * @param calculation  outlives the kernel
     */
    virtual void initialize(OpenMM::ContextImpl& context, const QMRegionForce& force, Calculation& calculation) = 0;
    /**
     * Compute, and add the forces to the Context's if they are wanted.
     *
     * @return the energy in kJ/mol, or 0 where the platform adds it at the end of the evaluation
     */
    virtual double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) = 0;
    /**
     * Find the QM region between evaluations.
     *
     * @return positions of all particles of the System, in nm, of which those of the QM region and of its link atoms'
     *         hosts are right and others may be out of date; valid until the next call of this kernel
     */
    virtual const std::vector<OpenMM::Vec3>& locateQMRegion(OpenMM::ContextImpl& context) = 0;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPKERNELS_H_*/
