#include "ReferenceCalcQMRegionForceKernel.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/reference/ReferencePlatform.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

void ReferenceCalcQMRegionForceKernel::initialize(ContextImpl& context, const QMRegionForce& force, Calculation& calculation) {
    this->calculation = &calculation;
    forces.forces.resize(context.getSystem().getNumParticles());
}

static ReferencePlatform::PlatformData& getData(ContextImpl& context) {
    return *reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
}

double ReferenceCalcQMRegionForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    double energy = calculation->computeForce(context, *getData(context).positions, NULL, forces);
    if (includeForces)
        for (int particle : forces.particles)
            (*getData(context).forces)[particle] += forces.forces[particle];
    return energy;
}

const vector<Vec3>& ReferenceCalcQMRegionForceKernel::locateQMRegion(ContextImpl& context) {
    return *getData(context).positions;
}
