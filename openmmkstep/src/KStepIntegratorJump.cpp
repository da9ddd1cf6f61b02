#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/KStepModel.h"
#include "openmmkstep/internal/PeriodicBox.h"
#include "openmm/OpenMMException.h"
#include "openmm/System.h"
#include "openmm/internal/ContextImpl.h"
#include <algorithm>
#include <cmath>
#include <iostream>
#include <set>
#include <sstream>

// The scheme jump: a direct model carries the QM region, the other particles move before and after it.
//
// Between macro-steps the slot Fast holds the true forces (common and corrector) and Correction the corrector's alone.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const double MAX_STEP_SIZE_ERROR = 1e-9;

void KStepIntegrator::setJumpModel(const string& file, const vector<int>& particles) {
    setJumpModelData(KStepModel::readFile(file, "KStepIntegrator"), particles);
}

void KStepIntegrator::setJumpModelData(const string& data, const vector<int>& particles) {
    if (scheme != "jump")
        throw OpenMMException("KStepIntegrator: a jump model belongs to the scheme 'jump'; '"+scheme+"' has no use for it.");
    if (context != NULL)
        throw OpenMMException("KStepIntegrator: the jump model cannot be changed while the integrator is used by a Context.");
    if (data.empty())
        throw OpenMMException("KStepIntegrator: the jump model has no content; give the bytes of a model file.");
    if (particles.empty() || set<int>(particles.begin(), particles.end()).size() != particles.size())
        throw OpenMMException("KStepIntegrator: a jump model needs particles, each given once.");
    jumpModelData = data;
    jumpParticles = particles;
}

void KStepIntegrator::setJumpNumThreads(int threads) {
    if (threads < 1)
        throw OpenMMException("KStepIntegrator: the number of threads must be at least 1.");
    jumpNumThreads = threads;
}

void KStepIntegrator::setAllowJumpWithoutThermostat(bool allow) {
    if (allow && scheme != "jump")
        throw OpenMMException("KStepIntegrator: only the scheme 'jump' insists on a thermostat in this way, not '"+scheme+"'.");
    allowJumpWithoutThermostat = allow;
}

void KStepIntegrator::initializeJump(const System& system) {
    hasSurroundings = true;
    if (scheme != "jump")
        return;
    if (jumpModelData.empty())
        throw OpenMMException("KStepIntegrator: the scheme 'jump' needs a direct model; call setJumpModel() before the Context is created.");
    int numParticles = system.getNumParticles();
    set<int> jumping(jumpParticles.begin(), jumpParticles.end());
    for (int particle : jumpParticles) {
        if (particle < 0 || particle >= numParticles)
            throw OpenMMException("KStepIntegrator: the jump model acts on particle "+to_string(particle)+", but the System has "+to_string(numParticles)+" particles.");
        if (system.isVirtualSite(particle) || system.getParticleMass(particle) == 0)
            throw OpenMMException("KStepIntegrator: the jump model acts on particle "+to_string(particle)+", which "+(system.isVirtualSite(particle) ? "is a virtual site" : "has no mass")+"; only particles that move by themselves can jump.");
    }
    for (int i = 0; i < system.getNumConstraints(); i++) {
        int particle1, particle2;
        double distance;
        system.getConstraintParameters(i, particle1, particle2, distance);
        if (jumping.count(particle1) || jumping.count(particle2))
            throw OpenMMException("KStepIntegrator: particles that jump cannot be part of constraints, but "+to_string(particle1)+" and "+to_string(particle2)+" are constrained.  Remove the constraints of the QM region.");
    }
    hasSurroundings = false;
    for (int i = 0; i < numParticles; i++)
        hasSurroundings |= (system.getParticleMass(i) > 0 && jumping.count(i) == 0);
    jumpModel = KStepModel::load(jumpModelData, "KStepIntegrator");
    jumpContract = make_shared<ModelContract>(ModelContract::parse(jumpModel->getContractText(), "KStepIntegrator"));
    if (jumpContract->kind != "jump")
        throw OpenMMException("KStepIntegrator: expected a model of kind 'jump', found '"+jumpContract->kind+"'.");
    if (jumpContract->species.size() != jumpParticles.size())
        throw OpenMMException("KStepIntegrator: the jump model is for "+to_string(jumpContract->species.size())+" atoms, but "+to_string(jumpParticles.size())+" particles were given.  Use a model that was trained for this molecule.");
    for (int i = 0; i < system.getNumForces(); i++) {
        const QMRegionForce* region = dynamic_cast<const QMRegionForce*>(&system.getForce(i));
        if (region != NULL && region->getNumLinkAtoms() > 0)
            throw OpenMMException("KStepIntegrator: the scheme 'jump' cannot be used with a QM region that has link atoms, since a direct model would have to move them too.  Use a QM region of whole molecules, or another scheme.");
    }
    jumpContract->checkCorrector(system, correctorForceGroup, jumpParticles, "KStepIntegrator");
    checkJumpSettings();
    jumpModel->prepare(*jumpContract, jumpNumThreads, "cpu");
}

/**
 * Check what may change between steps: k, the base step, and the thermostat.
 */
void KStepIntegrator::checkJumpSettings() {
    if (scheme != "jump")
        return;
    if (jumpContract->jumpSteps != k-1 || fabs(jumpContract->jumpStepSize/baseStepSize-1) > MAX_STEP_SIZE_ERROR) {
        stringstream message;
        message << "KStepIntegrator: expected a jump model that covers k-1 = " << k-1 << " base steps of " << baseStepSize << " ps, found one for "
                << jumpContract->jumpSteps << " of " << jumpContract->jumpStepSize << " ps.  Set k to " << jumpContract->jumpSteps+1
                << " and the base step to " << jumpContract->jumpStepSize << " ps, or use another model.";
        throw OpenMMException(message.str());
    }
    double lowestFriction = INFINITY;
    bool allLangevin = true;
    for (int particle : jumpParticles) {
        double particleFriction = friction;
        bool isLangevin = (thermostat == "langevin");
        for (const Region& region : regions)
            if (binary_search(region.particles.begin(), region.particles.end(), particle)) {
                particleFriction = region.friction;
                isLangevin = (region.thermostat == "langevin");
            }
        lowestFriction = min(lowestFriction, particleFriction);
        allLangevin &= isLangevin;
    }
    if (lowestFriction == 0 && !allowJumpWithoutThermostat)
        throw OpenMMException("KStepIntegrator: the scheme 'jump' does not conserve energy and needs a thermostat on the particles that jump (Langevin with a friction of at least 10/ps), but their friction is 0.  To run it nevertheless call setAllowJumpWithoutThermostat(true).");
    if ((lowestFriction < MIN_JUMP_FRICTION || !allLangevin) && !warnedOfJumpFriction) {
        warnedOfJumpFriction = true;
        cerr << "Warning: KStepIntegrator: the scheme 'jump' does not conserve energy.  Temperatures and averages were found right only "
             << "with the thermostat 'langevin' and a friction of at least 10/ps on the particles that jump; theirs is " << lowestFriction
             << "/ps (" << (allLangevin ? "langevin" : "bussi") << ")." << endl;
    }
}

void KStepIntegrator::jumpMacroStep() {
    if (errorRecovery && division.getInterval() == 0)
        plainStep(k);
    else
        jumpStep();
    context->setTime(context->getTime()+getStepSize());
}

void KStepIntegrator::jumpStep() {
    IntegrateKStepStepKernel& kernel = getKernel();
    moveSurroundings(true);
    jump();
    moveSurroundings(false);
    // One base step of all particles on the true forces.
    addCorrectorForces();
    kernel.kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    kernel.drift(*context, baseStepSize, getConstraintTolerance());
    computeJumpForces();
    kernel.kick(*context, IntegrateKStepStepKernel::Fast, 0.5*baseStepSize);
    kernel.constrainVelocities(*context, getConstraintTolerance());
    if (!kernel.isStateFinite(*context))
        throwNotFinite(getNotFiniteMessage());
}

/**
 * Half of the time that the jump covers, for all particles but those that jump.  The latter wait, and their velocities
 * receive the common forces.
 *
 * @param areForcesTrue  the slots hold what they hold between macro-steps, for the current positions
 */
void KStepIntegrator::moveSurroundings(bool areForcesTrue) {
    IntegrateKStepStepKernel& kernel = getKernel();
    double interval = 0.5*(k-1)*baseStepSize;
    int numSteps = k/2; // the smallest number of equal steps that are not longer than the base step
    double stepSize = interval/numSteps;
    if (!areForcesTrue)
        computeCommonForces();
    double firstKick = (hasSurroundings ? 0.5*stepSize : interval);
    kernel.kick(*context, IntegrateKStepStepKernel::Fast, firstKick);
    if (areForcesTrue)
        kernel.kick(*context, IntegrateKStepStepKernel::Correction, -firstKick);
    if (!hasSurroundings)
        return;
    for (int i = 1; i <= numSteps; i++) {
        kernel.driftSurroundings(*context, stepSize, getConstraintTolerance());
        computeCommonForces();
        kernel.kick(*context, IntegrateKStepStepKernel::Fast, i < numSteps ? stepSize : 0.5*stepSize);
    }
}

/**
 * The model moves its particles, between two halves of their thermostat.
 */
void KStepIntegrator::jump() {
    IntegrateKStepStepKernel& kernel = getKernel();
    double interval = 0.5*(k-1)*baseStepSize;
    // Where nothing else moves, the forces of the macro-step's start are still those of the current positions.
    if (jumpContract->hasForceInput && hasSurroundings)
        addCorrectorForces();
    kernel.randomizeJumpVelocities(*context, interval);
    vector<Vec3> positions, velocities, forces, displacements, velocityChanges;
    kernel.getJumpState(*context, positions, velocities, forces);
    PeriodicBox::getBox(*context).makeWhole(positions); // the model knows no images, only displacements come back
    if (errorRecovery && jumpContract->isOutsideTrainingRegion(positions))
        throwOutsideRegion();
    jumpModel->computeJump(positions, velocities, forces, displacements, velocityChanges);
    for (const vector<Vec3>* changes : {&displacements, &velocityChanges})
        for (const Vec3& change : *changes)
            if (!isfinite(change[0]) || !isfinite(change[1]) || !isfinite(change[2]))
                throwNotFinite("KStepIntegrator: the jump model returned a number that is NaN or infinite.  The Context keeps the state before the macro-step.  Usual cause: a structure outside the region that the model was trained for.");
    kernel.applyJump(*context, displacements, velocityChanges);
    kernel.randomizeJumpVelocities(*context, interval);
}

/**
 * What the slots hold between macro-steps.
 */
void KStepIntegrator::computeJumpForces() {
    computeCommonForces();
    addCorrectorForces();
    valid.plainForces = true;
}

void KStepIntegrator::computeCommonForces() {
    context->calcForcesAndEnergy(true, false, getCommonGroups());
    getKernel().setForces(*context, IntegrateKStepStepKernel::Fast, 1);
}

/**
 * Make the true forces of the common ones in the slot Fast.
 */
void KStepIntegrator::addCorrectorForces() {
    statistics.correctorCalls++;
    correctorEnergy = context->calcForcesAndEnergy(true, true, 1<<correctorForceGroup);
    if (!isfinite(correctorEnergy))
        throwNotFinite("KStepIntegrator: the energy of the corrector is NaN or infinite.  Check that positions were set and the structure is reasonable, and that the jump model was trained for it.");
    getKernel().setForces(*context, IntegrateKStepStepKernel::Correction, 1);
    getKernel().addForces(*context, IntegrateKStepStepKernel::Fast);
}
