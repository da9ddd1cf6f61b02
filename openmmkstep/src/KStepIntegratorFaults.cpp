#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/KStepModelForceImpl.h"
#include "openmmkstep/internal/Mollification.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>
#include <functional>
#include <iostream>
#include <sstream>

// Faults of a macro-step, and what follows from them.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const double DEFAULT_TEMPERATURE = 300;
static const int MIN_REPETITIONS_OF_UNFIT_MODEL = 10;
static const double SHARE_OF_UNFIT_MODEL = 0.01;
static const size_t MAX_EVENTS = 1000;

namespace {

/** A macro-step has failed in a way that a smaller k may avoid. */
class FaultError : public OpenMMException {
public:
    FaultError(FaultMonitor::Fault fault, const string& message) : OpenMMException(message), fault(fault) {
    }
    const FaultMonitor::Fault fault;
};

} // namespace

void KStepIntegrator::throwNotFinite(const string& message) const {
    throw FaultError(FaultMonitor::NonFinite, message);
}

void KStepIntegrator::throwOutsideRegion() const {
    throw FaultError(FaultMonitor::OutsideRegion, "KStepIntegrator: the structure is outside the region that the model's contract declares.");
}

string KStepIntegrator::getNotFiniteMessage() const {
    return "KStepIntegrator: a position, velocity or energy is NaN or infinite after a macro-step of "+to_string(getStepSize())+" ps.  The Context keeps the state before it.  Usual causes: a macro-step or base step that is too long, a model outside the region it was trained for, a structure that was not minimized.";
}

/**
 * A macro-step of impulse or jump that is repeated with smaller k (jump: without the model) as long as it fails.  The whole state of its start comes back
 * each time, the random state included.
 */
void KStepIntegrator::recoverableMacroStep() {
    if (division.getMacroStep() != k)
        division.initialize(k, adaptive, scheme == "jump");
    refresh();
    StepDivision startDivision = division;
    double startTime = context->getTime();
    mt19937_64 startRandom = random;
    stringstream startKernel;
    bool isRandom = hasLangevin();
    if (isRandom)
        getKernel().createCheckpoint(*context, startKernel);
    bool repeated = false, finished = false;
    string firstMessage;
    while (!finished) {
        int from = division.getInterval();
        FaultMonitor::Fault fault = FaultMonitor::None;
        string message;
        getKernel().saveState(*context);
        double startModelEnergy = modelEnergy, startCorrectorEnergy = correctorEnergy;
        Validity startValid = valid;
        auto restore = [&] {
            getKernel().restoreState(*context, 1);
            modelEnergy = startModelEnergy;
            correctorEnergy = startCorrectorEnergy;
            valid = startValid;
            context->setTime(startTime);
            random = startRandom;
            if (isRandom) {
                startKernel.clear();
                startKernel.seekg(0);
                getKernel().loadCheckpoint(*context, startKernel);
            }
        };
        try {
            if (from > 0 && !(scheme == "jump" ? valid.plainForces : valid.fastForces && valid.energies && valid.correctionForces)) {
                validateStart();
                getKernel().saveState(*context);
                startModelEnergy = modelEnergy;
                startCorrectorEnergy = correctorEnergy;
                startValid = valid;
            }
            if (scheme == "jump")
                jumpMacroStep();
            else
                impulseMacroStep();
            applyBussi();
            finished = true;
        }
        catch (const FaultError& e) {
            fault = e.fault;
            message = e.what();
        }
        catch (const ConvergenceError& e) {
            fault = FaultMonitor::ConvergenceFailure;
            message = e.what();
        }
        catch (const MollificationError& e) {
            fault = FaultMonitor::NonFinite;
            message = e.what();
        }
        catch (const OpenMMException& e) {
            // Forces complain in words of their own about coordinates that are NaN.
            if (isKnownToBeFinite()) {
                restoreAfterError(restore);
                throw;
            }
            fault = FaultMonitor::NonFinite;
            message = getNotFiniteMessage();
        }
        catch (...) {
            restoreAfterError(restore);
            throw;
        }
        if (!finished) {
            try {
                keepUndoneState(FaultMonitor::getName(fault));
                restore();
            }
            catch (...) {
                restoreAfterError(restore);
                throw;
            }
            countFault(fault);
            if (!repeated)
                firstMessage = message;
            if (!division.shrink()) {
                division = startDivision;
                throw OpenMMException(firstMessage+"  (Steps on the true forces, without the model, failed too.)");
            }
            logEvent(fault, from);
            repeated = true;
        }
    }
    context->setStepCount(context->getStepCount()+1);
    lastStepCount = context->getStepCount();
    statistics.macroSteps++;
    if (repeated)
        statistics.redone++;
    if (division.getInterval() == 0)
        statistics.plainMacroSteps++;
    else if (scheme == "impulse") {
        recordD();
        monitor.record(correctorEnergy-modelEnergy, correctionNorm);
    }
    if (!repeated)
        division.recordSuccess();
    if ((hasModel || scheme == "jump") && !statistics.modelUnfit && statistics.redone >= MIN_REPETITIONS_OF_UNFIT_MODEL && statistics.redone > SHARE_OF_UNFIT_MODEL*statistics.macroSteps) {
        statistics.modelUnfit = 1;
        division.forbidModel();
        cerr << "Warning: KStepIntegrator: " << statistics.redone << " of " << statistics.macroSteps << " macro-steps had to be "
             << "repeated.  The model is unfit for this system; the simulation goes on without it, with a corrector call "
             << "every base step.  Train it on the structures met here, or choose a smaller k." << endl;
    }
}

/** Whether there is nothing that is not finite; a device that answers no longer is no sign of it either. */
bool KStepIntegrator::isKnownToBeFinite() {
    try {
        return getKernel().isStateFinite(*context);
    }
    catch (const OpenMMException&) {
        return true;
    }
}

/**
 * Restore a state while an exception is handled, which the caller throws on.
 *
 * @throws OpenMMException if that fails too, as it does where a device is lost; no step is made then until positions
 *         are set
 */
void KStepIntegrator::restoreAfterError(const function<void()>& restore) {
    string message = "unknown";
    try {
        throw;
    }
    catch (const exception& e) {
        message = e.what();
    }
    catch (...) {
    }
    try {
        restore();
    }
    catch (const exception& e) {
        isStateLost = true;
        throw OpenMMException("KStepIntegrator: after an error the state before it could not be restored ("+string(e.what())+"), so the positions and velocities of this Context are not to be used.  Make a new Context and load the last checkpoint.  The error was: "+message);
    }
}

/**
 * @throws OpenMMException if there is no Context, or what it holds is of no use
 */
void KStepIntegrator::checkUsable() const {
    if (context == NULL)
        throw OpenMMException("This Integrator is not bound to a context!");
    if (isStateLost)
        throw OpenMMException("KStepIntegrator: an error in an earlier step left this Context without a state that can be used, as its message said.  Make a new Context, or set positions and velocities, or load a checkpoint.");
}

void KStepIntegrator::countFault(FaultMonitor::Fault fault) {
    switch (fault) {
        case FaultMonitor::ConvergenceFailure:
            statistics.convergenceFailures++;
            break;
        case FaultMonitor::OutlierD:
            statistics.outliersD++;
            break;
        case FaultMonitor::OutlierForce:
            statistics.outliersForce++;
            break;
        case FaultMonitor::OutsideRegion:
            statistics.outsideRegion++;
            break;
        default:
            statistics.nonFinite++;
    }
}

void KStepIntegrator::logEvent(FaultMonitor::Fault fault, int from) {
    if (events.size() == MAX_EVENTS)
        events.erase(events.begin());
    events.push_back({context->getStepCount(), context->getTime(), FaultMonitor::getName(fault), from, division.getInterval()});
}

void KStepIntegrator::setMaxUndoneStates(int number) {
    if (number < 0)
        throw OpenMMException("KStepIntegrator: expected a number of states to keep that is 0 or more, found "+to_string(number)+".");
    maxUndoneStates = number;
    while ((int) undoneStates.size() > number)
        undoneStates.pop_front();
}

vector<KStepIntegrator::UndoneState> KStepIntegrator::takeUndoneStates() {
    vector<UndoneState> states(undoneStates.begin(), undoneStates.end());
    undoneStates.clear();
    return states;
}

/** Called before the state is restored. */
void KStepIntegrator::keepUndoneState(const string& kind) {
    if (maxUndoneStates == 0 || !getKernel().isStateFinite(*context))
        return;
    if ((int) undoneStates.size() == maxUndoneStates)
        undoneStates.pop_front();
    UndoneState state;
    state.step = context->getStepCount();
    state.kind = kind;
    state.D = correctorEnergy-modelEnergy;
    context->getPositions(state.positions);
    context->getPeriodicBoxVectors(state.box[0], state.box[1], state.box[2]);
    undoneStates.push_back(state);
}

void KStepIntegrator::checkForFaults() {
    double kT = GAS_CONSTANT*(temperature > 0 ? temperature : DEFAULT_TEMPERATURE);
    correctionNorm = getKernel().computeAccelerationNorm(*context, IntegrateKStepStepKernel::Correction);
    FaultMonitor::Fault fault = monitor.check(correctorEnergy-modelEnergy, correctionNorm, kT, division.getInterval()*baseStepSize);
    if (fault == FaultMonitor::None && isModelOutsideRegion())
        fault = FaultMonitor::OutsideRegion;
    if (fault != FaultMonitor::None)
        throw FaultError(fault, string("KStepIntegrator: fault '")+FaultMonitor::getName(fault)+"'");
}

bool KStepIntegrator::isModelOutsideRegion() {
    for (ForceImpl* impl : context->getForceImpls()) {
        KStepModelForceImpl* model = dynamic_cast<KStepModelForceImpl*>(impl);
        if (model != NULL && model->isOutsideTrainingRegion(*context))
            return true;
    }
    return false;
}

/**
 * Steps on the true forces, each with a corrector call; the model is not asked for anything.
 */
void KStepIntegrator::plainStep(int numSteps) {
    IntegrateKStepStepKernel& kernel = getKernel();
    if (!valid.plainForces)
        computePlainForces();
    valid = Validity();
    for (int i = 0; i < numSteps; i++) {
        kernel.kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
        kernel.drift(*context, baseStepSize, getConstraintTolerance());
        computePlainForces();
        kernel.kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    }
    kernel.constrainVelocities(*context, getConstraintTolerance());
    if (!kernel.isStateFinite(*context))
        throwNotFinite(getNotFiniteMessage());
    valid.plainForces = true;
}
