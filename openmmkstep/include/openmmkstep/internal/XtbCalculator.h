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
    XtbLibrary::Handle env, mol, calc, results;
    std::string method;
    std::vector<int> numbers;
    double charge, accuracy, electronicTemperature;
    int unpairedElectrons, maxIterations, numThreads;
    std::vector<double> firstX, qmX, mmX, qmGradient, mmGradient;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBCALCULATOR_H_*/
