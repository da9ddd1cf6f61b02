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
    if (force.getMethod() == "GFN-FF" && force.getNumEmbeddingCharges() > 0)
        throw OpenMMException("XtbForce: GFN-FF cannot be embedded in point charges; use GFN1-xTB or GFN2-xTB, or no embedding charges.");
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
