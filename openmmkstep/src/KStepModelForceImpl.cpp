#include "openmmkstep/internal/KStepModelForceImpl.h"
#include "openmmkstep/XtbForce.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <tuple>

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
    model->prepare(contract, force.getNumThreads(), force.getDevice());
}

/** Link atoms as a sorted list: their order is each force's own. */
static vector<tuple<int, int, double> > getLinkAtoms(const QMRegionForce& force) {
    vector<tuple<int, int, double> > atoms;
    for (int i = 0; i < force.getNumLinkAtoms(); i++) {
        int qmParticle, mmParticle;
        double distance;
        force.getLinkAtomParameters(i, qmParticle, mmParticle, distance);
        atoms.push_back(make_tuple(qmParticle, mmParticle, distance));
    }
    sort(atoms.begin(), atoms.end());
    return atoms;
}

void KStepModelForceImpl::checkContract(const System& system) const {
    if (contract.kind != "potential")
        throw OpenMMException("KStepModelForce: expected a model of kind 'potential', found '"+contract.kind+"'.");
    int numParticles = force.getNumParticles(), numLinkAtoms = force.getNumLinkAtoms();
    if ((int) contract.species.size() != numParticles+numLinkAtoms)
        throw OpenMMException("KStepModelForce: the model is for "+to_string(contract.species.size())+" atoms, but the QM region has "+to_string(numParticles+numLinkAtoms)+(numLinkAtoms > 0 ? " including "+to_string(numLinkAtoms)+" link atoms" : "")+".  Use a model that was trained for this molecule.");
    for (double d : contract.dampingLengths)
        if (!(d > 0) || !isfinite(d))
            throw OpenMMException("KStepModelForce: the damping lengths in the model's contract must be positive.");
    int numCharges = force.getNumEmbeddingCharges()+force.getNumVirtualCharges();
    if (!contract.hasPotentialInput && numCharges > 0)
        throw OpenMMException("KStepModelForce: the model takes no potential (phi) input, so it cannot see the "+to_string(numCharges)+" embedding charges of this force.  Use a model with phi input or add no embedding charges.");
    for (int i = 0; i < numCharges && contract.hardnessElement != 0; i++) {
        int particle, atomicNumber, numReal = force.getNumEmbeddingCharges();
        double charge;
        vector<int> particles;
        vector<double> weights;
        if (i < numReal)
            force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        else
            force.getVirtualChargeParameters(i-numReal, particles, weights, charge, atomicNumber);
        if (atomicNumber != contract.hardnessElement)
            throw OpenMMException("KStepModelForce: the model was trained with hardness element "+to_string(contract.hardnessElement)+" for the embedding charges, but "+(i < numReal ? "charge "+to_string(i) : "virtual charge "+to_string(i-numReal))+" has "+to_string(atomicNumber)+".  Use the same in addEmbeddingCharge() and addVirtualCharge().");
    }
    for (int i = 0; i < system.getNumForces(); i++) {
        const XtbForce* xtb = dynamic_cast<const XtbForce*>(&system.getForce(i));
        if (xtb != NULL && xtb->getForceGroup() == force.getCorrectorForceGroup() && getLinkAtoms(*xtb) != getLinkAtoms(force))
            throw OpenMMException("KStepModelForce: the model and the XtbForce it stands in for have different link atoms.  Add the same ones to both.");
    }
    contract.checkCorrector(system, force.getCorrectorForceGroup(), force.getParticles(), "KStepModelForce");
}

double KStepModelForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if (standsIn && (groups & (1<<force.getCorrectorForceGroup())) != 0)
        return 0;
    return QMRegionForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
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

bool KStepModelForceImpl::isOutsideTrainingRegion(ContextImpl& context) {
    if (contract.distanceRanges.empty())
        return false;
    return contract.isOutsideTrainingRegion(locateQMAtoms(context));
}
