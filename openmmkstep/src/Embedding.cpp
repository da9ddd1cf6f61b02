#include "openmmkstep/internal/Embedding.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const double MIN_DISTANCE = 1e-3; // nm

static bool areIdentical(const vector<Vec3>& a, const vector<Vec3>& b) {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size()*sizeof(Vec3)) == 0);
}

bool Embedding::Geometry::operator==(const Geometry& other) const {
    if (numWhole != other.numWhole || images.size() != other.images.size() || charges != other.charges)
        return false;
    for (size_t i = numWhole; i < images.size(); i++)
        if (images[i].factor != other.images[i].factor || images[i].center != other.images[i].center)
            return false;
    return areIdentical(qm, other.qm) && areIdentical(linkBonds, other.linkBonds) && areIdentical(mm, other.mm);
}

/** Bring the QM region into one piece and place the link atoms. */
void Embedding::locateQMRegion(const vector<Vec3>& positions, const PeriodicBox& box, Geometry& geometry) const {
    vector<Vec3>& x = geometry.qm;
    x.clear();
    for (int particle : qmParticles) {
        x.push_back(positions[particle]);
        if (!isfinite(x.back()[0]) || !isfinite(x.back()[1]) || !isfinite(x.back()[2]))
            throw OpenMMException("The position of particle "+to_string(particle)+" is NaN or infinite.");
    }
    box.makeWhole(x);
    geometry.linkBonds.clear();
    for (const LinkAtom& link : linkAtoms) {
        Vec3 bond = box.getImage(positions[link.particle]-x[link.qm]);
        double r = sqrt(bond.dot(bond));
        if (!(r > MIN_DISTANCE) || !isfinite(r))
            throw OpenMMException("The ends of the cut bond between particles "+to_string(qmParticles[link.qm])+" and "+to_string(link.particle)+" are in one place or not finite.");
        geometry.linkBonds.push_back(bond);
        x.push_back(x[link.qm]+bond*(link.distance/r));
    }
}

vector<Vec3> Embedding::locateQMAtoms(const vector<Vec3>& positions, const PeriodicBox& box) const {
    Geometry geometry;
    locateQMRegion(positions, isPeriodic ? box : PeriodicBox(), geometry);
    return geometry.qm;
}

Vec3 Embedding::locateVirtualCharge(const VirtualCharge& v, const vector<Vec3>& positions, const Geometry& geometry) const {
    Vec3 x;
    for (size_t i = 0; i < v.particles.size(); i++) {
        if (v.qm[i] != -1)
            x += geometry.qm[v.qm[i]]*v.weights[i];
        else
            x += (v.image[i] == -1 ? positions[v.particles[i]] : located[v.image[i]][v.place[i]])*v.weights[i];
    }
    return x;
}

/** Find the charges that are seen, and where. */
void Embedding::findCharges(const vector<Vec3>& positions, const PeriodicBox& box, const vector<int>* groupsInReach, Geometry& geometry) {
    qmParticlePositions.assign(geometry.qm.begin(), geometry.qm.begin()+qmParticles.size());
    Vec3 centroid;
    for (const Vec3& x : qmParticlePositions)
        centroid += x;
    centroid /= qmParticlePositions.size();
    double radius2 = 0;
    for (const Vec3& x : qmParticlePositions) {
        Vec3 delta = x-centroid;
        radius2 = max(radius2, delta.dot(delta));
    }
    geometry.mm.clear();
    geometry.charges.clear();
    geometry.images.clear();
    geometry.numWhole = 0;
    boxMargin = numeric_limits<double>::infinity();
    if (box.isPeriodic() && groups.getNumGroups() > 0)
        boxMargin = 0.5*box.getSmallestWidth()-groups.getCutoff()-sqrt(radius2);
    if (boxMargin < 0)
        return;
    if (groups.getNumGroups() > 0)
        geometry.numWhole = groups.select(positions, box, qmParticlePositions, centroid, sqrt(radius2), groupsInReach, geometry.images);
    geometry.mm.resize(virtualCharges.size());
    for (int i : ungrouped) {
        geometry.mm.push_back(positions[chargeParticles[i]]);
        geometry.charges.push_back(i);
    }
    for (size_t i = 0; i < geometry.images.size(); i++) {
        // The groups that are not switched come first, and virtual charges depend on where their particles are.
        vector<Vec3>& x = located[min(i, located.size()-1)];
        groups.locateParticles(geometry.images[i], positions, box, x);
        for (const GroupCharge& member : chargesOfGroup[geometry.images[i].group]) {
            geometry.mm.push_back(x[member.place]);
            geometry.charges.push_back(member.charge);
        }
    }
    for (size_t v = 0; v < virtualCharges.size(); v++)
        geometry.mm[v] = locateVirtualCharge(virtualCharges[v], positions, geometry);
    checkFinite(geometry);
}

void Embedding::checkFinite(const Geometry& geometry) const {
    for (size_t j = 0; j < geometry.mm.size(); j++) {
        const Vec3& x = geometry.mm[j];
        if (!isfinite(x[0]) || !isfinite(x[1]) || !isfinite(x[2])) {
            bool isVirtual = (j < virtualCharges.size());
            int particle = (isVirtual ? virtualCharges[j].particles[0] : chargeParticles[geometry.charges[j-virtualCharges.size()]]);
            throw OpenMMException("The position of particle "+to_string(particle)+" is NaN or infinite.");
        }
    }
}

bool Embedding::setPositions(const vector<Vec3>& positions, const PeriodicBox& actualBox, const vector<int>* groupsInReach) {
    bool first = !hasPositions;
    hasPositions = false; // holds if one of the positions is refused below
    const PeriodicBox box = (isPeriodic ? actualBox : PeriodicBox());
    locateQMRegion(positions, box, next);
    findCharges(positions, box, groupsInReach, next);
    bool changed = first || !(next == current);
    if (changed) {
        swap(next, current);
        prepareCharges();
        listParticles();
    }
    hasPositions = true;
    return changed;
}

/** Gather what the current charges are and how much of them is seen. */
void Embedding::prepareCharges() {
    int n = current.mm.size(), numVirtual = virtualCharges.size();
    mmCharges.resize(n);
    mmAtomicNumbers.resize(n);
    mmFactors.assign(n, 1.0);
    chargePotential.resize(n);
    switchDerivative.resize(n);
    mmForces.resize(n);
    for (int i : next.charges) // those of the previous positions
        placeOfCharge[i] = -1;
    for (int v = 0; v < min(n, numVirtual); v++) {
        mmCharges[v] = virtualCharges[v].charge;
        mmAtomicNumbers[v] = virtualCharges[v].atomicNumber;
    }
    for (size_t k = 0; k < current.charges.size(); k++) {
        int i = current.charges[k];
        mmCharges[numVirtual+k] = charges[i];
        mmAtomicNumbers[numVirtual+k] = chargeNumbers[i];
        placeOfCharge[i] = numVirtual+k;
    }
    int numSwitched = 0;
    for (size_t i = current.numWhole; i < current.images.size(); i++)
        for (const GroupCharge& member : chargesOfGroup[current.images[i].group]) {
            mmFactors[placeOfCharge[member.charge]] = current.images[i].factor;
            mmCharges[placeOfCharge[member.charge]] *= current.images[i].factor;
            numSwitched++;
        }
    firstSwitched = n-numSwitched;
    sums.setCharges(current.mm, mmCharges);
}

void Embedding::addToList(int particle) {
    if (!isListed[particle]) {
        isListed[particle] = 1;
        forcedParticles.push_back(particle);
    }
}

/** Find the particles that scatterForces() has something for. */
void Embedding::listParticles() {
    for (int particle : forcedParticles)
        isListed[particle] = 0;
    forcedParticles.clear();
    for (int particle : qmParticles)
        addToList(particle);
    for (const LinkAtom& link : linkAtoms)
        addToList(link.particle);
    for (const VirtualCharge& v : virtualCharges)
        for (int particle : v.particles)
            addToList(particle);
    for (int i : current.charges)
        addToList(chargeParticles[i]);
    for (size_t i = current.numWhole; i < current.images.size(); i++)
        for (int particle : groups.getParticles(current.images[i].group))
            addToList(particle);
}

void Embedding::clearForces() {
    fill(qmForces.begin(), qmForces.end(), Vec3());
    fill(mmForces.begin(), mmForces.end(), Vec3());
    fill(chargePotential.begin(), chargePotential.end(), 0.0);
    fill(switchDerivative.begin(), switchDerivative.end(), 0.0);
}

void Embedding::scatterForces(ParticleForces& list) const {
    list.clear();
    list.particles = forcedParticles;
    vector<Vec3>& forces = list.forces;
    vector<Vec3> onQM = qmForces;
    // A link atom follows the direction of its bond: f_M = (d/R) (1 - u u^T) f_L, and the rest goes to the QM end.
    int numParticles = qmParticles.size(), numVirtual = virtualCharges.size();
    for (size_t i = 0; i < linkAtoms.size(); i++) {
        const LinkAtom& link = linkAtoms[i];
        const Vec3& f = onQM[numParticles+i];
        const Vec3& bond = current.linkBonds[i];
        double r2 = bond.dot(bond);
        Vec3 onMM = (f-bond*(bond.dot(f)/r2))*(link.distance/sqrt(r2));
        forces[link.particle] += onMM;
        onQM[link.qm] += f-onMM;
    }
    for (int v = 0; v < numVirtual; v++)
        for (size_t i = 0; i < virtualCharges[v].particles.size(); i++)
            forces[virtualCharges[v].particles[i]] += mmForces[v]*virtualCharges[v].weights[i];
    for (size_t k = 0; k < current.charges.size(); k++)
        forces[chargeParticles[current.charges[k]]] += mmForces[numVirtual+k];
    for (size_t i = current.numWhole; i < current.images.size(); i++) {
        double derivative = 0;
        for (const GroupCharge& member : chargesOfGroup[current.images[i].group]) {
            int j = placeOfCharge[member.charge];
            derivative += charges[member.charge]*chargePotential[j]+switchDerivative[j];
        }
        groups.addSwitchingForces(current.images[i], derivative, qmParticlePositions, onQM, forces);
    }
    for (int i = 0; i < numParticles; i++)
        forces[qmParticles[i]] += onQM[i];
}

/**
 * Add the forces of scale*Q_j/sqrt(R_aj^2 + d2) on a QM atom and the charges, and its derivatives by switched charges.
 * Returns the energy and the smallest R_aj^2.
 */
double Embedding::addForcesOfPoint(int first, int qm, double d2, double scale, double& minR2) {
    double potential;
    qmForces[qm] -= sums.addForces(first, current.qm[qm], d2, scale, potential, minR2);
    for (size_t j = firstSwitched; j < mmCharges.size(); j++) {
        Vec3 delta = current.mm[j]-current.qm[qm];
        chargePotential[j] += scale/sqrt(delta.dot(delta)+d2);
    }
    return scale*potential;
}

double Embedding::computeSubtractiveTerm() {
    double energy = 0;
    int numVirtual = virtualCharges.size();
    if (hasFixedCharges && !current.charges.empty()) {
        sums.clearForces();
        for (size_t a = 0; a < qmParticles.size(); a++) {
            if (fixedCharges[a] == 0)
                continue;
            double minR2;
            energy += addForcesOfPoint(numVirtual, a, 0.0, -COULOMB_CONSTANT*fixedCharges[a], minR2);
            if (minR2 < MIN_DISTANCE*MIN_DISTANCE)
                throw OpenMMException("An embedding charge is less than 0.001 nm away from particle "+to_string(qmParticles[a])+" of the QM region.");
        }
        for (size_t j = numVirtual; j < mmForces.size(); j++)
            mmForces[j] += sums.getForce(j);
    }
    for (const Exception& exception : exceptions) {
        int a = exception.qm, j = placeOfCharge[exception.charge];
        if (j == -1)
            continue;
        // Replaces q_a Q_j by the exception's product, both switched like the charge.
        Vec3 delta = current.mm[j]-current.qm[a];
        double r = sqrt(delta.dot(delta));
        double unswitched = -COULOMB_CONSTANT*(exception.product-fixedCharges[a]*charges[exception.charge])/r;
        switchDerivative[j] += unswitched;
        energy += mmFactors[j]*unswitched;
        Vec3 f = delta*(mmFactors[j]*unswitched/(r*r));
        mmForces[j] += f;
        qmForces[a] -= f;
    }
    return energy;
}

void Embedding::computePotential(const vector<double>& dampingLengths, vector<double>& potential) const {
    potential.resize(current.qm.size());
    for (size_t a = 0; a < potential.size(); a++) {
        double d = dampingLengths[a];
        potential[a] = COULOMB_CONSTANT*sums.sumPotential(current.qm[a], d*d);
    }
}

void Embedding::computePotential(const vector<double>& dampingLengths, vector<double>& potential, vector<Vec3>& gradient) {
    potential.resize(current.qm.size());
    gradient.resize(current.qm.size());
    sums.clearForces(); // addForces() adds up those on the charges too
    double minR2;
    for (size_t a = 0; a < potential.size(); a++) {
        // The force on the charges of the energy phi_a is the derivative by the position of the atom.
        gradient[a] = sums.addForces(0, current.qm[a], dampingLengths[a]*dampingLengths[a], COULOMB_CONSTANT, potential[a], minR2);
        potential[a] *= COULOMB_CONSTANT;
    }
}

void Embedding::addPotentialForces(const vector<double>& dampingLengths, const vector<double>& charges) {
    sums.clearForces();
    double minR2;
    for (size_t a = 0; a < current.qm.size(); a++)
        addForcesOfPoint(0, a, dampingLengths[a]*dampingLengths[a], COULOMB_CONSTANT*charges[a], minR2);
    for (size_t j = 0; j < mmForces.size(); j++)
        mmForces[j] += sums.getForce(j);
}
