#include "openmmkstep/internal/XtbForceImpl.h"
#include "openmm/OpenMMException.h"
#include <cmath>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

XtbForceImpl::XtbForceImpl(const XtbForce& owner) : QMRegionForceImpl(owner), xtbEnergy(0) {
}

void XtbForceImpl::initialize(ContextImpl& context) {
    QMRegionForceImpl::initialize(context);
    const XtbForce& force = dynamic_cast<const XtbForce&>(owner);
    if (force.getMethod() == "GFN-FF" && force.getNumEmbeddingCharges()+force.getNumVirtualCharges() > 0)
        throw OpenMMException("XtbForce: GFN-FF cannot be embedded in point charges; use GFN1-xTB or GFN2-xTB, or no embedding charges.");
    // With the link atoms, which the constructor of XtbForce does not know.
    int electrons = force.getNumLinkAtoms()-force.getCharge(), multiplicity = force.getMultiplicity();
    for (int number : force.getAtomicNumbers())
        electrons += number;
    if (electrons < multiplicity-1 || (electrons-(multiplicity-1))%2 != 0)
        throw OpenMMException("XtbForce: "+to_string(electrons)+" electrons (charge "+to_string(force.getCharge())+(force.getNumLinkAtoms() > 0 ? ", link hydrogens included" : "")+") cannot have multiplicity "+to_string(multiplicity)+".  Check the charge, the multiplicity and whether hydrogens are missing.");
    calculator = XtbCalculator::create(force);
}

double XtbForceImpl::compute(Embedding& embedding) {
    xtbEnergy = calculator->compute(embedding);
    xtbForces = embedding.getQMForces();
    return xtbEnergy+embedding.computeSubtractiveTerm();
}

void XtbForceImpl::dropWarmStart() {
    calculator->dropWarmStart();
    discardResult();
}

void XtbForceImpl::computeAtCurrentPositions(ContextImpl& context) {
    vector<Vec3> positions;
    ParticleForces forces;
    forces.forces.resize(context.getSystem().getNumParticles());
    context.getPositions(positions);
    if (!isfinite(computeForce(context, positions, NULL, forces)))
        throw OpenMMException("XtbForce: the periodic box is too small for the embedding at the current positions.");
}

vector<double> XtbForceImpl::getPartialCharges(ContextImpl& context) {
    computeAtCurrentPositions(context);
    return calculator->getPartialCharges();
}

void XtbForceImpl::computeQMRegion(ContextImpl& context, const vector<double>& dampingLengths, vector<Vec3>& positions, double& energy,
                                   vector<Vec3>& forces, vector<double>& charges, vector<double>& potentials, vector<Vec3>& potentialGradients) {
    size_t numAtoms = owner.getNumParticles()+owner.getNumLinkAtoms();
    bool isEmbedded = (owner.getNumEmbeddingCharges()+owner.getNumVirtualCharges() > 0);
    if (dampingLengths.size() != numAtoms && (isEmbedded || !dampingLengths.empty()))
        throw OpenMMException("XtbForce: expected a damping length for each of the "+to_string(numAtoms)+" QM atoms, link atoms included, found "+to_string(dampingLengths.size())+".");
    for (double d : dampingLengths)
        if (!(d > 0) || !isfinite(d))
            throw OpenMMException("XtbForce: damping lengths must be positive.");
    computeAtCurrentPositions(context);
    positions = embedding->getQMPositions();
    energy = xtbEnergy;
    forces = xtbForces;
    if (dynamic_cast<const XtbForce&>(owner).getMethod() == "GFN-FF")
        charges.assign(numAtoms, 0.0);
    else
        charges = calculator->getPartialCharges();
    potentials.assign(numAtoms, 0.0);
    potentialGradients.assign(numAtoms, Vec3());
    if (isEmbedded)
        embedding->computePotential(dampingLengths, potentials, potentialGradients);
}
