#include "openmmkstep/internal/XtbForceImpl.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

XtbForceImpl::XtbForceImpl(const XtbForce& owner) : QMRegionForceImpl(owner) {
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
    calculator.reset(new XtbCalculator(force));
}

double XtbForceImpl::compute(Embedding& embedding) {
    return calculator->compute(embedding)+embedding.computeSubtractiveTerm();
}

void XtbForceImpl::dropWarmStart() {
    calculator->dropWarmStart();
    discardResult();
}

vector<double> XtbForceImpl::getPartialCharges(ContextImpl& context) {
    vector<Vec3> positions, forces(context.getSystem().getNumParticles());
    context.getPositions(positions);
    computeForce(context, positions, forces);
    return calculator->getPartialCharges();
}
