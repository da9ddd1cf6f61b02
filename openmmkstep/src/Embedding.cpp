#include "openmmkstep/internal/Embedding.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// The pair loops are a good part of a model's cost.  The widest instructions of the machine at hand are chosen when
// the library is loaded; this file is compiled with -fassociative-math so that the sums vectorize.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORIZED __attribute__((target_clones("arch=haswell", "default")))
#else
#define VECTORIZED
#endif

static const double MIN_DISTANCE = 1e-3; // nm

Embedding::Embedding(const QMRegionForce& force, const System& system) : qmParticles(force.getParticles()), hasPositions(false) {
    int numParticles = system.getNumParticles();
    for (int particle : qmParticles)
        if (particle < 0 || particle >= numParticles)
            throw OpenMMException("The QM region contains particle "+to_string(particle)+", but the System has "+to_string(numParticles)+" particles.");
    set<int> qm(qmParticles.begin(), qmParticles.end());
    for (int i = 0; i < force.getNumEmbeddingCharges(); i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        if (particle < 0 || particle >= numParticles)
            throw OpenMMException("Embedding charge "+to_string(i)+" is on particle "+to_string(particle)+", but the System has "+to_string(numParticles)+" particles.");
        if (qm.find(particle) != qm.end())
            throw OpenMMException("Embedding charge "+to_string(i)+" is on particle "+to_string(particle)+", which belongs to the QM region.  Only particles outside it can embed it.");
        mmParticles.push_back(particle);
        mmAtomicNumbers.push_back(atomicNumber);
    }
    qmPositions.resize(qmParticles.size());
    qmForces.resize(qmParticles.size());
    mmPositions.resize(mmParticles.size());
    mmForces.resize(mmParticles.size());
    for (int i = 0; i < 3; i++) {
        mmX[i].resize(mmParticles.size());
        mmF[i].resize(mmParticles.size());
    }
    updateCharges(force);
}

void Embedding::updateCharges(const QMRegionForce& force) {
    if (force.getNumEmbeddingCharges() != (int) mmParticles.size())
        throw OpenMMException("updateParametersInContext: the number of embedding charges has changed from "+to_string(mmParticles.size())+" to "+to_string(force.getNumEmbeddingCharges())+"; reinitialize the Context instead.");
    mmCharges.resize(mmParticles.size());
    fixedCharges.resize(qmParticles.size());
    for (size_t i = 0; i < mmParticles.size(); i++) {
        int particle, atomicNumber;
        force.getEmbeddingChargeParameters(i, particle, mmCharges[i], atomicNumber);
        if (particle != mmParticles[i] || atomicNumber != mmAtomicNumbers[i])
            throw OpenMMException("updateParametersInContext: the particle or hardness element of embedding charge "+to_string(i)+" has changed; reinitialize the Context instead.");
    }
    hasFixedCharges = false;
    for (size_t i = 0; i < qmParticles.size(); i++) {
        fixedCharges[i] = force.getFixedCharge(i);
        hasFixedCharges |= (fixedCharges[i] != 0);
    }
}

static bool copyPositions(const vector<int>& particles, const vector<Vec3>& all, vector<Vec3>& positions) {
    bool changed = false;
    for (size_t i = 0; i < particles.size(); i++) {
        const Vec3& p = all[particles[i]];
        if (memcmp(&p, &positions[i], sizeof(Vec3)) != 0) {
            changed = true;
            positions[i] = p;
            if (!isfinite(p[0]) || !isfinite(p[1]) || !isfinite(p[2]))
                throw OpenMMException("The position of particle "+to_string(particles[i])+" is NaN or infinite.");
        }
    }
    return changed;
}

bool Embedding::setPositions(const vector<Vec3>& positions) {
    bool first = !hasPositions;
    hasPositions = false; // holds if one of the positions is refused below
    bool qmChanged = copyPositions(qmParticles, positions, qmPositions);
    bool mmChanged = copyPositions(mmParticles, positions, mmPositions);
    if (mmChanged || first)
        for (size_t i = 0; i < mmPositions.size(); i++)
            for (int j = 0; j < 3; j++)
                mmX[j][i] = mmPositions[i][j];
    hasPositions = true;
    return first || qmChanged || mmChanged;
}

void Embedding::clearForces() {
    fill(qmForces.begin(), qmForces.end(), Vec3());
    fill(mmForces.begin(), mmForces.end(), Vec3());
}

void Embedding::scatterForces(vector<Vec3>& forces) const {
    fill(forces.begin(), forces.end(), Vec3());
    for (size_t i = 0; i < qmParticles.size(); i++)
        forces[qmParticles[i]] += qmForces[i];
    for (size_t i = 0; i < mmParticles.size(); i++)
        forces[mmParticles[i]] += mmForces[i];
}

/**
 * Sum Q_j/sqrt(R_j^2 + d2) over charges around one point.  minR2 receives the smallest R_j^2.
 */
VECTORIZED
static double sumPotential(const double* __restrict x, const double* __restrict y, const double* __restrict z,
                           const double* __restrict q, int n, const Vec3& point, double d2, double& minR2) {
    const double px = point[0], py = point[1], pz = point[2];
    double sum = 0, nearest = HUGE_VAL;
    for (int j = 0; j < n; j++) {
        double dx = x[j]-px, dy = y[j]-py, dz = z[j]-pz;
        double r2 = dx*dx+dy*dy+dz*dz;
        nearest = (r2 < nearest ? r2 : nearest);
        sum += q[j]/sqrt(r2+d2);
    }
    minR2 = nearest;
    return sum;
}

/**
 * Add to f the forces of scale*Q_j/sqrt(R_j^2 + d2) on the charges, and to total their sum.
 */
VECTORIZED
static void addForces(const double* __restrict x, const double* __restrict y, const double* __restrict z,
                      const double* __restrict q, double* __restrict fx, double* __restrict fy, double* __restrict fz,
                      int n, const Vec3& point, double d2, double scale, double* total) {
    const double px = point[0], py = point[1], pz = point[2];
    double tx = 0, ty = 0, tz = 0;
    for (int j = 0; j < n; j++) {
        double dx = x[j]-px, dy = y[j]-py, dz = z[j]-pz;
        double s2 = dx*dx+dy*dy+dz*dz+d2;
        double factor = scale*q[j]/(s2*sqrt(s2));
        dx *= factor;
        dy *= factor;
        dz *= factor;
        fx[j] += dx;
        fy[j] += dy;
        fz[j] += dz;
        tx += dx;
        ty += dy;
        tz += dz;
    }
    total[0] += tx;
    total[1] += ty;
    total[2] += tz;
}

double Embedding::computeSubtractiveTerm() {
    if (!hasFixedCharges || mmCharges.empty())
        return 0;
    int n = mmCharges.size();
    double energy = 0;
    for (auto& f : mmF)
        fill(f.begin(), f.end(), 0.0);
    for (size_t a = 0; a < qmParticles.size(); a++) {
        if (fixedCharges[a] == 0)
            continue;
        double scale = -COULOMB_CONSTANT*fixedCharges[a], minR2;
        energy += scale*sumPotential(mmX[0].data(), mmX[1].data(), mmX[2].data(), mmCharges.data(), n, qmPositions[a], 0.0, minR2);
        if (minR2 < MIN_DISTANCE*MIN_DISTANCE)
            throw OpenMMException("An embedding charge is less than 0.001 nm away from particle "+to_string(qmParticles[a])+" of the QM region.");
        double total[3] = {0, 0, 0};
        addForces(mmX[0].data(), mmX[1].data(), mmX[2].data(), mmCharges.data(), mmF[0].data(), mmF[1].data(), mmF[2].data(), n, qmPositions[a], 0.0, scale, total);
        qmForces[a] -= Vec3(total[0], total[1], total[2]);
    }
    for (int j = 0; j < n; j++)
        mmForces[j] += Vec3(mmF[0][j], mmF[1][j], mmF[2][j]);
    return energy;
}

void Embedding::computePotential(const vector<double>& dampingLengths, vector<double>& potential) const {
    potential.resize(qmParticles.size());
    for (size_t a = 0; a < qmParticles.size(); a++) {
        double minR2, d = dampingLengths[a];
        potential[a] = COULOMB_CONSTANT*sumPotential(mmX[0].data(), mmX[1].data(), mmX[2].data(), mmCharges.data(), mmCharges.size(), qmPositions[a], d*d, minR2);
    }
}

void Embedding::addPotentialForces(const vector<double>& dampingLengths, const vector<double>& charges) {
    int n = mmCharges.size();
    for (auto& f : mmF)
        fill(f.begin(), f.end(), 0.0);
    for (size_t a = 0; a < qmParticles.size(); a++) {
        double d = dampingLengths[a], total[3] = {0, 0, 0};
        addForces(mmX[0].data(), mmX[1].data(), mmX[2].data(), mmCharges.data(), mmF[0].data(), mmF[1].data(), mmF[2].data(), n, qmPositions[a], d*d, COULOMB_CONSTANT*charges[a], total);
        qmForces[a] -= Vec3(total[0], total[1], total[2]);
    }
    for (int j = 0; j < n; j++)
        mmForces[j] += Vec3(mmF[0][j], mmF[1][j], mmF[2][j]);
}
