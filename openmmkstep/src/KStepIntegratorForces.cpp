#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>
#include <functional>

// Which forces are computed, and what of them is still valid.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

void KStepIntegrator::computeFastForces() {
    context->calcForcesAndEnergy(true, false, getCommonGroups() | (1<<modelForceGroup));
    getKernel().setForces(*context, IntegrateKStepStepKernel::Fast, 1);
}

/**
 * At the ends of a macro-step the model is evaluated apart from the common groups, since its energy and forces are
 * needed alone.  This sets the slot Correction to minus the model's forces.
 */
void KStepIntegrator::computeFastForcesAndModel() {
    IntegrateKStepStepKernel& kernel = getKernel();
    fastEnergy = context->calcForcesAndEnergy(true, includeShadowWork, getCommonGroups());
    kernel.setForces(*context, IntegrateKStepStepKernel::Fast, 1);
    modelEnergy = 0;
    if (hasModel) {
        modelEnergy = context->calcForcesAndEnergy(true, true, 1<<modelForceGroup);
        kernel.addForces(*context, IntegrateKStepStepKernel::Fast);
    }
    fastEnergy += modelEnergy;
    kernel.setForces(*context, IntegrateKStepStepKernel::Correction, hasModel ? -1 : 0);
}

/**
 * The energies of D and, in the slot Correction, its forces, after computeFastForcesAndModel() or, with mollification,
 * computeFastForces().
 */
void KStepIntegrator::computeCorrection() {
    if (!isMollified()) {
        computeCorrector(true);
        return;
    }
    IntegrateKStepStepKernel& kernel = getKernel();
    kernel.mollify(*context);
    try {
        modelEnergy = 0;
        if (hasModel)
            modelEnergy = context->calcForcesAndEnergy(true, true, 1<<modelForceGroup);
        kernel.setForces(*context, IntegrateKStepStepKernel::Correction, hasModel ? -1 : 0);
        computeCorrector(true);
    }
    catch (...) {
        kernel.unmollify(*context);
        throw;
    }
    kernel.unmollify(*context);
}

void KStepIntegrator::computeCorrector(bool includeForces) {
    statistics.correctorCalls++;
    correctorEnergy = context->calcForcesAndEnergy(includeForces, true, 1<<correctorForceGroup);
    if (includeForces)
        getKernel().addForces(*context, IntegrateKStepStepKernel::Correction);
}

/**
 * The slot Fast holds the true forces for steps without the model.
 */
void KStepIntegrator::computePlainForces() {
    if (scheme == "jump") {
        computeJumpForces();
        return;
    }
    statistics.correctorCalls++;
    double energy = context->calcForcesAndEnergy(true, true, getCommonGroups() | (1<<correctorForceGroup));
    if (!isfinite(energy))
        throwNotFinite(getNotFiniteMessage());
    getKernel().setForces(*context, IntegrateKStepStepKernel::Fast, 1);
}

/**
 * Let barostats and the like act before a macro-step.
 */
void KStepIntegrator::refresh() {
    noticeChangedContext();
    if (context->updateContextState()) {
        valid = Validity();
        noticeChangedContext();
    }
    getKernel().sortParticles(*context, k);
}

/**
 * Compute what is required and not valid for the current positions.  Mollification moves particles for a while; if
 * anything fails they are where they were.
 */
void KStepIntegrator::validate(Requirement requirement) {
    bool needEnergies = (requirement != FastForces), needForces = (requirement == CorrectionForces);
    if (valid.fastForces && (valid.energies || !needEnergies) && (valid.correctionForces || !needForces))
        return;
    getKernel().saveState(*context);
    try {
        computeMissing(requirement);
    }
    catch (...) {
        valid = Validity();
        restoreAfterError([&] { getKernel().restoreState(*context, 1); });
        throw;
    }
}

void KStepIntegrator::computeMissing(Requirement requirement) {
    bool needEnergies = (requirement != FastForces), needForces = (requirement == CorrectionForces);
    // What a continued run has from its last inner step, a restarted one must compute in the same way, to the last bit.
    if (!isMollified())
        computeFastForcesAndModel();
    else
        computeFastForces();
    valid.fastForces = true;
    valid.plainForces = valid.energies = valid.correctionForces = false;
    if (!needEnergies)
        return;
    if (needForces)
        computeCorrection();
    else
        computeCorrector(false);
    if (!isfinite(correctorEnergy-modelEnergy))
        throwNotFinite("KStepIntegrator: the energy of the corrector or the model is NaN or infinite at the current positions.  Check that positions were set and the structure is reasonable.");
    valid.energies = true;
    valid.correctionForces = needForces;
}

/**
 * Compute what a macro-step with the model starts from and is not valid.
 */
void KStepIntegrator::validateStart() {
    if (scheme != "jump")
        validate(scheme == "impulse" ? CorrectionForces : scheme == "metropolis" ? Energies : FastForces);
    else if (!valid.plainForces)
        computeJumpForces();
}

/**
 * Under friction the kinetic energy of BAOAB's on-step velocities is biased by O(dt^2) (several K for hydrogens at
 * 2 fs); after the next half kick it is not.  This calls a function with the shift in time, while the forces for it are
 * in the slot Fast.  Nothing else changes: barostats ask for the kinetic energy in trial states that are not kept, and a
 * step computes its forces in an order of its own, on which their last bits depend.
 *
 * Only particles with Langevin friction are shifted: Bussi's thermostat gives on-step velocities their temperature.
 */
void KStepIntegrator::withHalfStepForces(const function<void(double)>& action) {
    if (!hasLangevin()) {
        action(0);
        return;
    }
    updateThermostats(); // the kernel knows which particles they are
    double shift = 0.5*baseStepSize;
    if ((valid.fastForces || valid.plainForces) && !isContextChanged()) {
        action(shift);
        return;
    }
    IntegrateKStepStepKernel& kernel = getKernel();
    if (scheme == "jump") {
        // Its forces are the true ones: too dear to be computed twice, and always computed in one way.
        noticeChangedContext();
        kernel.pushForces(*context);
        computeJumpForces();
        kernel.popForces(*context);
        action(shift);
        return;
    }
    kernel.pushForces(*context);
    kernel.saveState(*context);
    auto restore = [&] {
        kernel.restoreState(*context, 1);
        kernel.popForces(*context);
    };
    try {
        computeFastForces();
        action(shift);
    }
    catch (...) {
        restoreAfterError(restore);
        throw;
    }
    restore();
}

double KStepIntegrator::computeKineticEnergy() {
    double energy;
    withHalfStepForces([&] (double shift) {
        energy = getKernel().computeKineticEnergy(*context, shift, getConstraintTolerance());
    });
    return energy;
}

vector<Vec3> KStepIntegrator::computeHalfStepVelocities() {
    if (context == NULL)
        throw OpenMMException("This Integrator is not bound to a context!");
    vector<Vec3> velocities;
    withHalfStepForces([&] (double shift) {
        getKernel().getShiftedVelocities(*context, shift, getConstraintTolerance(), velocities);
    });
    return velocities;
}

/**
 * Whether someone changed the Context in a way that stateChanged() does not report: steps made by another integrator of
 * a CompoundIntegrator, a new box, other integration force groups.
 */
bool KStepIntegrator::isContextChanged() const {
    Vec3 box[3];
    context->getPeriodicBoxVectors(box[0], box[1], box[2]);
    bool changed = (context->getStepCount() != lastStepCount || getCommonGroups() != lastCommonGroups);
    for (int i = 0; i < 3; i++)
        changed |= (box[i] != lastBox[i]);
    return changed;
}

void KStepIntegrator::noticeChangedContext() {
    if (isContextChanged())
        valid = Validity();
    context->getPeriodicBoxVectors(lastBox[0], lastBox[1], lastBox[2]);
    lastStepCount = context->getStepCount();
    lastCommonGroups = getCommonGroups();
}
