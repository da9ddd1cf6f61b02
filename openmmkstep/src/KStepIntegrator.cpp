#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/internal/KStepModel.h"
#include "openmmkstep/internal/Mollification.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <cmath>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepIntegrator::KStepIntegrator(double baseStepSize, int k, const string& scheme, double temperature, double friction) :
        extraChances(4), randomNumberSeed(0), correctorForceGroup(1), modelForceGroup(2), adaptive(false), errorRecovery(true),
        includeShadowWork(false), allowResonance(false), scheme(scheme), thermostat("langevin"), resonanceCheckedFor(0),
        jumpNumThreads(1), allowJumpWithoutThermostat(false), warnedOfJumpFriction(false), hasModel(false),
        hasSurroundings(true), areThermostatsCurrent(false),
        modelEnergy(0), correctorEnergy(0), fastEnergy(0), correctionNorm(0), isStateLost(false), lastStepCount(-1),
        lastCommonGroups(0), maxUndoneStates(0) {
    if (scheme != "impulse" && scheme != "metropolis" && scheme != "reweight" && scheme != "jump")
        throw OpenMMException("KStepIntegrator: expected the scheme 'impulse', 'metropolis', 'reweight' or 'jump', found '"+scheme+"'.");
    setBaseStepSize(baseStepSize);
    setK(k);
    setTemperature(temperature);
    setFriction(friction >= 0 ? friction : (scheme == "impulse" ? 0.0 : scheme == "jump" ? MIN_JUMP_FRICTION : 1.0));
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
    areThermostatsCurrent = false;
}

void KStepIntegrator::setFriction(double friction) {
    if (!(friction >= 0) || !isfinite(friction))
        throw OpenMMException("KStepIntegrator: the friction must be a number of 1/ps that is not negative.");
    this->friction = friction;
    areThermostatsCurrent = false;
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
    return Integrator::getIntegrationForceGroups() & ~(1<<(scheme == "reweight" ? correctorForceGroup : modelForceGroup));
}

int KStepIntegrator::getCommonGroups() const {
    return Integrator::getIntegrationForceGroups() & ~(1<<correctorForceGroup) & ~(1<<modelForceGroup);
}

KStepIntegrator::Statistics KStepIntegrator::getStatistics() const {
    Statistics result = statistics;
    result.currentK = (division.getMacroStep() == k ? division.getInterval() : k);
    if (sums.sumSquaredWeights > 0)
        result.effectiveSamples = sums.sumWeights*sums.sumWeights/sums.sumSquaredWeights;
    return result;
}

void KStepIntegrator::resetStatistics() {
    statistics = Statistics();
    sums = {};
    events.clear();
}

void KStepIntegrator::setAdaptive(bool adaptive) {
    if (adaptive && scheme == "jump")
        throw OpenMMException("KStepIntegrator: k cannot be adaptive in the scheme 'jump': its model covers a fixed number of base steps.");
    if (adaptive && (scheme == "metropolis" || scheme == "reweight"))
        throw OpenMMException("KStepIntegrator: k cannot be adaptive in the scheme '"+scheme+"': what is sampled would depend on how k was chosen.");
    this->adaptive = adaptive;
    division = StepDivision();
}

void KStepIntegrator::setErrorRecovery(bool recovery) {
    errorRecovery = recovery;
}

void KStepIntegrator::setIncludeShadowWork(bool include) {
    if (include && scheme != "metropolis")
        throw OpenMMException("KStepIntegrator: the shadow work is part of the test of the scheme 'metropolis'; '"+scheme+"' makes no test.");
    includeShadowWork = include;
    valid.energies = false;
}

void KStepIntegrator::setMollification(const vector<MollifiedBond>& bonds) {
    Mollification check(bonds);
    mollification = bonds;
}

void KStepIntegrator::setMollifiedAngles(const vector<MollifiedAngle>& angles) {
    Mollification check(mollification, angles);
    mollifiedAngles = angles;
}

void KStepIntegrator::setAllowResonance(bool allow) {
    allowResonance = allow;
}

bool KStepIntegrator::isMollified() const {
    return !mollification.empty() || !mollifiedAngles.empty();
}

void KStepIntegrator::checkSettings() const {
    if (scheme != "impulse" && isMollified())
        throw OpenMMException("KStepIntegrator: mollification belongs to the scheme 'impulse'; '"+scheme+"' has no use for it.");
    if (scheme == "metropolis" || scheme == "reweight") {
        if (temperature == 0)
            throw OpenMMException("KStepIntegrator: the scheme '"+scheme+"' samples at a temperature; set a positive one.");
        if (!hasThermostat())
            throw OpenMMException("KStepIntegrator: the scheme '"+scheme+"' needs friction (0.5 to 2/ps is usual), since without it velocities are never refreshed and the energy is not sampled.");
    }
    if (scheme == "jump" && k < 2)
        throw OpenMMException("KStepIntegrator: the scheme 'jump' needs k of at least 2: a jump over k-1 base steps and one that corrects.");
    checkRegions();
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
        // One in the corrector's group that does not stand in for that group is the corrector itself.
        if (model == NULL || (group == correctorForceGroup && model->getCorrectorForceGroup() != group))
            continue;
        if (group != modelForceGroup)
            throw OpenMMException("KStepIntegrator: expected the KStepModelForce in the model's force group ("+to_string(modelForceGroup)+"), found it in group "+to_string(group)+".  Call setForceGroup() on the force or setModelForceGroup() on the integrator.");
        if (model->getCorrectorForceGroup() != correctorForceGroup)
            throw OpenMMException("KStepIntegrator: the corrector's force group is "+to_string(correctorForceGroup)+" here but "+to_string(model->getCorrectorForceGroup())+" in the KStepModelForce.  Set both to the same.");
    }
    if (!hasCorrector)
        throw OpenMMException("KStepIntegrator: the System has no Force in the corrector's force group ("+to_string(correctorForceGroup)+").  Put the XtbForce there with setForceGroup(), or name its group with setCorrectorForceGroup().");
    if ((Integrator::getIntegrationForceGroups() & (1<<correctorForceGroup)) == 0)
        throw OpenMMException("KStepIntegrator: the integration force groups leave out the corrector's ("+to_string(correctorForceGroup)+").");
    if ((scheme == "metropolis" || scheme == "reweight") && !hasModel)
        throw OpenMMException("KStepIntegrator: the scheme '"+scheme+"' needs a model, but the System has no Force in the model's force group ("+to_string(modelForceGroup)+").");
    initializeRegions(system);
    Mollification(mollification, mollifiedAngles).checkSystem(system);
    initializeJump(system);
    Kernel newKernel = contextRef.getPlatform().createKernel(IntegrateKStepStepKernel::Name(), contextRef);
    newKernel.getAs<IntegrateKStepStepKernel>().initialize(system, *this);
    // Nothing has failed: only now does the integrator belong to the Context.
    kernel = newKernel;
    context = &contextRef;
    owner = &contextRef.getOwner();
    random.seed(randomNumberSeed == 0 ? random_device{}() : randomNumberSeed);
    valid = Validity();
    areThermostatsCurrent = false;
    monitor = FaultMonitor();
    division = StepDivision();
    lastStepCount = -1;
    resonanceCheckedFor = 0;
    isStateLost = false;
    resetStatistics();
}

void KStepIntegrator::cleanup() {
    jumpModel.reset();
    kernel = Kernel();
    // The Context is gone: calls without one have their error, and another one may be bound.
    context = NULL;
    owner = NULL;
}

vector<string> KStepIntegrator::getKernelNames() {
    return {IntegrateKStepStepKernel::Name()};
}

IntegrateKStepStepKernel& KStepIntegrator::getKernel() {
    return kernel.getAs<IntegrateKStepStepKernel>();
}

void KStepIntegrator::stateChanged(State::DataType changed) {
    if (changed == State::Velocities)
        return;
    valid = Validity();
    isStateLost = false;
}
