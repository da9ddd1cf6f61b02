#include "CommonKStepKernels.h"
#include "CommonKStepKernelSources.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/common/ContextSelector.h"
#include <algorithm>
#include <cmath>
#include <istream>
#include <ostream>
#include <random>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const int NUM_SUMS = 1024, SUM_BLOCK = 64;

void CommonIntegrateKStepStepKernel::initialize(const System& system, const KStepIntegrator& integrator) {
    ContextSelector selector(cc);
    cc.initializeContexts();
    int numParticles = system.getNumParticles();
    hasConstraints = (system.getNumConstraints() > 0);
    hasVirtualSites = false;
    for (int i = 0; i < numParticles; i++)
        hasVirtualSites |= system.isVirtualSite(i);
    hasFriction = false;
    numRegions = integrator.getNumRegions()+1;
    regionFriction.assign(numRegions, 0.0);
    regionTemperature = regionFriction;
    vector<int> regionIndex(numParticles, 0), isJumping(numParticles, 0), zero(numParticles, 0);
    for (int i = 0; i < integrator.getNumRegions(); i++)
        for (int particle : integrator.getRegion(i).particles)
            regionIndex[particle] = i+1;
    for (int particle : integrator.getJumpParticles())
        isJumping[particle] = 1;
    atoms.reset(new DeviceParticles(cc));
    region.initialize<int>(cc, numParticles, "kstepRegion");
    region.upload(regionIndex);
    stays.initialize<int>(cc, numParticles, "kstepStays");
    stays.upload(isJumping);
    nobodyStays.initialize<int>(cc, numParticles, "kstepNobodyStays");
    nobodyStays.upload(zero);
    regionHasFriction.initialize<int>(cc, numRegions, "kstepRegionHasFriction");
    langevin.initialize(cc, numRegions, 2*atoms->getMixedSize(), "kstepLangevin");
    factors.initialize(cc, numRegions, atoms->getMixedSize(), "kstepFactors");
    sums.initialize(cc, NUM_SUMS*numRegions, atoms->getMixedSize(), "kstepSums");
    cc.clearBuffer(sums);
    found.initialize<int>(cc, 1, "kstepFound");
    savedPositions.initialize(cc, numParticles, 4*atoms->getMixedSize(), "kstepSavedPositions");
    truePositions.initialize(cc, numParticles, 4*atoms->getMixedSize(), "kstepTruePositions");
    for (int i = 0; i < 2; i++) {
        slots[i].initialize<long long>(cc, 3*cc.getPaddedNumAtoms(), "kstepSlot");
        cc.clearBuffer(slots[i]);
    }
    mollification.reset(new Mollification(integrator.getMollification(), integrator.getMollifiedAngles()));
    initializeList(mollified, mollification->getParticles(), "kstepMollified");
    initializeList(jumping, integrator.getJumpParticles(), "kstepJumping");
    int seed = integrator.getRandomNumberSeed();
    random_device entropy;
    key[0] = (seed == 0 ? entropy() : (uint32_t) seed);
    key[1] = (seed == 0 ? entropy() : 0);
    numDraws = 0;
    createKernels();
}

void CommonIntegrateKStepStepKernel::initializeList(ParticleList& list, const vector<int>& particles, const string& name) {
    list.particles = particles;
    if (particles.empty())
        return;
    list.array.initialize<int>(cc, particles.size(), name);
    list.array.upload(particles);
    list.vectors.initialize(cc, particles.size(), 4*atoms->getMixedSize(), name+"Vectors");
    list.forces.initialize<long long>(cc, 3*particles.size(), name+"Forces");
}

/** Arguments that do not change are set here, the others where a kernel is called. */
void CommonIntegrateKStepStepKernel::createKernels() {
    map<string, string> defines;
    defines["NUM_SUMS"] = cc.intToString(NUM_SUMS);
    defines["UNIT_OF_WORDS"] = cc.doubleToString(1/4294967296.0, true);
    defines["TWO_PI"] = cc.doubleToString(2*M_PI, true);
    ComputeProgram program = atoms->compile(KernelSources::kstep, defines);
    auto create = [&] (ComputeKernel& kernel, const string& name, initializer_list<ArrayInterface*> args) {
        kernel = program->createKernel(name);
        for (ArrayInterface* array : args) {
            if (array == NULL)
                kernel->addArg();
            else
                kernel->addArg(*array);
        }
    };
    ArrayInterface* velm = &cc.getVelm();
    ArrayInterface* index = &cc.getAtomIndexArray();
    ArrayInterface* delta = &cc.getIntegrationUtilities().getPosDelta();
    create(copyForcesKernel, "copyForces", {&cc.getLongForceBuffer(), NULL, index, NULL, NULL});
    create(kickKernel, "kick", {velm, NULL, index, NULL});
    create(shiftKernel, "shiftVelocities", {velm, &slots[Fast], index, NULL, &region, &regionHasFriction});
    create(moveFreelyKernel, "moveFreely", {velm, index, NULL, NULL});
    create(beginMoveKernel, "beginMove", {velm, delta, index, NULL, NULL});
    create(endMoveKernel, "endMove", {velm, delta, index, NULL, NULL});
    create(randomizeKernel, "randomizeVelocities", {velm, index, &region, &langevin, &stays, NULL, NULL, NULL, NULL, NULL});
    create(scaleKernel, "scaleVelocities", {velm, index, &region, &factors});
    create(kineticKernel, "sumKineticEnergies", {velm, index, &region, NULL, &sums});
    create(accelerationKernel, "sumAccelerations", {velm, index, NULL, &sums});
    create(nonFiniteKernel, "findNonFinite", {velm, &found});
    create(savePositionsKernel, "savePositions", {NULL});
    create(restorePositionsKernel, "restorePositions", {NULL});
    create(gatherPositionsKernel, "gatherPositions", {NULL, NULL, NULL, NULL});
    create(gatherVelocitiesKernel, "gatherVelocities", {NULL, NULL, NULL, velm, NULL});
    create(gatherForcesKernel, "gatherForces", {NULL, NULL, NULL, NULL});
    create(scatterForcesKernel, "scatterForces", {NULL, NULL, NULL, NULL});
    create(addPositionsKernel, "addPositions", {NULL, NULL, NULL, NULL});
    create(addVelocitiesKernel, "addVelocities", {NULL, NULL, NULL, NULL, velm});
    for (ComputeKernel kernel : {moveFreelyKernel, endMoveKernel, nonFiniteKernel, savePositionsKernel, restorePositionsKernel, gatherPositionsKernel, addPositionsKernel})
        atoms->addPositionArgs(kernel);
}

void CommonIntegrateKStepStepKernel::sortParticles(ContextImpl& context, int numSteps) {
    ContextSelector selector(cc);
    // OpenMM sorts every 250th time that it is asked, which integrators do once in a step.
    for (int i = 0; i < numSteps; i++)
        cc.reorderAtoms();
}

void CommonIntegrateKStepStepKernel::copyForces(ForceSlot slot, int scale, int keep) {
    ContextSelector selector(cc);
    copyForcesKernel->setArg(1, slots[slot]);
    copyForcesKernel->setArg(3, scale);
    copyForcesKernel->setArg(4, keep);
    copyForcesKernel->execute(cc.getNumAtoms());
}

void CommonIntegrateKStepStepKernel::setForces(ContextImpl& context, ForceSlot slot, double scale) {
    copyForces(slot, (int) scale, 0);
}

void CommonIntegrateKStepStepKernel::addForces(ContextImpl& context, ForceSlot slot) {
    copyForces(slot, 1, 1);
}

void CommonIntegrateKStepStepKernel::savePositions(ComputeArray& to) {
    savePositionsKernel->setArg(0, to);
    savePositionsKernel->execute(cc.getNumAtoms());
}

void CommonIntegrateKStepStepKernel::restorePositions(ComputeArray& from) {
    restorePositionsKernel->setArg(0, from);
    restorePositionsKernel->execute(cc.getNumAtoms());
}

/** Copies an array, which is made the first time. */
void CommonIntegrateKStepStepKernel::copy(ArrayInterface& from, ComputeArray& to) {
    if (!to.isInitialized())
        to.initialize(cc, from.getSize(), from.getElementSize(), from.getName()+"Copy");
    from.copyTo(to);
}

void CommonIntegrateKStepStepKernel::getPositions(ParticleList& list, vector<Vec3>& positions) {
    gatherPositionsKernel->setArg(0, (int) list.particles.size());
    gatherPositionsKernel->setArg(1, list.array);
    gatherPositionsKernel->setArg(2, atoms->getOrder());
    gatherPositionsKernel->setArg(3, list.vectors);
    gatherPositionsKernel->execute(list.particles.size());
    atoms->download(list.vectors, positions);
    atoms->prepareUnwrapping();
    for (size_t i = 0; i < positions.size(); i++)
        atoms->unwrap(positions[i], list.particles[i]);
}

void CommonIntegrateKStepStepKernel::addPositions(ParticleList& list, const vector<Vec3>& displacements) {
    atoms->upload(list.vectors, displacements);
    addPositionsKernel->setArg(0, (int) list.particles.size());
    addPositionsKernel->setArg(1, list.array);
    addPositionsKernel->setArg(2, atoms->getOrder());
    addPositionsKernel->setArg(3, list.vectors);
    addPositionsKernel->execute(list.particles.size());
}

void CommonIntegrateKStepStepKernel::getForces(ParticleList& list, ForceSlot slot, vector<Vec3>& forces) {
    gatherForcesKernel->setArg(0, (int) list.particles.size());
    gatherForcesKernel->setArg(1, list.array);
    gatherForcesKernel->setArg(2, slots[slot]);
    gatherForcesKernel->setArg(3, list.forces);
    gatherForcesKernel->execute(3*list.particles.size());
    vector<long long> buffer;
    list.forces.download(buffer);
    forces.resize(list.particles.size());
    for (size_t i = 0; i < forces.size(); i++)
        forces[i] = Vec3(buffer[3*i], buffer[3*i+1], buffer[3*i+2])/FORCE_SCALE;
}

void CommonIntegrateKStepStepKernel::setForces(ParticleList& list, ForceSlot slot, const vector<Vec3>& forces) {
    vector<long long> buffer;
    for (const Vec3& f : forces)
        for (int j = 0; j < 3; j++)
            buffer.push_back(llround(f[j]*FORCE_SCALE));
    list.forces.upload(buffer);
    scatterForcesKernel->setArg(0, (int) list.particles.size());
    scatterForcesKernel->setArg(1, list.array);
    scatterForcesKernel->setArg(2, slots[slot]);
    scatterForcesKernel->setArg(3, list.forces);
    scatterForcesKernel->execute(3*list.particles.size());
}

void CommonIntegrateKStepStepKernel::mollify(ContextImpl& context) {
    ContextSelector selector(cc);
    vector<Vec3> positions;
    getPositions(mollified, positions);
    vector<Vec3> displacements = positions;
    mollification->apply(displacements, PeriodicBox::getBox(context));
    for (size_t i = 0; i < positions.size(); i++)
        displacements[i] -= positions[i];
    savePositions(truePositions);
    addPositions(mollified, displacements);
    if (hasVirtualSites)
        cc.getIntegrationUtilities().computeVirtualSites();
}

void CommonIntegrateKStepStepKernel::unmollify(ContextImpl& context) {
    ContextSelector selector(cc);
    restorePositions(truePositions);
    vector<Vec3> forces;
    getForces(mollified, Correction, forces);
    mollification->applyTransposedJacobian(forces);
    setForces(mollified, Correction, forces);
}

void CommonIntegrateKStepStepKernel::kick(ContextImpl& context, ForceSlot slot, double interval) {
    ContextSelector selector(cc);
    kickKernel->setArg(1, slots[slot]);
    atoms->setMixedArg(kickKernel, 3, interval);
    kickKernel->execute(cc.getNumAtoms());
}

void CommonIntegrateKStepStepKernel::setLangevin(const vector<double>& friction, const vector<double>& temperature) {
    ContextSelector selector(cc);
    regionFriction = friction;
    regionTemperature = temperature;
    hasFriction = (*max_element(friction.begin(), friction.end()) > 0);
    vector<int> flags;
    for (double f : friction)
        flags.push_back(f > 0);
    regionHasFriction.upload(flags);
    langevinInterval = 0;
}

void CommonIntegrateKStepStepKernel::drift(ContextImpl& context, double stepSize, double tolerance, double* heat) {
    ContextSelector selector(cc);
    if (!hasFriction)
        move(stepSize, tolerance, All);
    else {
        move(0.5*stepSize, tolerance, All);
        // The next move does not feel velocities along constraints, but the kinetic energy would.
        if (heat != NULL) {
            constrainVelocities(context, tolerance);
            *heat -= sumKineticEnergy();
        }
        randomizeVelocities(stepSize, All);
        if (heat != NULL) {
            constrainVelocities(context, tolerance);
            *heat += sumKineticEnergy();
        }
        move(0.5*stepSize, tolerance, All);
    }
    if (hasVirtualSites)
        cc.getIntegrationUtilities().computeVirtualSites();
}

void CommonIntegrateKStepStepKernel::driftSurroundings(ContextImpl& context, double stepSize, double tolerance) {
    ContextSelector selector(cc);
    if (!hasFriction)
        move(stepSize, tolerance, Surroundings);
    else {
        move(0.5*stepSize, tolerance, Surroundings);
        randomizeVelocities(stepSize, Surroundings);
        move(0.5*stepSize, tolerance, Surroundings);
    }
    if (hasVirtualSites)
        cc.getIntegrationUtilities().computeVirtualSites();
}

void CommonIntegrateKStepStepKernel::randomizeJumpVelocities(ContextImpl& context, double interval) {
    ContextSelector selector(cc);
    if (hasFriction)
        randomizeVelocities(interval, Jumping);
}

void CommonIntegrateKStepStepKernel::getJumpState(ContextImpl& context, vector<Vec3>& positions, vector<Vec3>& velocities, vector<Vec3>& forces) {
    ContextSelector selector(cc);
    getPositions(jumping, positions);
    gatherVelocitiesKernel->setArg(0, (int) jumping.particles.size());
    gatherVelocitiesKernel->setArg(1, jumping.array);
    gatherVelocitiesKernel->setArg(2, atoms->getOrder());
    gatherVelocitiesKernel->setArg(4, jumping.vectors);
    gatherVelocitiesKernel->execute(jumping.particles.size());
    atoms->download(jumping.vectors, velocities);
    getForces(jumping, Fast, forces);
}

void CommonIntegrateKStepStepKernel::applyJump(ContextImpl& context, const vector<Vec3>& displacements, const vector<Vec3>& velocityChanges) {
    ContextSelector selector(cc);
    addPositions(jumping, displacements);
    atoms->upload(jumping.vectors, velocityChanges);
    addVelocitiesKernel->setArg(0, (int) jumping.particles.size());
    addVelocitiesKernel->setArg(1, jumping.array);
    addVelocitiesKernel->setArg(2, atoms->getOrder());
    addVelocitiesKernel->setArg(3, jumping.vectors);
    addVelocitiesKernel->execute(jumping.particles.size());
    if (hasVirtualSites)
        cc.getIntegrationUtilities().computeVirtualSites();
}

/**
 * x += interval v, followed by the constraints.  Particles that jump are never part of constraints.
 */
void CommonIntegrateKStepStepKernel::move(double interval, double tolerance, Subset subset) {
    ComputeArray& waiting = (subset == Surroundings ? stays : nobodyStays);
    if (!hasConstraints) {
        moveFreelyKernel->setArg(2, waiting);
        atoms->setMixedArg(moveFreelyKernel, 3, interval);
        moveFreelyKernel->execute(cc.getNumAtoms());
        return;
    }
    beginMoveKernel->setArg(3, waiting);
    atoms->setMixedArg(beginMoveKernel, 4, interval);
    beginMoveKernel->execute(cc.getNumAtoms());
    cc.getIntegrationUtilities().applyConstraints(tolerance);
    endMoveKernel->setArg(3, waiting);
    atoms->setMixedArg(endMoveKernel, 4, interval);
    endMoveKernel->execute(cc.getNumAtoms());
}

/**
 * An exact Ornstein-Uhlenbeck step.
 */
void CommonIntegrateKStepStepKernel::randomizeVelocities(double interval, Subset subset) {
    if (interval != langevinInterval) {
        vector<mm_double2> parameters;
        for (int i = 0; i < numRegions; i++) {
            double decay = exp(-regionFriction[i]*interval);
            parameters.push_back(mm_double2(decay, sqrt(GAS_CONSTANT*regionTemperature[i]*(1-decay*decay))));
        }
        langevin.upload(parameters, true);
        langevinInterval = interval;
    }
    randomizeKernel->setArg(5, (int) subset);
    randomizeKernel->setArg(6, (uint32_t) numDraws);
    randomizeKernel->setArg(7, (uint32_t) (numDraws>>32));
    randomizeKernel->setArg(8, key[0]);
    randomizeKernel->setArg(9, key[1]);
    randomizeKernel->execute(cc.getNumAtoms());
    numDraws++;
}

void CommonIntegrateKStepStepKernel::constrainVelocities(ContextImpl& context, double tolerance) {
    ContextSelector selector(cc);
    if (hasConstraints)
        cc.getIntegrationUtilities().applyVelocityConstraints(tolerance);
}

void CommonIntegrateKStepStepKernel::saveState(ContextImpl& context) {
    ContextSelector selector(cc);
    savedAtomIndex = cc.getAtomIndex();
    savedCellOffsets = cc.getPosCellOffsets();
    savePositions(savedPositions);
    copy(cc.getVelm(), savedVelocities);
    for (int i = 0; i < 2; i++)
        copy(slots[i], savedSlots[i]);
}

void CommonIntegrateKStepStepKernel::restoreState(ContextImpl& context, double velocityScale) {
    ContextSelector selector(cc);
    // Macro-steps sort nothing, but setPositions() does.
    if (cc.getAtomIndex() != savedAtomIndex) {
        cc.setAtomIndex(savedAtomIndex);
        for (ComputeContext::ReorderListener* listener : cc.getReorderListeners())
            listener->execute();
    }
    cc.setPosCellOffsets(savedCellOffsets);
    restorePositions(savedPositions);
    savedVelocities.copyTo(cc.getVelm());
    for (int i = 0; i < 2; i++)
        savedSlots[i].copyTo(slots[i]);
    if (velocityScale != 1)
        scaleVelocities(context, vector<double>(numRegions, velocityScale));
}

bool CommonIntegrateKStepStepKernel::isStateFinite(ContextImpl& context) {
    ContextSelector selector(cc);
    cc.clearBuffer(found);
    nonFiniteKernel->execute(cc.getNumAtoms());
    vector<int> result;
    found.download(result);
    return (result[0] == 0);
}

/** Runs an action while the velocities are those of another time. */
void CommonIntegrateKStepStepKernel::withShiftedVelocities(double timeShift, double tolerance, const function<void()>& action) {
    copy(cc.getVelm(), unshiftedVelocities);
    try {
        if (timeShift != 0) {
            atoms->setMixedArg(shiftKernel, 3, timeShift);
            shiftKernel->execute(cc.getNumAtoms());
        }
        if (hasConstraints)
            cc.getIntegrationUtilities().applyVelocityConstraints(tolerance);
        action();
    }
    catch (...) {
        unshiftedVelocities.copyTo(cc.getVelm());
        throw;
    }
    unshiftedVelocities.copyTo(cc.getVelm());
}

void CommonIntegrateKStepStepKernel::getShiftedVelocities(ContextImpl& context, double timeShift, double tolerance, vector<Vec3>& velocities) {
    ContextSelector selector(cc);
    vector<mm_double4> buffer;
    withShiftedVelocities(timeShift, tolerance, [&] {
        cc.getVelm().download(buffer, true);
    });
    velocities.resize(cc.getNumAtoms());
    for (int i = 0; i < cc.getNumAtoms(); i++)
        velocities[cc.getAtomIndex()[i]] = Vec3(buffer[i].x, buffer[i].y, buffer[i].z);
}

double CommonIntegrateKStepStepKernel::computeKineticEnergy(ContextImpl& context, double timeShift, double tolerance) {
    ContextSelector selector(cc);
    // On-step velocities are free of components along constraints already.
    if (timeShift == 0)
        return sumKineticEnergy();
    double energy;
    withShiftedVelocities(timeShift, tolerance, [&] {
        energy = sumKineticEnergy();
    });
    return energy;
}

/** Adds up what the threads have summed, a number for each of count regions. */
static vector<double> addSums(ComputeArray& sums, int count) {
    vector<double> buffer, result(count, 0.0);
    sums.download(buffer, true);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < NUM_SUMS; j++)
            result[i] += buffer[i*NUM_SUMS+j];
    return result;
}

double CommonIntegrateKStepStepKernel::sumKineticEnergy() {
    kineticKernel->setArg(3, 1);
    kineticKernel->execute(NUM_SUMS, SUM_BLOCK);
    return addSums(sums, 1)[0];
}

void CommonIntegrateKStepStepKernel::computeRegionKineticEnergies(ContextImpl& context, vector<double>& energies) {
    ContextSelector selector(cc);
    kineticKernel->setArg(3, numRegions);
    kineticKernel->execute(NUM_SUMS, SUM_BLOCK);
    energies = addSums(sums, numRegions);
}

double CommonIntegrateKStepStepKernel::computeAccelerationNorm(ContextImpl& context, ForceSlot slot) {
    ContextSelector selector(cc);
    accelerationKernel->setArg(2, slots[slot]);
    accelerationKernel->execute(NUM_SUMS, SUM_BLOCK);
    return sqrt(addSums(sums, 1)[0]);
}

void CommonIntegrateKStepStepKernel::scaleVelocities(ContextImpl& context, const vector<double>& values) {
    ContextSelector selector(cc);
    factors.upload(values, true);
    scaleKernel->execute(cc.getNumAtoms());
}

void CommonIntegrateKStepStepKernel::pushForces(ContextImpl& context) {
    ContextSelector selector(cc);
    copy(cc.getLongForceBuffer(), savedForces);
}

void CommonIntegrateKStepStepKernel::popForces(ContextImpl& context) {
    ContextSelector selector(cc);
    savedForces.copyTo(cc.getLongForceBuffer());
}

void CommonIntegrateKStepStepKernel::createCheckpoint(ContextImpl& context, ostream& stream) const {
    stream.write((const char*) key, sizeof(key));
    stream.write((const char*) &numDraws, sizeof(numDraws));
}

void CommonIntegrateKStepStepKernel::loadCheckpoint(ContextImpl& context, istream& stream) {
    stream.read((char*) key, sizeof(key));
    stream.read((char*) &numDraws, sizeof(numDraws));
}
