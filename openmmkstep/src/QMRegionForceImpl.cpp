#include "openmmkstep/internal/QMRegionForceImpl.h"
#include "openmm/OpenMMException.h"
#include <limits>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// Share of half the box that a trial must leave beside cutoff and QM region.
static const double SPARE_ROOM = 0.02;

QMRegionForceImpl::QMRegionForceImpl(const QMRegionForce& owner) : owner(owner), lastEnergy(0), isResultValid(false), isEnergyWanted(false) {
    forceGroup = owner.getForceGroup();
}

void QMRegionForceImpl::initialize(ContextImpl& context) {
    embedding.reset(new Embedding(owner, context.getSystem()));
    for (ForceImpl* impl : context.getForceImpls()) {
        QMRegionForceImpl* other = dynamic_cast<QMRegionForceImpl*>(impl);
        if (other != NULL && other->smallestWidth)
            smallestWidth = other->smallestWidth;
    }
    if (!smallestWidth)
        smallestWidth = make_shared<double>(0.0);
    kernel = context.getPlatform().createKernel(CalcQMRegionForceKernel::Name(), context);
    kernel.getAs<CalcQMRegionForceKernel>().initialize(context, owner, *this);
}

vector<string> QMRegionForceImpl::getKernelNames() {
    return {CalcQMRegionForceKernel::Name()};
}

double QMRegionForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if ((groups & (1<<forceGroup)) == 0)
        return 0;
    isEnergyWanted = includeEnergy;
    return kernel.getAs<CalcQMRegionForceKernel>().execute(context, includeForces, includeEnergy);
}

vector<Vec3> QMRegionForceImpl::locateQMAtoms(ContextImpl& context) {
    return embedding->locateQMAtoms(kernel.getAs<CalcQMRegionForceKernel>().locateQMRegion(context), PeriodicBox::getBox(context));
}

/**
 * Whether this is a barostat's trial that shrinks the box too much: it asks for an energy, and infinity rejects it.
 * Some room must be left, since the QM region vibrates.  Dynamics asks for forces alone.
 */
bool QMRegionForceImpl::isTrial(const PeriodicBox& box) const {
    if (!isEnergyWanted || !box.isPeriodic() || *smallestWidth == 0)
        return false;
    bool isSmaller = (box.getSmallestWidth() < *smallestWidth);
    return (embedding->getBoxMargin() < (isSmaller ? 0.5*SPARE_ROOM*(*smallestWidth) : 0));
}

string QMRegionForceImpl::describeSmallBox(double half) const {
    double cutoff = owner.getCutoffDistance();
    stringstream message;
    message << "The periodic box is too small for the embedding: the cutoff (" << cutoff << " nm) plus the radius of the QM region ("
            << half-cutoff-embedding->getBoxMargin() << " nm) must be at most half of the box's smallest width (" << half
            << " nm).  Use a larger box or a smaller cutoff, or check whether the QM region has fallen apart.";
    return message.str();
}

double QMRegionForceImpl::computeForce(ContextImpl& context, const vector<Vec3>& positions, const vector<int>* groupsInReach, ParticleForces& forces) {
    // Callers, integrators among them, expect OpenMMException or one derived from it.
    try {
        const PeriodicBox box = PeriodicBox::getBox(context);
        if (embedding->setPositions(positions, box, groupsInReach))
            isResultValid = false;
        if (isTrial(box)) {
            isResultValid = false;
            forces.clear();
            return numeric_limits<double>::infinity();
        }
        if (embedding->getBoxMargin() < 0) {
            isResultValid = false;
            throw OpenMMException(describeSmallBox(0.5*box.getSmallestWidth()));
        }
        if (box.isPeriodic())
            *smallestWidth = box.getSmallestWidth();
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
    for (int i = 0; i < owner.getNumLinkAtoms(); i++) {
        int qmParticle, mmParticle;
        double distance;
        owner.getLinkAtomParameters(i, qmParticle, mmParticle, distance);
        bonds.push_back({qmParticle, mmParticle});
    }
    return bonds;
}

void QMRegionForceImpl::updateParametersInContext(ContextImpl& context) {
    embedding->updateCharges(owner);
    isResultValid = false;
    context.systemChanged();
}
