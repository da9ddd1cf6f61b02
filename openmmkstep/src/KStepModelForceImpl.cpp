#include "openmmkstep/internal/KStepModelForceImpl.h"
#include "openmm/OpenMMException.h"
#include <cmath>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepModelForceImpl::KStepModelForceImpl(const KStepModelForce& owner) : QMRegionForceImpl(owner), force(owner), standsIn(false) {
}

void KStepModelForceImpl::initialize(ContextImpl& context) {
    QMRegionForceImpl::initialize(context);
    const System& system = context.getSystem();
    for (int i = 0; i < system.getNumForces(); i++)
        standsIn |= (system.getForce(i).getForceGroup() == force.getCorrectorForceGroup());
    if (force.getForceGroup() == force.getCorrectorForceGroup())
        throw OpenMMException("KStepModelForce: the force is in the corrector's force group ("+to_string(force.getForceGroup())+").  Put it in a group of its own, 2 by convention.");
    model = KStepModel::load(force.getModelData(), "KStepModelForce");
    contract = ModelContract::parse(model->getContractText(), "KStepModelForce");
    checkContract(system);
    model->prepare(contract, force.getNumThreads());
}

void KStepModelForceImpl::checkContract(const System& system) const {
    if (contract.kind != "potential")
        throw OpenMMException("KStepModelForce: expected a model of kind 'potential', found '"+contract.kind+"'.");
    int numParticles = force.getNumParticles();
    if ((int) contract.species.size() != numParticles)
        throw OpenMMException("KStepModelForce: the model is for "+to_string(contract.species.size())+" atoms, but the QM region has "+to_string(numParticles)+".  Use a model that was trained for this molecule.");
    for (double d : contract.dampingLengths)
        if (!(d > 0) || !isfinite(d))
            throw OpenMMException("KStepModelForce: the damping lengths in the model's contract must be positive.");
    if (!contract.hasPotentialInput && force.getNumEmbeddingCharges() > 0)
        throw OpenMMException("KStepModelForce: the model takes no potential (phi) input, so it cannot see the "+to_string(force.getNumEmbeddingCharges())+" embedding charges of this force.  Use a model with phi input or add no embedding charges.");
    for (int i = 0; i < force.getNumEmbeddingCharges() && contract.hardnessElement != 0; i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        if (atomicNumber != contract.hardnessElement)
            throw OpenMMException("KStepModelForce: the model was trained with hardness element "+to_string(contract.hardnessElement)+" for the embedding charges, but charge "+to_string(i)+" has "+to_string(atomicNumber)+".  Use the same in addEmbeddingCharge().");
    }
    contract.checkCorrector(system, force.getCorrectorForceGroup(), force.getParticles(), "KStepModelForce");
}

double KStepModelForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if (standsIn && (groups & (1<<force.getCorrectorForceGroup())) != 0)
        return 0;
    return CustomCPPForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
}

double KStepModelForceImpl::compute(Embedding& embedding) {
    if (contract.hasPotentialInput)
        embedding.computePotential(contract.dampingLengths, potential);
    double energy = model->compute(embedding.getQMPositions(), potential, modelForces, charges);
    for (size_t i = 0; i < modelForces.size(); i++)
        embedding.getQMForces()[i] += modelForces[i];
    if (contract.hasPotentialInput)
        embedding.addPotentialForces(contract.dampingLengths, charges);
    return energy+embedding.computeSubtractiveTerm();
}

bool KStepModelForceImpl::isOutsideTrainingRegion(ContextImpl& context) const {
    if (contract.distanceRanges.empty())
        return false;
    vector<Vec3> positions;
    context.getPositions(positions);
    vector<Vec3> qmPositions;
    for (int particle : force.getParticles())
        qmPositions.push_back(positions[particle]);
    return contract.isOutsideTrainingRegion(qmPositions);
}
