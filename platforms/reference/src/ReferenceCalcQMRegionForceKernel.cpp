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

double ReferenceCalcQMRegionForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    auto& data = *reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
    double energy = calculation->computeForce(context, *data.positions, NULL, forces);
    if (includeForces)
        for (int particle : forces.particles)
            (*data.forces)[particle] += forces.forces[particle];
    return energy;
}
