#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/QMRegionForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/AssertionUtilities.h"
#include <set>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

QMRegionForce::QMRegionForce(const vector<int>& particles) : particles(particles), fixedCharges(particles.size(), 0.0) {
    if (particles.empty())
        throw OpenMMException("The QM region must have at least one particle.");
    if (set<int>(particles.begin(), particles.end()).size() != particles.size())
        throw OpenMMException("A particle occurs twice in the list of the QM region's particles.");
}

static void checkEmbeddingCharge(int atomicNumber) {
    if (atomicNumber < 1 || atomicNumber > 86)
        throw OpenMMException("The hardness element of an embedding charge must be an atomic number from 1 to 86, found "+to_string(atomicNumber)+".");
}

int QMRegionForce::addEmbeddingCharge(int particle, double charge, int atomicNumber) {
    checkEmbeddingCharge(atomicNumber);
    charges.push_back({particle, charge, atomicNumber});
    return charges.size()-1;
}

void QMRegionForce::getEmbeddingChargeParameters(int index, int& particle, double& charge, int& atomicNumber) const {
    ASSERT_VALID_INDEX(index, charges);
    particle = charges[index].particle;
    charge = charges[index].charge;
    atomicNumber = charges[index].atomicNumber;
}

void QMRegionForce::setEmbeddingChargeParameters(int index, int particle, double charge, int atomicNumber) {
    ASSERT_VALID_INDEX(index, charges);
    checkEmbeddingCharge(atomicNumber);
    charges[index] = {particle, charge, atomicNumber};
}

double QMRegionForce::getFixedCharge(int index) const {
    ASSERT_VALID_INDEX(index, fixedCharges);
    return fixedCharges[index];
}

void QMRegionForce::setFixedCharge(int index, double charge) {
    ASSERT_VALID_INDEX(index, fixedCharges);
    fixedCharges[index] = charge;
}

void QMRegionForce::updateParametersInContext(Context& context) {
    dynamic_cast<QMRegionForceImpl&>(getImplInContext(context)).updateParametersInContext(getContextImpl(context));
}
