#include "openmmkstep/internal/LibxtbCalculator.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmmkstep/internal/XtbShells.h"
#include "openmm/OpenMMException.h"
#include <cmath>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// The potential of the QM region at the external charges, dE_xTB/dQ_j, which libxtb's API does not give.

/** Invert an n x n matrix in place (rows one after the other) by Gauss-Jordan elimination with row pivoting. */
static void invert(vector<double>& m, int n) {
    vector<int> pivotRow(n);
    for (int k = 0; k < n; k++) {
        int pivot = k;
        for (int i = k+1; i < n; i++)
            if (fabs(m[i*n+k]) > fabs(m[pivot*n+k]))
                pivot = i;
        if (m[pivot*n+k] == 0)
            throw OpenMMException("XtbForce: the orbital coefficients are linearly dependent.");
        pivotRow[k] = pivot;
        for (int j = 0; j < n && pivot != k; j++)
            swap(m[k*n+j], m[pivot*n+j]);
        double inverse = 1/m[k*n+k];
        m[k*n+k] = 1;
        for (int j = 0; j < n; j++)
            m[k*n+j] *= inverse;
        for (int i = 0; i < n; i++) {
            if (i == k)
                continue;
            double factor = m[i*n+k];
            m[i*n+k] = 0;
            double* __restrict row = &m[i*n];
            const double* __restrict pivotValues = &m[k*n];
            for (int j = 0; j < n; j++)
                row[j] -= factor*pivotValues[j];
        }
    }
    for (int k = n-1; k >= 0; k--)
        for (int i = 0; i < n && pivotRow[k] != k; i++)
            swap(m[i*n+k], m[i*n+pivotRow[k]]);
}

/**
 * Mulliken charges of all shells: the diagonal of C n C^-1, since C^T S C = 1, subtracted from the neutral atoms'.
 */
vector<double> LibxtbCalculator::computeShellCharges() const {
    int nao = 0;
    lib.getNao(env, results, &nao);
    vector<double> occupations(nao), coefficients(nao*nao);
    lib.getOrbitalOccupations(env, results, occupations.data());
    lib.getOrbitalCoefficients(env, results, coefficients.data());
    if (lib.checkEnvironment(env) != 0)
        throw OpenMMException("XtbForce: libxtb does not give its orbitals, which the embedding with a cutoff needs.");
    // libxtb's matrix is column by column, so in rows it is C^T: (C^-1)_(i, mu) is element (mu, i) of its inverse.
    vector<double> inverse = coefficients;
    invert(inverse, nao);
    vector<double> charges;
    int orbital = 0;
    for (size_t atom = 0; atom < numbers.size(); atom++) {
        const XtbShells& shells = XtbShells::get(method == "GFN1-xTB", numbers[atom]);
        for (int s = 0; s < shells.numShells; s++) {
            double population = 0;
            for (int m = 0; m < 2*shells.angularMomentum[s]+1; m++, orbital++)
                for (int i = 0; i < nao && orbital < nao; i++)
                    population += coefficients[i*nao+orbital]*occupations[i]*inverse[orbital*nao+i];
            charges.push_back(shells.occupation[s]-population);
        }
    }
    checkShellCharges(charges, orbital == nao);
    return charges;
}

/** The tables are those of libxtb's own methods; this finds out if another version has other ones. */
void LibxtbCalculator::checkShellCharges(const vector<double>& shellCharges, bool hasAllOrbitals) const {
    vector<double> expected(numbers.size());
    lib.getCharges(env, results, expected.data());
    bool agrees = hasAllOrbitals;
    int shell = 0;
    for (size_t atom = 0; atom < numbers.size() && agrees; atom++) {
        double sum = 0;
        for (int s = 0; s < XtbShells::get(method == "GFN1-xTB", numbers[atom]).numShells; s++)
            sum += shellCharges[shell++];
        agrees = (fabs(sum-expected[atom]) < 1e-3);
    }
    if (!agrees)
        throw OpenMMException("XtbForce: the orbitals that libxtb returns do not give the charges that it returns.  This version of libxtb is not supported with a cutoff of the embedding; use the one of the PyPI package xtb 22.1.");
}

void LibxtbCalculator::addChargePotential(Embedding& embedding) const {
    int first = embedding.getFirstSwitchedCharge(), n = embedding.getMMCharges().size();
    if (first == n)
        return;
    bool isGFN1 = (method == "GFN1-xTB");
    vector<double> shellCharges = computeShellCharges();
    for (int j = first; j < n; j++) {
        double chargeHardness = XtbShells::get(isGFN1, embedding.getMMAtomicNumbers()[j]).hardness, potential = 0;
        int shell = 0;
        for (size_t atom = 0; atom < numbers.size(); atom++) {
            const XtbShells& shells = XtbShells::get(isGFN1, numbers[atom]);
            double r2 = 0;
            for (int k = 0; k < 3; k++)
                r2 += (qmX[3*atom+k]-mmX[3*j+k])*(qmX[3*atom+k]-mmX[3*j+k]);
            for (int s = 0; s < shells.numShells; s++) {
                double h = shells.shellHardness[s];
                double mean = (isGFN1 ? 2/(1/h+1/chargeHardness) : 0.5*(h+chargeHardness));
                potential += shellCharges[shell++]/sqrt(r2+1/(mean*mean));
            }
        }
        embedding.getChargePotential()[j] += KJ_PER_HARTREE*potential;
    }
}
