#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>

// What happens in a step; settings, set-up and checkpoints are in KStepIntegrator.cpp.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

void KStepIntegrator::step(int steps) {
    if (context == NULL)
        throw OpenMMException("This Integrator is not bound to a context!");
    checkSettings();
    for (int i = 0; i < steps; i++)
        macroStep();
}

void KStepIntegrator::stepTo(double time) {
    if (context == NULL)
        throw OpenMMException("This Integrator is not bound to a context!");
    // A time that is a multiple of h is reached exactly, in spite of the rounding of the sum of steps.
    while (context->getTime() < time-1e-6*getStepSize())
        step(1);
}

void KStepIntegrator::macroStep() {
    refresh(scheme == "impulse");
    double startTime = context->getTime(), startModelEnergy = modelEnergy, startCorrectorEnergy = correctorEnergy;
    bool startCorrectionForcesValid = correctionForcesValid;
    getKernel().saveState(*context);
    try {
        if (scheme == "impulse")
            impulseStep();
        else if (!tryProposal()) {
            getKernel().restoreState(*context, -1);
            modelEnergy = startModelEnergy;
            correctorEnergy = startCorrectorEnergy;
            correctionForcesValid = startCorrectionForcesValid;
            statistics.flips++;
        }
    }
    catch (...) {
        getKernel().restoreState(*context, 1);
        modelEnergy = startModelEnergy;
        correctorEnergy = startCorrectorEnergy;
        correctionForcesValid = startCorrectionForcesValid;
        context->setTime(startTime);
        throw;
    }
    context->setStepCount(context->getStepCount()+1);
    lastStepCount = context->getStepCount();
    recordD();
}

void KStepIntegrator::impulseStep() {
    double h = getStepSize();
    getKernel().kick(*context, IntegrateKStepStepKernel::Correction, 0.5*h);
    propagate();
    computeCorrection();
    getKernel().kick(*context, IntegrateKStepStepKernel::Correction, 0.5*h);
    getKernel().constrainVelocities(*context, getConstraintTolerance());
    if (!isfinite(correctorEnergy-modelEnergy) || !getKernel().isStateFinite(*context))
        throw OpenMMException("KStepIntegrator: a position, velocity or energy is NaN or infinite after a macro-step of "+to_string(h)+" ps.  The Context keeps the state before it.  Usual causes: a macro-step or base step that is too long, a model outside the region it was trained for, a structure that was not minimized.");
    context->setTime(context->getTime()+h);
    correctionForcesValid = true;
}

/**
 * The Metropolis test with extra chances.  Returns whether one of the points of the path was accepted; if not, the
 * caller restores the start.
 */
bool KStepIntegrator::tryProposal() {
    double startD = correctorEnergy-modelEnergy;
    double uniform = ((random()>>11)+0.5)*0x1p-53; // in (0,1); one number for all chances
    double threshold = startD-log(uniform)*GAS_CONSTANT*temperature;
    for (int chance = 0; chance < extraChances; chance++) {
        context->setTime(context->getTime()+getStepSize());
        statistics.chances++;
        try {
            propagate();
        }
        catch (const OpenMMException&) {
            // Forces complain about NaN coordinates, which only means that this path has failed.
            if (getKernel().isStateFinite(*context))
                throw;
        }
        if (!getKernel().isStateFinite(*context))
            return false;
        correctionForcesValid = false;
        try {
            computeCorrector(false);
        }
        catch (const ConvergenceError&) {
            continue;
        }
        if (correctorEnergy-modelEnergy < threshold) {
            getKernel().constrainVelocities(*context, getConstraintTolerance());
            statistics.accepted++;
            if (chance == 0)
                statistics.firstAccepted++;
            return true;
        }
    }
    return false;
}

/**
 * k palindromic steps on the fast Hamiltonian, half kicks at both ends.
 */
void KStepIntegrator::propagate() {
    getKernel().kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    for (int i = 1; i <= k; i++) {
        getKernel().drift(*context, baseStepSize, friction, temperature, getConstraintTolerance());
        if (i < k) {
            computeFastForces();
            getKernel().kick(*context, IntegrateKStepStepKernel::Fast, baseStepSize);
        }
    }
    if (mollification.empty())
        computeFastForcesAndModel();
    else
        computeFastForces(); // the model's part of D is evaluated elsewhere, at A(x)
    getKernel().kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
}

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
    context->calcForcesAndEnergy(true, false, getCommonGroups());
    kernel.setForces(*context, IntegrateKStepStepKernel::Fast, 1);
    modelEnergy = 0;
    if (hasModel) {
        modelEnergy = context->calcForcesAndEnergy(true, true, 1<<modelForceGroup);
        kernel.addForces(*context, IntegrateKStepStepKernel::Fast);
    }
    kernel.setForces(*context, IntegrateKStepStepKernel::Correction, hasModel ? -1 : 0);
}

/**
 * The energies of D and, in the slot Correction, its forces, after computeFastForcesAndModel().
 */
void KStepIntegrator::computeCorrection() {
    if (mollification.empty()) {
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
 * Let barostats and the like act, then make sure that everything a macro-step starts from is valid.
 */
void KStepIntegrator::refresh(bool needCorrectionForces) {
    noticeChangedContext();
    if (context->updateContextState()) {
        stateChanged(State::Positions);
        noticeChangedContext();
    }
    validate(needCorrectionForces);
}

/**
 * Compute what is not valid for the current positions.
 */
void KStepIntegrator::validate(bool needCorrectionForces) {
    if (fastForcesValid && energiesValid && (correctionForcesValid || !needCorrectionForces))
        return;
    computeFastForcesAndModel();
    if (needCorrectionForces)
        computeCorrection();
    else
        computeCorrector(false);
    if (!isfinite(correctorEnergy-modelEnergy))
        throw OpenMMException("KStepIntegrator: the energy of the corrector or the model is NaN or infinite at the current positions.  Check that positions were set and the structure is reasonable.");
    fastForcesValid = energiesValid = true;
    correctionForcesValid = needCorrectionForces;
}

void KStepIntegrator::recordD() {
    double d = correctorEnergy-modelEnergy;
    statistics.macroSteps++;
    numD++;
    double delta = d-statistics.meanD;
    statistics.meanD += delta/numD;
    sumSquaresD += delta*(d-statistics.meanD);
    statistics.sdD = (numD > 1 ? sqrt(sumSquaresD/(numD-1)) : 0.0);
}

/**
 * Under friction the kinetic energy of BAOAB's on-step velocities is biased by O(dt^2) (several K for hydrogens at
 * 2 fs); after the next half kick it is not.
 */
double KStepIntegrator::computeKineticEnergy() {
    if (friction == 0)
        return getKernel().computeKineticEnergy(*context, 0, getConstraintTolerance());
    noticeChangedContext();
    if (!fastForcesValid) {
        getKernel().pushForces(*context);
        computeFastForces();
        getKernel().popForces(*context);
        fastForcesValid = true;
    }
    return getKernel().computeKineticEnergy(*context, 0.5*baseStepSize, getConstraintTolerance());
}

double KStepIntegrator::computeConservedEnergy() {
    if (context == NULL)
        throw OpenMMException("This Integrator is not bound to a context!");
    if (scheme != "impulse" || friction > 0)
        throw OpenMMException("KStepIntegrator: only the scheme 'impulse' without friction conserves an energy.");
    noticeChangedContext();
    validate(true);
    double fast = context->calcForcesAndEnergy(false, true, getCommonGroups() | (1<<modelForceGroup));
    return getKernel().computeKineticEnergy(*context, 0, getConstraintTolerance())+fast+correctorEnergy-modelEnergy;
}

/**
 * Notice changes that stateChanged() does not report: steps made by another integrator of a CompoundIntegrator, a new
 * box, and other integration force groups.
 */
void KStepIntegrator::noticeChangedContext() {
    Vec3 box[3];
    context->getPeriodicBoxVectors(box[0], box[1], box[2]);
    bool changed = (context->getStepCount() != lastStepCount || getCommonGroups() != lastCommonGroups);
    for (int i = 0; i < 3; i++) {
        changed |= (box[i] != lastBox[i]);
        lastBox[i] = box[i];
    }
    lastStepCount = context->getStepCount();
    lastCommonGroups = getCommonGroups();
    if (changed)
        stateChanged(State::Positions);
}
