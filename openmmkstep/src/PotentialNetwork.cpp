#include "openmmkstep/internal/PotentialNetwork.h"
#include "openmmkstep/internal/networkKernels.h"
#include "openmm/OpenMMException.h"
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static void require(bool condition, const string& what) {
    if (!condition)
        throw OpenMMException("The model's parameters contradict each other: "+what+".");
}

static void checkPair(const PotentialNetwork::Pair& pair, int numAtoms) {
    require(pair.first >= 0 && pair.first < numAtoms && pair.second >= 0 && pair.second < numAtoms && pair.first != pair.second,
            "a pair of atoms that are not different ones of "+to_string(numAtoms));
}

PotentialNetwork::PotentialNetwork(const Parameters& parameters) : p(parameters), numPairs(p.pairs.size()), numTriples(p.triples.size()),
        numDescriptors(numPairs+numTriples+p.numPhi), firstQuadratic(numDescriptors-p.linear.size()) {
    require(p.numAtoms > 0 && (p.numPhi == 0 || p.numPhi == p.numAtoms), "the number of atoms");
    require(firstQuadratic >= 0 && p.halfMatrix.size() == p.linear.size()*p.linear.size(), "the quadratic form");
    require((int) p.scale.size() == numDescriptors && (int) p.shift.size() == numDescriptors, "the scale of the descriptors");
    require(p.numNetworks > 0 && p.width > 0 && p.hidden1 > 0 && p.hidden2 > 0, "the sizes of the networks");
    size_t n = p.numNetworks, in = p.width, h1 = p.hidden1, h2 = p.hidden2;
    require(p.inputs.size() == n*in && p.w1.size() == n*in*h1 && p.b1.size() == n*h1 && p.w2.size() == n*h1*h2 && p.b2.size() == n*h2 && p.w3.size() == n*h2, "the weights of the networks");
    require(p.rootStrengths.size() == p.pairs.size() && p.otherStrengths.size() == p.otherPairs.size(), "the repulsion");
    for (const Pair& pair : p.pairs)
        checkPair(pair, p.numAtoms);
    for (const Pair& pair : p.otherPairs)
        checkPair(pair, p.numAtoms);
    for (const Triple& triple : p.triples)
        for (const Pair& bond : triple.bonds)
            checkPair(bond, p.numAtoms);
    for (int i : p.inputs)
        require(i >= 0 && i < numDescriptors, "an input that is no descriptor");
    for (vector<double>* v : {&dx, &dy, &dz, &inverse})
        v->resize(numPairs);
    crosses.resize(3*numTriples);
    z.resize(numDescriptors);
    slope.resize(numDescriptors);
    bracket.resize(p.linear.size());
    input.resize(p.inputs.size());
    inputSlope.resize(p.inputs.size());
    work.resize(2*(h1+h2));
}

double PotentialNetwork::compute(const vector<Vec3>& positions, const vector<double>& potential, vector<Vec3>& forces, vector<double>& charges) {
    computeDescriptors(positions, potential);
    double energy = p.offset+addQuadraticForm();
    energy += addNetworks();
    // From here on the slope is dE/d(descriptor).
    for (int i = 0; i < numDescriptors; i++)
        slope[i] *= p.scale[i];
    forces.assign(p.numAtoms, Vec3());
    energy += addPairForces(forces)+addOtherRepulsion(positions, forces);
    addTripleForces(forces);
    if (p.numPhi > 0)
        charges.assign(slope.end()-p.numPhi, slope.end());
    return energy;
}

void PotentialNetwork::computeDescriptors(const vector<Vec3>& positions, const vector<double>& potential) {
    for (int i = 0; i < numPairs; i++) {
        const Vec3& a = positions[p.pairs[i].first];
        const Vec3& b = positions[p.pairs[i].second];
        dx[i] = a[0]-b[0];
        dy[i] = a[1]-b[1];
        dz[i] = a[2]-b[2];
    }
    computeInverseDistances(numPairs, dx.data(), dy.data(), dz.data(), inverse.data());
    for (int i = 0; i < numPairs; i++)
        z[i] = p.scale[i]*inverse[i]+p.shift[i];
    for (int i = 0; i < numTriples; i++) {
        Vec3 v[3];
        for (int k = 0; k < 3; k++)
            v[k] = positions[p.triples[i].bonds[k].first]-positions[p.triples[i].bonds[k].second];
        for (int k = 0; k < 3; k++)
            crosses[3*i+k] = v[(k+1)%3].cross(v[(k+2)%3]);
        z[numPairs+i] = p.scale[numPairs+i]*v[0].dot(crosses[3*i])+p.shift[numPairs+i];
    }
    for (int i = numPairs+numTriples, a = 0; a < p.numPhi; i++, a++)
        z[i] = p.scale[i]*potential[a]+p.shift[i];
}

/** E = z.(linear + M z/2), so that the slope is twice the bracket less linear. */
double PotentialNetwork::addQuadraticForm() {
    int n = p.linear.size();
    const double* y = z.data()+firstQuadratic;
    multiplySymmetric(n, p.halfMatrix.data(), y, p.linear.data(), bracket.data());
    double energy = 0;
    for (int i = 0; i < firstQuadratic; i++)
        slope[i] = 0;
    for (int i = 0; i < n; i++) {
        energy += bracket[i]*y[i];
        slope[firstQuadratic+i] = 2*bracket[i]-p.linear[i];
    }
    return energy;
}

double PotentialNetwork::addNetworks() {
    int n = p.inputs.size();
    for (int i = 0; i < n; i++)
        input[i] = (float) z[p.inputs[i]];
    double energy = 0;
    size_t in = p.width, h1 = p.hidden1, h2 = p.hidden2;
    for (int k = 0; k < p.numNetworks; k++)
        energy += evaluateNetwork(in, h1, h2, &input[k*in], &p.w1[k*in*h1], &p.b1[k*h1], &p.w2[k*h1*h2], &p.b2[k*h2], &p.w3[k*h2], work.data(), &inputSlope[k*in]);
    for (int i = 0; i < n; i++)
        slope[p.inputs[i]] += inputSlope[i];
    return energy;
}

double PotentialNetwork::addPairForces(vector<Vec3>& forces) {
    double energy = 0;
    for (int i = 0; i < numPairs; i++) {
        double inverse2 = inverse[i]*inverse[i], root = inverse2*inverse2*inverse2*p.rootStrengths[i], repulsion = root*root;
        energy += repulsion;
        // dE/dr = -(slope + 12 repulsion r)/r^2
        Vec3 f = Vec3(dx[i], dy[i], dz[i])*((slope[i]*inverse[i]+12*repulsion)*inverse2);
        forces[p.pairs[i].first] += f;
        forces[p.pairs[i].second] -= f;
    }
    return energy;
}

double PotentialNetwork::addOtherRepulsion(const vector<Vec3>& positions, vector<Vec3>& forces) const {
    double energy = 0;
    for (size_t i = 0; i < p.otherPairs.size(); i++) {
        Vec3 delta = positions[p.otherPairs[i].first]-positions[p.otherPairs[i].second];
        double inverse2 = 1/delta.dot(delta), cube = inverse2*inverse2*inverse2, repulsion = cube*cube*p.otherStrengths[i];
        energy += repulsion;
        Vec3 f = delta*(12*repulsion*inverse2);
        forces[p.otherPairs[i].first] += f;
        forces[p.otherPairs[i].second] -= f;
    }
    return energy;
}

void PotentialNetwork::addTripleForces(vector<Vec3>& forces) const {
    for (int i = 0; i < numTriples; i++)
        for (int k = 0; k < 3; k++) {
            Vec3 f = crosses[3*i+k]*slope[numPairs+i];
            forces[p.triples[i].bonds[k].first] -= f;
            forces[p.triples[i].bonds[k].second] += f;
        }
}
