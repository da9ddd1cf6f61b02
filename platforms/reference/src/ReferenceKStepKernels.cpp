#include "ReferenceKStepKernels.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/reference/ReferenceConstraints.h"
#include "openmm/reference/ReferencePlatform.h"
#include <cmath>
#include <istream>
#include <ostream>
#include <random>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static ReferencePlatform::PlatformData& getData(ContextImpl& context) {
    return *reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
}

void ReferenceIntegrateKStepStepKernel::initialize(const System& system, const KStepIntegrator& integrator) {
    int numParticles = system.getNumParticles();
    hasConstraints = (system.getNumConstraints() > 0);
    hasVirtualSites = false;
    masses.resize(numParticles);
    inverseMasses.resize(numParticles);
    for (int i = 0; i < numParticles; i++) {
        masses[i] = system.getParticleMass(i);
        inverseMasses[i] = (masses[i] == 0 ? 0 : 1/masses[i]);
        hasVirtualSites |= system.isVirtualSite(i);
    }
    for (auto& slot : slots)
        slot.resize(numParticles);
    newPositions.resize(numParticles);
    mollification.reset(new Mollification(integrator.getMollification(), integrator.getMollifiedAngles()));
    jumpParticles = integrator.getJumpParticles();
    isJumping.assign(numParticles, 0);
    surroundingsInverseMasses = inverseMasses;
    for (int particle : jumpParticles) {
        isJumping[particle] = 1;
        surroundingsInverseMasses[particle] = 0;
    }
    regionIndex.assign(numParticles, 0);
    for (int i = 0; i < integrator.getNumRegions(); i++)
        for (int particle : integrator.getRegion(i).particles)
            regionIndex[particle] = i+1;
    regionFriction.assign(integrator.getNumRegions()+1, 0.0);
    regionTemperature = regionFriction;
    hasFriction = false;
    int seed = integrator.getRandomNumberSeed();
    init_gen_rand(seed == 0 ? random_device{}() : (unsigned int) seed, random);
    nextGaussianIsValid = false;
}

void ReferenceIntegrateKStepStepKernel::setForces(ContextImpl& context, ForceSlot slot, double scale) {
    vector<Vec3>& forces = *getData(context).forces;
    for (size_t i = 0; i < forces.size(); i++)
        slots[slot][i] = forces[i]*scale;
}

void ReferenceIntegrateKStepStepKernel::addForces(ContextImpl& context, ForceSlot slot) {
    vector<Vec3>& forces = *getData(context).forces;
    for (size_t i = 0; i < forces.size(); i++)
        slots[slot][i] += forces[i];
}

void ReferenceIntegrateKStepStepKernel::mollify(ContextImpl& context) {
    vector<Vec3>& positions = *getData(context).positions;
    const vector<int>& particles = mollification->getParticles();
    mollified.resize(particles.size());
    for (size_t i = 0; i < particles.size(); i++)
        mollified[i] = positions[particles[i]];
    mollification->apply(mollified, PeriodicBox::getBox(context));
    truePositions = positions;
    for (size_t i = 0; i < particles.size(); i++)
        positions[particles[i]] = mollified[i];
    if (hasVirtualSites)
        context.computeVirtualSites();
}

void ReferenceIntegrateKStepStepKernel::unmollify(ContextImpl& context) {
    *getData(context).positions = truePositions;
    vector<Vec3>& forces = slots[Correction];
    const vector<int>& particles = mollification->getParticles();
    for (size_t i = 0; i < particles.size(); i++)
        mollified[i] = forces[particles[i]];
    mollification->applyTransposedJacobian(mollified);
    for (size_t i = 0; i < particles.size(); i++)
        forces[particles[i]] = mollified[i];
}

void ReferenceIntegrateKStepStepKernel::kick(ContextImpl& context, ForceSlot slot, double interval) {
    vector<Vec3>& velocities = *getData(context).velocities;
    vector<Vec3>& forces = slots[slot];
    for (size_t i = 0; i < velocities.size(); i++)
        velocities[i] += forces[i]*(interval*inverseMasses[i]);
}

void ReferenceIntegrateKStepStepKernel::setLangevin(const vector<double>& friction, const vector<double>& temperature) {
    regionFriction = friction;
    regionTemperature = temperature;
    hasFriction = (*max_element(friction.begin(), friction.end()) > 0);
}

void ReferenceIntegrateKStepStepKernel::drift(ContextImpl& context, double stepSize, double tolerance, double* heat) {
    if (!hasFriction)
        move(context, stepSize, tolerance);
    else {
        move(context, 0.5*stepSize, tolerance);
        // The next move does not feel velocities along constraints, but the kinetic energy would.
        if (heat != NULL) {
            constrainVelocities(context, tolerance);
            *heat -= computeKineticEnergy(context, 0, tolerance);
        }
        randomizeVelocities(context, stepSize);
        if (heat != NULL) {
            constrainVelocities(context, tolerance);
            *heat += computeKineticEnergy(context, 0, tolerance);
        }
        move(context, 0.5*stepSize, tolerance);
    }
    if (hasVirtualSites)
        context.computeVirtualSites();
}

void ReferenceIntegrateKStepStepKernel::driftSurroundings(ContextImpl& context, double stepSize, double tolerance) {
    if (!hasFriction)
        move(context, stepSize, tolerance, Surroundings);
    else {
        move(context, 0.5*stepSize, tolerance, Surroundings);
        randomizeVelocities(context, stepSize, Surroundings);
        move(context, 0.5*stepSize, tolerance, Surroundings);
    }
    if (hasVirtualSites)
        context.computeVirtualSites();
}

void ReferenceIntegrateKStepStepKernel::randomizeJumpVelocities(ContextImpl& context, double interval) {
    if (hasFriction)
        randomizeVelocities(context, interval, Jumping);
}

void ReferenceIntegrateKStepStepKernel::getJumpState(ContextImpl& context, vector<Vec3>& positions, vector<Vec3>& velocities, vector<Vec3>& forces) {
    ReferencePlatform::PlatformData& data = getData(context);
    size_t numParticles = jumpParticles.size();
    positions.resize(numParticles);
    velocities.resize(numParticles);
    forces.resize(numParticles);
    for (size_t i = 0; i < numParticles; i++) {
        positions[i] = (*data.positions)[jumpParticles[i]];
        velocities[i] = (*data.velocities)[jumpParticles[i]];
        forces[i] = slots[Fast][jumpParticles[i]];
    }
}

void ReferenceIntegrateKStepStepKernel::applyJump(ContextImpl& context, const vector<Vec3>& displacements, const vector<Vec3>& velocityChanges) {
    ReferencePlatform::PlatformData& data = getData(context);
    for (size_t i = 0; i < jumpParticles.size(); i++) {
        (*data.positions)[jumpParticles[i]] += displacements[i];
        (*data.velocities)[jumpParticles[i]] += velocityChanges[i];
    }
    if (hasVirtualSites)
        context.computeVirtualSites();
}

/**
 * x += interval v, followed by the constraints: the displacement they cause is also added to the velocities (RATTLE).
 */
void ReferenceIntegrateKStepStepKernel::move(ContextImpl& context, double interval, double tolerance, Subset subset) {
    ReferencePlatform::PlatformData& data = getData(context);
    vector<Vec3>& positions = *data.positions;
    vector<Vec3>& velocities = *data.velocities;
    vector<double>& invMasses = (subset == Surroundings ? surroundingsInverseMasses : inverseMasses);
    if (!hasConstraints) {
        for (size_t i = 0; i < positions.size(); i++)
            if (invMasses[i] != 0)
                positions[i] += velocities[i]*interval;
        return;
    }
    for (size_t i = 0; i < positions.size(); i++)
        newPositions[i] = (invMasses[i] == 0 ? positions[i] : positions[i]+velocities[i]*interval);
    data.constraints->apply(positions, newPositions, invMasses, tolerance);
    double scale = 1/interval;
    for (size_t i = 0; i < positions.size(); i++)
        if (invMasses[i] != 0) {
            velocities[i] = (newPositions[i]-positions[i])*scale;
            positions[i] = newPositions[i];
        }
}

/**
 * An exact Ornstein-Uhlenbeck step.
 */
void ReferenceIntegrateKStepStepKernel::randomizeVelocities(ContextImpl& context, double interval, Subset subset) {
    vector<Vec3>& velocities = *getData(context).velocities;
    size_t numRegions = regionFriction.size();
    vector<double> decay(numRegions), noise(numRegions);
    for (size_t i = 0; i < numRegions; i++) {
        decay[i] = exp(-regionFriction[i]*interval);
        noise[i] = sqrt(GAS_CONSTANT*regionTemperature[i]*(1-decay[i]*decay[i]));
    }
    for (size_t i = 0; i < velocities.size(); i++) {
        int region = regionIndex[i];
        if (inverseMasses[i] == 0 || regionFriction[region] == 0)
            continue;
        if (subset != All && isJumping[i] != (subset == Jumping))
            continue;
        double scale = noise[region]*sqrt(inverseMasses[i]);
        double x = gaussian(), y = gaussian(), z = gaussian();
        velocities[i] = velocities[i]*decay[region]+Vec3(x, y, z)*scale;
    }
}

double ReferenceIntegrateKStepStepKernel::gaussian() {
    // The polar form of the Box-Muller transformation.
    if (nextGaussianIsValid) {
        nextGaussianIsValid = false;
        return nextGaussian;
    }
    double x, y, r2;
    do {
        x = 2*genrand_real2(random)-1;
        y = 2*genrand_real2(random)-1;
        r2 = x*x+y*y;
    } while (r2 >= 1 || r2 == 0);
    double multiplier = sqrt(-2*log(r2)/r2);
    nextGaussian = y*multiplier;
    nextGaussianIsValid = true;
    return x*multiplier;
}

void ReferenceIntegrateKStepStepKernel::constrainVelocities(ContextImpl& context, double tolerance) {
    ReferencePlatform::PlatformData& data = getData(context);
    if (hasConstraints)
        data.constraints->applyToVelocities(*data.positions, *data.velocities, inverseMasses, tolerance);
}

void ReferenceIntegrateKStepStepKernel::saveState(ContextImpl& context) {
    ReferencePlatform::PlatformData& data = getData(context);
    savedPositions = *data.positions;
    savedVelocities = *data.velocities;
    for (int i = 0; i < 2; i++)
        savedSlots[i] = slots[i];
}

void ReferenceIntegrateKStepStepKernel::restoreState(ContextImpl& context, double velocityScale) {
    ReferencePlatform::PlatformData& data = getData(context);
    *data.positions = savedPositions;
    for (size_t i = 0; i < savedVelocities.size(); i++)
        (*data.velocities)[i] = savedVelocities[i]*velocityScale;
    for (int i = 0; i < 2; i++)
        slots[i] = savedSlots[i];
}

bool ReferenceIntegrateKStepStepKernel::isStateFinite(ContextImpl& context) {
    ReferencePlatform::PlatformData& data = getData(context);
    for (auto* list : {data.positions, data.velocities})
        for (const Vec3& v : *list)
            if (!isfinite(v[0]) || !isfinite(v[1]) || !isfinite(v[2]))
                return false;
    return true;
}

void ReferenceIntegrateKStepStepKernel::getShiftedVelocities(ContextImpl& context, double timeShift, double tolerance, vector<Vec3>& velocities) {
    ReferencePlatform::PlatformData& data = getData(context);
    velocities = *data.velocities;
    if (timeShift != 0)
        for (size_t i = 0; i < velocities.size(); i++)
            if (regionFriction[regionIndex[i]] > 0)
                velocities[i] += slots[Fast][i]*(timeShift*inverseMasses[i]);
    if (hasConstraints)
        data.constraints->applyToVelocities(*data.positions, velocities, inverseMasses, tolerance);
}

double ReferenceIntegrateKStepStepKernel::computeKineticEnergy(ContextImpl& context, double timeShift, double tolerance) {
    // On-step velocities are free of components along constraints already.
    if (timeShift == 0)
        shiftedVelocities = *getData(context).velocities;
    else
        getShiftedVelocities(context, timeShift, tolerance, shiftedVelocities);
    double energy = 0;
    for (size_t i = 0; i < shiftedVelocities.size(); i++)
        energy += 0.5*masses[i]*shiftedVelocities[i].dot(shiftedVelocities[i]);
    return energy;
}

void ReferenceIntegrateKStepStepKernel::computeRegionKineticEnergies(ContextImpl& context, vector<double>& energies) {
    vector<Vec3>& velocities = *getData(context).velocities;
    energies.assign(regionFriction.size(), 0.0);
    for (size_t i = 0; i < velocities.size(); i++)
        energies[regionIndex[i]] += 0.5*masses[i]*velocities[i].dot(velocities[i]);
}

void ReferenceIntegrateKStepStepKernel::scaleVelocities(ContextImpl& context, const vector<double>& factors) {
    vector<Vec3>& velocities = *getData(context).velocities;
    for (size_t i = 0; i < velocities.size(); i++)
        velocities[i] *= factors[regionIndex[i]];
}

double ReferenceIntegrateKStepStepKernel::computeAccelerationNorm(ContextImpl& context, ForceSlot slot) {
    double sum = 0;
    for (size_t i = 0; i < slots[slot].size(); i++)
        sum += slots[slot][i].dot(slots[slot][i])*inverseMasses[i];
    return sqrt(sum);
}

void ReferenceIntegrateKStepStepKernel::pushForces(ContextImpl& context) {
    savedForces = *getData(context).forces;
}

void ReferenceIntegrateKStepStepKernel::popForces(ContextImpl& context) {
    *getData(context).forces = savedForces;
}

void ReferenceIntegrateKStepStepKernel::createCheckpoint(ContextImpl& context, ostream& stream) const {
    stream.write((const char*) &nextGaussianIsValid, sizeof(bool));
    stream.write((const char*) &nextGaussian, sizeof(double));
    random.createCheckpoint(stream);
}

void ReferenceIntegrateKStepStepKernel::loadCheckpoint(ContextImpl& context, istream& stream) {
    stream.read((char*) &nextGaussianIsValid, sizeof(bool));
    stream.read((char*) &nextGaussian, sizeof(double));
    random.loadCheckpoint(stream);
}
