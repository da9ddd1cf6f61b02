#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/XtbForce.h"
#include "openmmkstep/internal/PeriodicBox.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

// Whether h is near a resonance of the impulse with a bond to hydrogen that mollification does not reset.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// The resonance is at half a period.  Measured: 0.21 periods (2 fs, true masses) and 0.27 (4 fs, 3 u) are right, 0.40 to
// 0.43 (6 fs with 3 u, 4 fs with true masses) drift or explode, the sooner the poorer the model.
static const double WARN_FROM = 0.28, REFUSE_FROM = 0.35;
static const double LIGHT_MASS = 4.5, LONGEST_BOND = 0.13, DISPLACEMENT = 0.0005;

/**
 * The particles of the System's QM regions, with whether they can be hydrogen.
 */
static map<int, bool> findRegion(const System& system) {
    map<int, bool> region;
    for (int i = 0; i < system.getNumForces(); i++)
        if (const QMRegionForce* force = dynamic_cast<const QMRegionForce*>(&system.getForce(i)))
            for (int particle : force->getParticles())
                region.insert({particle, system.getParticleMass(particle) > 0 && system.getParticleMass(particle) < LIGHT_MASS});
    for (int i = 0; i < system.getNumForces(); i++)
        if (const XtbForce* xtb = dynamic_cast<const XtbForce*>(&system.getForce(i)))
            for (int j = 0; j < xtb->getNumParticles(); j++)
                if (xtb->getAtomicNumbers()[j] != 1)
                    region[xtb->getParticles()[j]] = false;
    return region;
}

/**
 * Find the bonds to hydrogens that neither mollification nor a constraint holds, and the periods of their stretches,
 * from central differences of the forces that the inner steps run on (without a model: of those that the impulses
 * bring).
 */
void KStepIntegrator::findLightBonds() {
    lightBonds.clear();
    const System& system = context->getSystem();
    map<int, bool> region = findRegion(system);
    set<pair<int, int> > held;
    for (const MollifiedBond& bond : mollification)
        held.insert(minmax(bond.particle1, bond.particle2));
    for (int i = 0; i < system.getNumConstraints(); i++) {
        int particle1, particle2;
        double distance;
        system.getConstraintParameters(i, particle1, particle2, distance);
        held.insert(minmax(particle1, particle2));
    }
    vector<Vec3> positions;
    context->getPositions(positions);
    const PeriodicBox box = PeriodicBox::getBox(*context);
    for (auto& light : region) {
        if (!light.second)
            continue;
        LightBond bond = {light.first, -1, 0};
        double nearest = LONGEST_BOND;
        for (auto& heavy : region) {
            Vec3 delta = box.getImage(positions[heavy.first]-positions[light.first]);
            double r = sqrt(delta.dot(delta));
            if (system.getParticleMass(heavy.first) > system.getParticleMass(light.first) && r < nearest) {
                bond.heavy = heavy.first;
                nearest = r;
            }
        }
        if (bond.heavy != -1 && held.count(minmax(bond.light, bond.heavy)) == 0)
            lightBonds.push_back(bond);
    }
    if (lightBonds.empty())
        return;
    int groups = getCommonGroups() | (1<<(hasModel ? modelForceGroup : correctorForceGroup));
    getKernel().saveState(*context);
    try {
        for (LightBond& bond : lightBonds) {
            Vec3 u = box.getImage(positions[bond.light]-positions[bond.heavy]);
            u /= sqrt(u.dot(u));
            double forceConstant = 0;
            for (int sign : {-1, 1}) {
                vector<Vec3> displaced = positions, forces;
                displaced[bond.light] += u*(sign*DISPLACEMENT);
                context->setPositions(displaced);
                context->calcForcesAndEnergy(true, false, groups);
                statistics.correctorCalls += !hasModel;
                context->getForces(forces);
                forceConstant -= sign*u.dot(forces[bond.light])/(2*DISPLACEMENT);
            }
            double inverseMass = 1/system.getParticleMass(bond.light)+1/system.getParticleMass(bond.heavy);
            bond.period = (forceConstant > 0 ? 2*M_PI/sqrt(forceConstant*inverseMass) : HUGE_VAL);
        }
        getKernel().restoreState(*context, 1);
    }
    catch (...) {
        lightBonds.clear();
        restoreAfterError([&] { getKernel().restoreState(*context, 1); });
        throw;
    }
    if (!hasModel)
        forgetHistory(); // a restart must not depend on the corrector calls made here
}

/**
 * Refuse a macro-step near a resonance, or warn of one that is not far from it; once for each Context and h.
 */
void KStepIntegrator::checkResonance() {
    double h = getStepSize();
    if (scheme != "impulse" || allowResonance || k == 1 || h == resonanceCheckedFor)
        return;
    if (resonanceCheckedFor == 0)
        findLightBonds();
    const LightBond* fastest = NULL;
    for (const LightBond& bond : lightBonds)
        if (fastest == NULL || bond.period < fastest->period)
            fastest = &bond;
    if (fastest != NULL && h >= WARN_FROM*fastest->period) {
        int largestK = max(1, (int) (WARN_FROM*fastest->period/baseStepSize));
        stringstream text;
        text.precision(3);
        text << "KStepIntegrator: the macro-step of " << 1e3*h << " fs is " << h/fastest->period << " of the period of the bond between particles " << fastest->heavy << " and " << fastest->light << " (" << 1e3*fastest->period << " fs).  The impulse is in resonance with it at half a period, gains energy around it, and is reliable below " << WARN_FROM << " periods.  Reset this bond and its like with setMollification() (findMollification() in Python makes the list), or take a smaller k (" << largestK << " here), or call setAllowResonance(true) to run nevertheless.";
        if (h >= REFUSE_FROM*fastest->period)
            throw OpenMMException(text.str());
        cerr << "Warning: " << text.str() << endl;
    }
    resonanceCheckedFor = h;
}
