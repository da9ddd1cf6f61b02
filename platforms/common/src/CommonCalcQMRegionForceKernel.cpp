#include "CommonCalcQMRegionForceKernel.h"
#include "CommonKStepKernelSources.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmm/common/ContextSelector.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const double MAX_FORCE = 1073741824.0;   // kJ/mol/nm; what is larger, or not a number, is marked as such
static const double REACH_MARGIN = 1e-3;        // nm
static const int BOX_ARG = 11;                  // the first one of the box in gatherGroups

/** An evaluation that another force has ended by an exception leaves nothing for the next one, whatever its groups are. */
class CommonCalcQMRegionForceKernel::Begin : public ComputeContext::ForcePreComputation {
public:
    Begin(shared_ptr<CommonCalcQMRegionForceKernel*> kernel) : kernel(kernel) {
    }
    void computeForceAndEnergy(bool includeForces, bool includeEnergy, int groups) override {
        if (*kernel != NULL)
            (*kernel)->isWaiting = false;
    }
private:
    shared_ptr<CommonCalcQMRegionForceKernel*> kernel;
};

/** Runs the computation of the host while the device is busy with the other forces. */
class CommonCalcQMRegionForceKernel::Finish : public ComputeContext::ForcePostComputation {
public:
    Finish(shared_ptr<CommonCalcQMRegionForceKernel*> kernel) : kernel(kernel) {
    }
    double computeForceAndEnergy(bool includeForces, bool includeEnergy, int groups) override {
        return (*kernel == NULL ? 0 : (*kernel)->finish(includeForces));
    }
private:
    shared_ptr<CommonCalcQMRegionForceKernel*> kernel;
};

CommonCalcQMRegionForceKernel::~CommonCalcQMRegionForceKernel() {
    if (self)
        *self = NULL;
}

void CommonCalcQMRegionForceKernel::initialize(ContextImpl& context, const QMRegionForce& force, Calculation& calculation) {
    ContextSelector selector(cc);
    this->calculation = &calculation;
    contextImpl = &context;
    int numParticles = context.getSystem().getNumParticles();
    positions.resize(numParticles);
    forces.forces.resize(numParticles);
    atoms.reset(new DeviceParticles(cc));
    listParticles(context.getSystem(), force);
    map<string, string> defines;
    defines["APPLY_BOX(delta)"] = (force.usesPeriodicBoundaryConditions() ? "APPLY_PERIODIC_TO_DELTA(delta)" : "");
    ComputeProgram program = atoms->compile(KernelSources::region, defines);
    gatherPositionsKernel = program->createKernel("gatherPositions");
    gatherPositionsKernel->addArg(numFixed);
    gatherPositionsKernel->addArg(fixed);
    gatherPositionsKernel->addArg();
    gatherPositionsKernel->addArg(gathered);
    atoms->addPositionArgs(gatherPositionsKernel);
    if (numGroups > 0) {
        gatherGroupsKernel = program->createKernel("gatherGroups");
        double reach = force.getCutoffDistance()+REACH_MARGIN;
        gatherGroupsKernel->addArg(numQM);
        gatherGroupsKernel->addArg(numFixed);
        gatherGroupsKernel->addArg(numGroups);
        gatherGroupsKernel->addArg();
        if (cc.getUseDoublePrecision())
            gatherGroupsKernel->addArg(reach*reach);
        else
            gatherGroupsKernel->addArg((float) (reach*reach));
        gatherGroupsKernel->addArg(centers);
        gatherGroupsKernel->addArg(first);
        gatherGroupsKernel->addArg(members);
        gatherGroupsKernel->addArg();
        gatherGroupsKernel->addArg(count);
        gatherGroupsKernel->addArg(gathered);
        for (int i = 0; i < 5; i++)
            gatherGroupsKernel->addArg(); // the box
        atoms->addPositionArgs(gatherGroupsKernel);
    }
    addForcesKernel = program->createKernel("addListedForces");
    for (int i = 0; i < 3; i++)
        addForcesKernel->addArg();
    addForcesKernel->addArg(cc.getLongForceBuffer());
    self = make_shared<CommonCalcQMRegionForceKernel*>(this);
    cc.addPreComputation(new Begin(self));
    cc.addPostComputation(new Finish(self));
}

/** Decide what is always gathered, the QM atoms first, and what the device looks for. */
void CommonCalcQMRegionForceKernel::listParticles(const System& system, const QMRegionForce& force) {
    vector<int> always = force.getParticles();
    set<int> seen(always.begin(), always.end());
    auto list = [&] (int particle) {
        if (seen.insert(particle).second)
            always.push_back(particle);
    };
    numQM = always.size();
    for (int i = 0; i < force.getNumLinkAtoms(); i++) {
        int qmParticle, mmParticle;
        double distance;
        force.getLinkAtomParameters(i, qmParticle, mmParticle, distance);
        list(mmParticle);
    }
    for (int i = 0; i < force.getNumVirtualCharges(); i++) {
        vector<int> particles;
        vector<double> weights;
        double charge;
        int atomicNumber;
        force.getVirtualChargeParameters(i, particles, weights, charge, atomicNumber);
        for (int particle : particles)
            list(particle);
    }
    // Where the device wraps molecules that the force does not, distances on the device mean nothing.
    bool canSelect = (force.usesPeriodicBoundaryConditions() || !system.usesPeriodicBoundaryConditions());
    groupOf.assign(system.getNumParticles(), -1);
    vector<int> groupCenters, groupFirst, groupMembers;
    for (int i = 0; i < force.getNumEmbeddingGroups(); i++) {
        vector<int> particles;
        int center;
        bool isSwitched;
        force.getEmbeddingGroupParameters(i, particles, center, isSwitched);
        if (isSwitched && canSelect) {
            groupCenters.push_back(center);
            groupFirst.push_back(groupMembers.size());
            groupMembers.insert(groupMembers.end(), particles.begin(), particles.end());
        }
        else
            for (int particle : particles)
                list(particle);
        for (int particle : particles)
            groupOf[particle] = i;
    }
    groupFirst.push_back(groupMembers.size());
    for (int i = 0; i < force.getNumEmbeddingCharges(); i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        if (groupOf[particle] == -1)
            list(particle);
    }
    numFixed = always.size();
    numGroups = groupCenters.size();
    fixed.initialize<int>(cc, numFixed, "kstepFixed");
    fixed.upload(always);
    int capacity = numFixed+min((int) groupMembers.size(), 1024);
    gathered.initialize(cc, capacity, 4*atoms->getMixedSize(), "kstepGathered");
    listed.initialize<long long>(cc, 4*capacity, "kstepListedForces");
    if (numGroups > 0) {
        centers.initialize<int>(cc, numGroups, "kstepCenters");
        centers.upload(groupCenters);
        first.initialize<int>(cc, numGroups+1, "kstepFirstMembers");
        first.upload(groupFirst);
        members.initialize<int>(cc, groupMembers.size(), "kstepMembers");
        members.upload(groupMembers);
        count.initialize<long long>(cc, 1, "kstepCount");
    }
}

double CommonCalcQMRegionForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    ContextSelector selector(cc);
    gather();
    isWaiting = true;
    return 0;
}

const vector<Vec3>& CommonCalcQMRegionForceKernel::locateQMRegion(ContextImpl& context) {
    ContextSelector selector(cc);
    gatherFixed();
    gathered.download(found, true);
    readPositions(numFixed);
    return positions;
}

void CommonCalcQMRegionForceKernel::gatherFixed() {
    gatherPositionsKernel->setArg(2, atoms->getOrder());
    gatherPositionsKernel->execute(numFixed);
}

/** Takes positions from what came to the host. */
void CommonCalcQMRegionForceKernel::readPositions(int numGathered) {
    atoms->prepareUnwrapping();
    for (int i = 0; i < numGathered; i++) {
        int particle = (int) found[i].w;
        positions[particle] = Vec3(found[i].x, found[i].y, found[i].z);
        atoms->unwrap(positions[particle], particle);
    }
}

/** Brings the positions of fixed particles, and of groups in reach, to the host. */
void CommonCalcQMRegionForceKernel::gather() {
    int numGathered = numFixed, capacity;
    do {
        capacity = gathered.getSize();
        gatherFixed();
        if (numGroups > 0) {
            cc.clearBuffer(count);
            gatherGroupsKernel->setArg(3, capacity);
            gatherGroupsKernel->setArg(8, atoms->getOrder());
            atoms->setBoxArgs(gatherGroupsKernel, BOX_ARG);
            gatherGroupsKernel->execute(numGroups);
        }
        gathered.download(found, true);
        if (numGroups > 0) {
            count.download(numInReach);
            numGathered = numFixed+numInReach[0];
            if (numGathered > capacity)
                gathered.resize(numGathered+numGathered/4);
        }
    } while (numGathered > capacity);
    readPositions(numGathered);
    groupsInReach.clear();
    for (int i = numFixed; i < numGathered; i++) {
        int group = groupOf[(int) found[i].w];
        // The members of a group were appended together.
        if (groupsInReach.empty() || groupsInReach.back() != group)
            groupsInReach.push_back(group);
    }
    sort(groupsInReach.begin(), groupsInReach.end());
}

double CommonCalcQMRegionForceKernel::finish(bool includeForces) {
    if (!isWaiting)
        return 0;
    isWaiting = false;
    double energy = calculation->computeForce(*contextImpl, positions, numGroups > 0 ? &groupsInReach : NULL, forces);
    if (includeForces)
        addForces();
    return energy;
}

void CommonCalcQMRegionForceKernel::addForces() {
    ContextSelector selector(cc);
    int numListed = forces.particles.size();
    if (numListed == 0)
        return;
    listedForces.resize(4*numListed);
    for (int i = 0; i < numListed; i++) {
        int particle = forces.particles[i];
        const Vec3& f = forces.forces[particle];
        for (int j = 0; j < 3; j++)
            listedForces[4*i+j] = (fabs(f[j]) < MAX_FORCE ? llround(f[j]*FORCE_SCALE) : numeric_limits<long long>::min());
        listedForces[4*i+3] = particle;
    }
    if (4*numListed > (int) listed.getSize())
        listed.resize(4*(numListed+numListed/4));
    // The next gather() waits for the device, so that the numbers stay as long as they are needed.
    listed.uploadSubArray(listedForces.data(), 0, 4*numListed, false);
    addForcesKernel->setArg(0, numListed);
    addForcesKernel->setArg(1, listed);
    addForcesKernel->setArg(2, atoms->getOrder());
    addForcesKernel->execute(numListed);
}
