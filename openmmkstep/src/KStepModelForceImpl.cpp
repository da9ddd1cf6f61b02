#include "openmmkstep/internal/KStepModelForceImpl.h"
#include "openmmkstep/XtbForce.h"
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
    model = KStepModel::load(force.getModelData());
    contract = ModelContract::parse(model->getContractText());
    checkContract(system);
    model->prepare(contract, force.getNumThreads());
}

static string describe(const vector<int>& numbers) {
    string text;
    for (int number : numbers)
        text += (text.empty() ? "" : " ")+to_string(number);
    return text;
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
    for (int i = 0; i < system.getNumForces(); i++) {
        const XtbForce* xtb = dynamic_cast<const XtbForce*>(&system.getForce(i));
        if (xtb == NULL || xtb->getForceGroup() != force.getCorrectorForceGroup())
            continue;
        if (xtb->getParticles() != force.getParticles())
            throw OpenMMException("KStepModelForce: the model and the XtbForce it stands in for act on different particles, or list them in a different order.");
        if (xtb->getAtomicNumbers() != contract.species)
            throw OpenMMException("KStepModelForce: expected a model for the elements "+describe(xtb->getAtomicNumbers())+" (those of the XtbForce), found one for "+describe(contract.species)+".  The order of the atoms must be the same.");
        if (xtb->getCharge() != contract.charge || xtb->getMultiplicity() != contract.multiplicity)
            throw OpenMMException("KStepModelForce: expected a model for charge "+to_string(xtb->getCharge())+" and multiplicity "+to_string(xtb->getMultiplicity())+" (those of the XtbForce), found one for "+to_string(contract.charge)+" and "+to_string(contract.multiplicity)+".");
    }
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
    const vector<int>& particles = force.getParticles();
    for (const ModelContract::DistanceRange& range : contract.distanceRanges) {
        Vec3 delta = positions[particles[range.atom1]]-positions[particles[range.atom2]];
        double distance = sqrt(delta.dot(delta));
        if (!(distance >= range.min && distance <= range.max))
            return true;
    }
    return false;
}
