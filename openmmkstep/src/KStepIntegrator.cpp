#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>
#include <set>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepIntegrator::KStepIntegrator(double baseStepSize, int k, const string& scheme, double temperature, double friction) :
        extraChances(4), randomNumberSeed(0), correctorForceGroup(1), modelForceGroup(2), scheme(scheme),
        fastForcesValid(false), correctionForcesValid(false), energiesValid(false), modelEnergy(0), correctorEnergy(0),
        hasModel(false), lastStepCount(-1), lastCommonGroups(0), numD(0), sumSquaresD(0) {
    if (scheme == "reweight" || scheme == "jump")
        throw OpenMMException("KStepIntegrator: the scheme '"+scheme+"' is not available in this version; use 'impulse' or 'metropolis'.");
    if (scheme != "impulse" && scheme != "metropolis")
        throw OpenMMException("KStepIntegrator: expected the scheme 'impulse' or 'metropolis', found '"+scheme+"'.");
    setBaseStepSize(baseStepSize);
    setK(k);
    setTemperature(temperature);
    setFriction(friction >= 0 ? friction : (scheme == "metropolis" ? 1.0 : 0.0));
    setConstraintTolerance(1e-5);
    checkSettings();
}

double KStepIntegrator::getStepSize() const {
    return k*baseStepSize;
}

void KStepIntegrator::setStepSize(double size) {
    setBaseStepSize(size/k);
}

double KStepIntegrator::getBaseStepSize() const {
    return baseStepSize;
}

void KStepIntegrator::setBaseStepSize(double size) {
    if (!(size > 0) || !isfinite(size))
        throw OpenMMException("KStepIntegrator: the base step size must be a positive number of ps.");
    baseStepSize = size;
}

void KStepIntegrator::setK(int k) {
    if (k < 1)
        throw OpenMMException("KStepIntegrator: expected k (base steps per macro-step) of at least 1, found "+to_string(k)+".");
    this->k = k;
}

void KStepIntegrator::setTemperature(double temperature) {
    if (!(temperature >= 0) || !isfinite(temperature))
        throw OpenMMException("KStepIntegrator: the temperature must be a number of K that is not negative.");
    this->temperature = temperature;
}

void KStepIntegrator::setFriction(double friction) {
    if (!(friction >= 0) || !isfinite(friction))
        throw OpenMMException("KStepIntegrator: the friction must be a number of 1/ps that is not negative.");
    this->friction = friction;
}

static void checkGroup(int group, bool inContext) {
    if (inContext)
        throw OpenMMException("KStepIntegrator: the force groups of corrector and model cannot be changed while the integrator is used by a Context.");
    if (group < 0 || group > 31)
        throw OpenMMException("KStepIntegrator: force groups are numbered 0 to 31, found "+to_string(group)+".");
}

void KStepIntegrator::setCorrectorForceGroup(int group) {
    checkGroup(group, context != NULL);
    correctorForceGroup = group;
}

void KStepIntegrator::setModelForceGroup(int group) {
    checkGroup(group, context != NULL);
    modelForceGroup = group;
}

void KStepIntegrator::setExtraChances(int chances) {
    if (chances < 1)
        throw OpenMMException("KStepIntegrator: the number of chances is the total number of tests, at least 1; found "+to_string(chances)+".");
    extraChances = chances;
}

int KStepIntegrator::getIntegrationForceGroups() const {
    return Integrator::getIntegrationForceGroups() & ~(1<<modelForceGroup);
}

int KStepIntegrator::getCommonGroups() const {
    return getIntegrationForceGroups() & ~(1<<correctorForceGroup);
}

KStepIntegrator::Statistics KStepIntegrator::getStatistics() const {
    return statistics;
}

void KStepIntegrator::resetStatistics() {
    statistics = Statistics();
    numD = 0;
    sumSquaresD = 0;
}

void KStepIntegrator::setMollification(const vector<MollifiedBond>& bonds) {
    set<int> moving, fixed;
    for (const MollifiedBond& bond : bonds) {
        if (!(bond.length > 0) || !isfinite(bond.length))
            throw OpenMMException("KStepIntegrator: the length of a mollified bond must be a positive number of nm.");
        if (bond.particle1 == bond.particle2 || !moving.insert(bond.particle2).second)
            throw OpenMMException("KStepIntegrator: particle "+to_string(bond.particle2)+" is the moving end of two mollified bonds, or of one with itself.");
        fixed.insert(bond.particle1);
    }
    for (int particle : moving)
        if (fixed.find(particle) != fixed.end())
            throw OpenMMException("KStepIntegrator: particle "+to_string(particle)+" is the moving end of one mollified bond and the fixed end of another.");
    mollification = bonds;
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

void KStepIntegrator::checkSettings() const {
    if (scheme == "metropolis" && !mollification.empty())
        throw OpenMMException("KStepIntegrator: mollification belongs to the scheme 'impulse'; 'metropolis' has no use for it.");

    if (scheme == "metropolis") {
        if (temperature == 0)
            throw OpenMMException("KStepIntegrator: the scheme 'metropolis' samples at a temperature; set a positive one.");
        if (friction == 0)
            throw OpenMMException("KStepIntegrator: the scheme 'metropolis' needs friction (0.5 to 2/ps is usual), since without it velocities are never refreshed and the energy is not sampled.");
    }
    if (friction > 0 && temperature == 0)
        throw OpenMMException("KStepIntegrator: with friction a positive temperature is required.");
}

void KStepIntegrator::initialize(ContextImpl& contextRef) {
    if (owner != NULL && &contextRef.getOwner() != owner)
        throw OpenMMException("This Integrator is already bound to a context");
    checkSettings();
    const System& system = contextRef.getSystem();
    if (correctorForceGroup == modelForceGroup)
        throw OpenMMException("KStepIntegrator: the corrector and the model must be in different force groups; both are set to "+to_string(modelForceGroup)+".");
    bool hasCorrector = false;
    hasModel = false;
    for (int i = 0; i < system.getNumForces(); i++) {
        const Force& force = system.getForce(i);
        int group = force.getForceGroup();
        hasCorrector |= (group == correctorForceGroup);
        hasModel |= (group == modelForceGroup);
        const KStepModelForce* model = dynamic_cast<const KStepModelForce*>(&force);
        if (model == NULL)
            continue;
        if (group != modelForceGroup)
            throw OpenMMException("KStepIntegrator: expected the KStepModelForce in the model's force group ("+to_string(modelForceGroup)+"), found it in group "+to_string(group)+".  Call setForceGroup() on the force or setModelForceGroup() on the integrator.");
        if (model->getCorrectorForceGroup() != correctorForceGroup)
            throw OpenMMException("KStepIntegrator: the corrector's force group is "+to_string(correctorForceGroup)+" here but "+to_string(model->getCorrectorForceGroup())+" in the KStepModelForce.  Set both to the same.");
    }
    if (!hasCorrector)
        throw OpenMMException("KStepIntegrator: the System has no Force in the corrector's force group ("+to_string(correctorForceGroup)+").  Put the XtbForce there with setForceGroup(), or name its group with setCorrectorForceGroup().");
    if ((getIntegrationForceGroups() & (1<<correctorForceGroup)) == 0)
        throw OpenMMException("KStepIntegrator: the integration force groups leave out the corrector's ("+to_string(correctorForceGroup)+").");
    if (scheme == "metropolis" && !hasModel)
        throw OpenMMException("KStepIntegrator: the scheme 'metropolis' needs a model, but the System has no Force in the model's force group ("+to_string(modelForceGroup)+").");
    Kernel newKernel = contextRef.getPlatform().createKernel(IntegrateKStepStepKernel::Name(), contextRef);
    newKernel.getAs<IntegrateKStepStepKernel>().initialize(system, *this);
    // Nothing has failed: only now does the integrator belong to the Context.
    kernel = newKernel;
    context = &contextRef;
    owner = &contextRef.getOwner();
    random.seed(randomNumberSeed == 0 ? random_device{}() : randomNumberSeed);
    fastForcesValid = correctionForcesValid = energiesValid = false;
    lastStepCount = -1;
    resetStatistics();
}

void KStepIntegrator::cleanup() {
    kernel = Kernel();
}

vector<string> KStepIntegrator::getKernelNames() {
    return {IntegrateKStepStepKernel::Name()};
}

IntegrateKStepStepKernel& KStepIntegrator::getKernel() {
    return kernel.getAs<IntegrateKStepStepKernel>();
}

void KStepIntegrator::stateChanged(State::DataType changed) {
    if (changed != State::Velocities)
        fastForcesValid = correctionForcesValid = energiesValid = false;
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

template <class T>
static void write(ostream& stream, const T& value) {
    stream.write((const char*) &value, sizeof(T));
}

template <class T>
static void read(istream& stream, T& value) {
    stream.read((char*) &value, sizeof(T));
}

static const int CHECKPOINT_VERSION = 1;

void KStepIntegrator::createCheckpoint(ostream& stream) const {
    write(stream, CHECKPOINT_VERSION);
    stringstream text;
    text << random;
    string state = text.str();
    write(stream, (int) state.size());
    stream.write(state.data(), state.size());
    write(stream, statistics);
    write(stream, numD);
    write(stream, sumSquaresD);
    kernel.getAs<const IntegrateKStepStepKernel>().createCheckpoint(*context, stream);
}

void KStepIntegrator::loadCheckpoint(istream& stream) {
    int version, size;
    read(stream, version);
    if (version != CHECKPOINT_VERSION)
        throw OpenMMException("KStepIntegrator: the checkpoint was written by another version of this plugin.");
    read(stream, size);
    string state(size, ' ');
    stream.read(&state[0], size);
    stringstream(state) >> random;
    read(stream, statistics);
    read(stream, numD);
    read(stream, sumSquaresD);
    getKernel().loadCheckpoint(*context, stream);
}
