#ifndef OPENMMKSTEP_XTBCALCULATOR_H_
#define OPENMMKSTEP_XTBCALCULATOR_H_

#include "openmmkstep/XtbForce.h"
#include "openmmkstep/internal/Embedding.h"
#include "openmmkstep/internal/XtbLibrary.h"
#include <vector>

namespace OpenMMKStep {

/**
 * One molecule in libxtb, with handles that are kept from call to call: the wavefunction of the last one is the guess
 * for the next.
 */
class XtbCalculator {
public:
    XtbCalculator(const XtbForce& force);
    ~XtbCalculator();
    XtbCalculator(const XtbCalculator&) = delete;
    XtbCalculator& operator=(const XtbCalculator&) = delete;
    /**
     * Compute E_xTB in kJ/mol at the embedding's positions and add its forces.
     *
     * @throws ConvergenceError if the SCF fails from a warm and from a cold start
     * @throws OpenMMException for any other error of libxtb
     */
    double compute(Embedding& embedding);
    /**
     * Add dE_xTB/dQ_j to the embedding's charge potential, where it needs it, for the last calculation.
     *
     * E_xTB depends on the charges through sum_s sum_j q_s Q_j (R_sj^2 + eta_sj^-2)^-1/2, q_s the Mulliken charges of
     * the shells and eta_sj the arithmetic (GFN2) or harmonic (GFN1) mean of shell and charge hardness.
     */
    void addChargePotential(Embedding& embedding) const;
    /** Atomic partial charges of the last calculation, in e. */
    std::vector<double> getPartialCharges() const;
    /**
     * Forget the wavefunction, which is the guess for the next calculation.  GFN-FF has none, and keeps the topology
     * that it found at its first geometry.
     */
    void dropWarmStart();
private:
    void createHandles();
    void deleteHandles();
    bool tryCompute(Embedding& embedding, double& energy, std::string& error);
    bool fetchError(std::string& error);
    std::vector<double> computeShellCharges() const;
    void checkShellCharges(const std::vector<double>& shellCharges, bool hasAllOrbitals) const;
    XtbLibrary::Handle env, mol, calc, results;
    std::string method;
    std::vector<int> numbers;
    double charge, accuracy, electronicTemperature;
    int unpairedElectrons, maxIterations, numThreads;
    bool hasExternalCharges;
    std::vector<double> firstX, qmX, mmX, qmGradient, mmGradient;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBCALCULATOR_H_*/
