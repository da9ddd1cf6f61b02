#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>
#include <iostream>

// What happens in a step.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const int ACCEPTANCE_CHECK = 100;
static const double LOW_ACCEPTANCE = 0.2;

void KStepIntegrator::step(int steps) {
    checkUsable();
    checkSettings();
    checkJumpSettings();
    updateThermostats();
    checkResonance();
    for (int i = 0; i < steps; i++)
        macroStep();
}

void KStepIntegrator::stepTo(double time) {
    checkUsable();
    // A time that is a multiple of h is reached exactly, in spite of the rounding of the sum of steps.
    while (context->getTime() < time-1e-6*getStepSize())
        step(1);
}

void KStepIntegrator::macroStep() {
    if ((scheme == "impulse" || scheme == "jump") && errorRecovery) {
        recoverableMacroStep();
        return;
    }
    refresh();
    validateStart();
    double startTime = context->getTime(), startModelEnergy = modelEnergy, startCorrectorEnergy = correctorEnergy, startFastEnergy = fastEnergy;
    Validity startValid = valid;
    getKernel().saveState(*context);
    auto restore = [&] (double velocityScale) {
        getKernel().restoreState(*context, velocityScale);
        modelEnergy = startModelEnergy;
        correctorEnergy = startCorrectorEnergy;
        fastEnergy = startFastEnergy;
        valid = startValid;
    };
    try {
        if (scheme == "impulse")
            impulseMacroStep();
        else if (scheme == "jump")
            jumpMacroStep();
        else if (scheme == "reweight")
            reweightStep();
        else if (!tryProposal()) {
            keepUndoneState("rejected");
            restore(-1);
            statistics.flips++;
        }
        applyBussi();
    }
    catch (...) {
        context->setTime(startTime);
        restoreAfterError([&] { restore(1); });
        throw;
    }
    context->setStepCount(context->getStepCount()+1);
    lastStepCount = context->getStepCount();
    statistics.macroSteps++;
    recordD();
    if (scheme == "metropolis" && statistics.macroSteps == ACCEPTANCE_CHECK && statistics.accepted < LOW_ACCEPTANCE*ACCEPTANCE_CHECK && !sums.warnedOfAcceptance) {
        sums.warnedOfAcceptance = 1;
        cerr << "Warning: KStepIntegrator: of the first " << ACCEPTANCE_CHECK << " macro-steps only " << statistics.accepted
             << " were accepted.  The result is right, but the chain hardly moves; use a better model, or a smaller k." << endl;
    }
}

void KStepIntegrator::impulseMacroStep() {
    if (division.getMacroStep() != k)
        division.initialize(k, adaptive);
    int interval = division.getInterval();
    if (interval == 0)
        plainStep(k);
    else
        for (int done = 0; done < k; done += interval)
            impulseStep(interval);
    context->setTime(context->getTime()+getStepSize());
}

/**
 * One kick with the correction, inner steps, and another kick.
 */
void KStepIntegrator::impulseStep(int numSteps) {
    double h = numSteps*baseStepSize;
    getKernel().kick(*context, IntegrateKStepStepKernel::Correction, 0.5*h);
    propagate(numSteps);
    computeCorrection();
    getKernel().kick(*context, IntegrateKStepStepKernel::Correction, 0.5*h);
    getKernel().constrainVelocities(*context, getConstraintTolerance());
    if (!isfinite(correctorEnergy-modelEnergy) || !getKernel().isStateFinite(*context))
        throwNotFinite(getNotFiniteMessage());
    if (errorRecovery)
        checkForFaults();
}

/**
 * The model runs; the state that it reaches gets a weight.  Where the corrector has no energy the weight is 0.
 */
void KStepIntegrator::reweightStep() {
    propagate(k);
    getKernel().constrainVelocities(*context, getConstraintTolerance());
    if (!isfinite(modelEnergy) || !getKernel().isStateFinite(*context))
        throwNotFinite(getNotFiniteMessage());
    valid.correctionForces = false;
    try {
        computeCorrector(false);
    }
    catch (const ConvergenceError&) {
        correctorEnergy = INFINITY;
    }
    if (isnan(correctorEnergy))
        correctorEnergy = INFINITY;
    if (!isfinite(correctorEnergy))
        statistics.convergenceFailures++;
    context->setTime(context->getTime()+getStepSize());
    valid.energies = true;
}

/**
 * The Metropolis test with extra chances.  Returns whether one of the points of the path was accepted; if not, the
 * caller restores the start.
 */
bool KStepIntegrator::tryProposal() {
    IntegrateKStepStepKernel& kernel = getKernel();
    double tolerance = getConstraintTolerance();
    double uniform = ((random()>>11)+0.5)*0x1p-53; // in (0,1); one number for all chances
    double threshold = correctorEnergy-modelEnergy-log(uniform)*GAS_CONSTANT*temperature;
    double startEnergy = 0, heat = 0, shadowWork = 0;
    if (includeShadowWork) {
        kernel.constrainVelocities(*context, tolerance);
        startEnergy = fastEnergy+kernel.computeKineticEnergy(*context, 0, tolerance);
    }
    for (int chance = 0; chance < extraChances; chance++) {
        context->setTime(context->getTime()+getStepSize());
        statistics.chances++;
        try {
            heat += propagate(k);
        }
        catch (const OpenMMException&) {
            // Forces complain about NaN coordinates, which only means that this path has failed.
            if (kernel.isStateFinite(*context))
                throw;
        }
        if (!kernel.isStateFinite(*context)) {
            statistics.nonFinite++;
            return false;
        }
        valid.correctionForces = false;
        try {
            computeCorrector(false);
        }
        catch (const ConvergenceError&) {
            statistics.convergenceFailures++;
            continue;
        }
        if (includeShadowWork) {
            kernel.constrainVelocities(*context, tolerance);
            shadowWork = fastEnergy+kernel.computeKineticEnergy(*context, 0, tolerance)-startEnergy-heat;
        }
        if (correctorEnergy-modelEnergy+shadowWork < threshold) {
            kernel.constrainVelocities(*context, tolerance);
            statistics.accepted++;
            if (chance == 0)
                statistics.firstAccepted++;
            return true;
        }
    }
    return false;
}

/**
 * Palindromic steps on the fast Hamiltonian, half kicks at both ends.  Returns the heat taken up from the thermostat if
 * the shadow work is wanted.
 */
double KStepIntegrator::propagate(int numSteps) {
    double heat = 0;
    getKernel().kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    for (int i = 1; i <= numSteps; i++) {
        getKernel().drift(*context, baseStepSize, getConstraintTolerance(), includeShadowWork ? &heat : NULL);
        if (i < numSteps) {
            computeFastForces();
            getKernel().kick(*context, IntegrateKStepStepKernel::Fast, baseStepSize);
        }
    }
    if (!isMollified())
        computeFastForcesAndModel();
    else
        computeFastForces(); // the model's part of D is evaluated elsewhere, at A(x)
    getKernel().kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    return heat;
}

/**
 * D and, in reweight, the weight of the macro-step's end.
 */
void KStepIntegrator::recordD() {
    double d = correctorEnergy-modelEnergy;
    if (!isfinite(d) || scheme == "jump")
        return;
    sums.numD++;
    double delta = d-statistics.meanD;
    statistics.meanD += delta/sums.numD;
    sums.sumSquaresD += delta*(d-statistics.meanD);
    statistics.sdD = (sums.numD > 1 ? sqrt(sums.sumSquaresD/(sums.numD-1)) : 0.0);
    if (scheme != "reweight")
        return;
    double logWeight = -d/(GAS_CONSTANT*temperature);
    if (sums.sumWeights == 0 || logWeight > sums.maxLogWeight) {
        double scale = (sums.sumWeights == 0 ? 0 : exp(sums.maxLogWeight-logWeight));
        sums.sumWeights *= scale;
        sums.sumSquaredWeights *= scale*scale;
        sums.maxLogWeight = logWeight;
    }
    double weight = exp(logWeight-sums.maxLogWeight);
    sums.sumWeights += weight;
    sums.sumSquaredWeights += weight*weight;
}

double KStepIntegrator::computeConservedEnergy() {
    checkUsable();
    if (scheme != "impulse" || hasThermostat())
        throw OpenMMException("KStepIntegrator: only the scheme 'impulse' without friction conserves an energy.");
    noticeChangedContext();
    validate(CorrectionForces);
    double fast = context->calcForcesAndEnergy(false, true, getCommonGroups() | (1<<modelForceGroup));
    return getKernel().computeKineticEnergy(*context, 0, getConstraintTolerance())+fast+correctorEnergy-modelEnergy;
}

double KStepIntegrator::computeD() {
    checkUsable();
    if (scheme == "jump")
        throw OpenMMException("KStepIntegrator: the scheme 'jump' has no D: its model is not a potential.");
    noticeChangedContext();
    validate(scheme == "impulse" ? CorrectionForces : Energies);
    return correctorEnergy-modelEnergy;
}

double KStepIntegrator::computeMollificationBias() {
    checkUsable();
    if (scheme != "impulse")
        throw OpenMMException("KStepIntegrator: mollification belongs to the scheme 'impulse'; '"+scheme+"' has no bias to correct.");
    if (!isMollified())
        return 0;
    noticeChangedContext();
    getKernel().pushForces(*context);
    validate(CorrectionForces);
    double d = context->calcForcesAndEnergy(false, true, 1<<correctorForceGroup);
    statistics.correctorCalls++;
    if (hasModel)
        d -= context->calcForcesAndEnergy(false, true, 1<<modelForceGroup);
    getKernel().popForces(*context);
    return d-(correctorEnergy-modelEnergy);
}
