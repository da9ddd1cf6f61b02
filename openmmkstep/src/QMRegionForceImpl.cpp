#include "openmmkstep/internal/QMRegionForceImpl.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

QMRegionForceImpl::QMRegionForceImpl(const QMRegionForce& owner) : CustomCPPForceImpl(owner), owner(owner), lastEnergy(0), isResultValid(false) {
}

void QMRegionForceImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    embedding.reset(new Embedding(owner, context.getSystem()));
}

double QMRegionForceImpl::computeForce(ContextImpl& context, const vector<Vec3>& positions, vector<Vec3>& forces) {
    // OpenMM's worker threads pass on nothing but OpenMMException.
    try {
        if (embedding->setPositions(positions))
            isResultValid = false;
        if (!isResultValid) {
            embedding->clearForces();
            lastEnergy = compute(*embedding);
            isResultValid = true;
        }
        embedding->scatterForces(forces);
        return lastEnergy;
    }
    catch (const OpenMMException&) {
        isResultValid = false;
        throw;
    }
    catch (const exception& e) {
        isResultValid = false;
        throw OpenMMException(e.what());
    }
}

vector<pair<int, int> > QMRegionForceImpl::getBondedParticles() const {
    const vector<int>& particles = owner.getParticles();
    vector<pair<int, int> > bonds;
    for (size_t i = 1; i < particles.size(); i++)
        bonds.push_back({particles[0], particles[i]});
    return bonds;
}

void QMRegionForceImpl::updateParametersInContext(ContextImpl& context) {
    embedding->updateCharges(owner);
    isResultValid = false;
    context.systemChanged();
}
