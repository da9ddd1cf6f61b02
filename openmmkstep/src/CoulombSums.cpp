#include "openmmkstep/internal/CoulombSums.h"
#include "openmmkstep/internal/vectorized.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// The pair loops are a good part of a model's cost.
VECTORIZED
static double sum(const double* __restrict x, const double* __restrict y, const double* __restrict z,
                  const double* __restrict q, int n, const Vec3& point, double d2) {
    const double px = point[0], py = point[1], pz = point[2];
    double total = 0;
    for (int j = 0; j < n; j++) {
        double dx = x[j]-px, dy = y[j]-py, dz = z[j]-pz;
        total += q[j]/sqrt(dx*dx+dy*dy+dz*dz+d2);
    }
    return total;
}

VECTORIZED
static void add(const double* __restrict x, const double* __restrict y, const double* __restrict z, const double* __restrict q,
                double* __restrict fx, double* __restrict fy, double* __restrict fz,
                int first, int n, const Vec3& point, double d2, double scale, double* total, double& potential, double& minR2) {
    const double px = point[0], py = point[1], pz = point[2];
    double tx = 0, ty = 0, tz = 0, sum = 0, nearest = numeric_limits<double>::max();
    for (int j = first; j < n; j++) {
        double dx = x[j]-px, dy = y[j]-py, dz = z[j]-pz;
        double r2 = dx*dx+dy*dy+dz*dz;
        nearest = (r2 < nearest ? r2 : nearest);
        double inverse = 1/sqrt(r2+d2), energy = q[j]*inverse;
        sum += energy;
        double factor = scale*energy*inverse*inverse;
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
    total[0] = tx;
    total[1] = ty;
    total[2] = tz;
    potential = sum;
    minR2 = nearest;
}

void CoulombSums::setCharges(const vector<Vec3>& positions, const vector<double>& charges) {
    q = charges;
    for (int k = 0; k < 3; k++) {
        x[k].resize(charges.size());
        force[k].resize(charges.size());
        for (size_t j = 0; j < charges.size(); j++)
            x[k][j] = positions[j][k];
    }
}

void CoulombSums::clearForces() {
    for (auto& f : force)
        fill(f.begin(), f.end(), 0.0);
}

double CoulombSums::sumPotential(const Vec3& point, double d2) const {
    return sum(x[0].data(), x[1].data(), x[2].data(), q.data(), q.size(), point, d2);
}

Vec3 CoulombSums::addForces(int first, const Vec3& point, double d2, double scale, double& potential, double& minR2) {
    double total[3];
    add(x[0].data(), x[1].data(), x[2].data(), q.data(), force[0].data(), force[1].data(), force[2].data(), first, q.size(), point, d2, scale, total, potential, minR2);
    return Vec3(total[0], total[1], total[2]);
}
