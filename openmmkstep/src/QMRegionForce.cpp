#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/QMRegionForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/AssertionUtilities.h"
#include <cmath>
#include <set>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

QMRegionForce::QMRegionForce(const vector<int>& particles) : particles(particles), fixedCharges(particles.size(), 0.0),
        cutoffDistance(0), switchingDistance(0), periodic(false) {
    if (particles.empty())
        throw OpenMMException("The QM region must have at least one particle.");
    if (set<int>(particles.begin(), particles.end()).size() != particles.size())
        throw OpenMMException("A particle occurs twice in the list of the QM region's particles.");
}

static void checkHardnessElement(int atomicNumber) {
    if (atomicNumber < 1 || atomicNumber > 86)
        throw OpenMMException("The hardness element of an embedding charge must be an atomic number from 1 to 86, found "+to_string(atomicNumber)+".");
}

int QMRegionForce::addLinkAtom(int qmParticle, int mmParticle, double distance) {
    if (!(distance > 0) || !isfinite(distance))
        throw OpenMMException("The distance of a link atom from its QM particle must be a positive number of nm.");
    linkAtoms.push_back({qmParticle, mmParticle, distance});
    return linkAtoms.size()-1;
}

void QMRegionForce::getLinkAtomParameters(int index, int& qmParticle, int& mmParticle, double& distance) const {
    ASSERT_VALID_INDEX(index, linkAtoms);
    qmParticle = linkAtoms[index].qmParticle;
    mmParticle = linkAtoms[index].mmParticle;
    distance = linkAtoms[index].distance;
}

int QMRegionForce::addEmbeddingCharge(int particle, double charge, int atomicNumber) {
    checkHardnessElement(atomicNumber);
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
    checkHardnessElement(atomicNumber);
    charges[index] = {particle, charge, atomicNumber};
}

int QMRegionForce::addVirtualCharge(const vector<int>& particles, const vector<double>& weights, double charge, int atomicNumber) {
    checkHardnessElement(atomicNumber);
    if (particles.empty() || particles.size() != weights.size())
        throw OpenMMException("A virtual charge needs at least one particle and as many weights as particles, found "+to_string(particles.size())+" and "+to_string(weights.size())+".");
    double sum = 0;
    for (double weight : weights)
        sum += weight;
    if (!(fabs(sum-1) < 1e-10))
        throw OpenMMException("The weights of a virtual charge must add up to 1, found "+to_string(sum)+".");
    virtualCharges.push_back({particles, weights, charge, atomicNumber});
    return virtualCharges.size()-1;
}

void QMRegionForce::getVirtualChargeParameters(int index, vector<int>& particles, vector<double>& weights, double& charge, int& atomicNumber) const {
    ASSERT_VALID_INDEX(index, virtualCharges);
    particles = virtualCharges[index].particles;
    weights = virtualCharges[index].weights;
    charge = virtualCharges[index].charge;
    atomicNumber = virtualCharges[index].atomicNumber;
}

void QMRegionForce::setVirtualCharge(int index, double charge) {
    ASSERT_VALID_INDEX(index, virtualCharges);
    virtualCharges[index].charge = charge;
}

int QMRegionForce::addException(int qmParticle, int mmParticle, double chargeProduct) {
    exceptions.push_back({qmParticle, mmParticle, chargeProduct});
    return exceptions.size()-1;
}

void QMRegionForce::getExceptionParameters(int index, int& qmParticle, int& mmParticle, double& chargeProduct) const {
    ASSERT_VALID_INDEX(index, exceptions);
    qmParticle = exceptions[index].qmParticle;
    mmParticle = exceptions[index].mmParticle;
    chargeProduct = exceptions[index].chargeProduct;
}

void QMRegionForce::setExceptionParameters(int index, int qmParticle, int mmParticle, double chargeProduct) {
    ASSERT_VALID_INDEX(index, exceptions);
    exceptions[index] = {qmParticle, mmParticle, chargeProduct};
}

int QMRegionForce::addEmbeddingGroup(const vector<int>& particles, int center, bool switched) {
    if (particles.empty())
        throw OpenMMException("An embedding group must have at least one particle.");
    if (center != -1 && set<int>(particles.begin(), particles.end()).count(center) == 0)
        throw OpenMMException("The center of an embedding group must be one of its particles, or -1 for their centroid; found "+to_string(center)+".");
    groups.push_back({particles, center, switched});
    return groups.size()-1;
}

void QMRegionForce::getEmbeddingGroupParameters(int index, vector<int>& particles, int& center, bool& switched) const {
    ASSERT_VALID_INDEX(index, groups);
    particles = groups[index].particles;
    center = groups[index].center;
    switched = groups[index].switched;
}

void QMRegionForce::setCutoffDistance(double distance) {
    if (!(distance >= 0) || !isfinite(distance))
        throw OpenMMException("The cutoff distance must be a positive number of nm, or 0 for no cutoff.");
    cutoffDistance = distance;
}

void QMRegionForce::setSwitchingDistance(double distance) {
    if (!(distance >= 0) || !isfinite(distance))
        throw OpenMMException("The switching distance must not be negative (nm).");
    switchingDistance = distance;
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
