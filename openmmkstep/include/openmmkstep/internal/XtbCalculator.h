#ifndef OPENMMKSTEP_XTBCALCULATOR_H_
#define OPENMMKSTEP_XTBCALCULATOR_H_

#include "openmmkstep/XtbForce.h"
#include "openmmkstep/internal/Embedding.h"
#include "openmmkstep/internal/EngineLibrary.h"
#include <memory>
#include <string>
#include <vector>

namespace OpenMMKStep {

/**
 * One molecule in an engine, with handles that are kept from call to call: the wavefunction of the last one is the guess
 * for the next.  This class holds what all engines share, a subclass knows how to call its library.
 */
class XtbCalculator {
public:
    /**
     * Find the engine that computes a force: the one it asks for, or for "auto" libxtb where that can be loaded, else
     * tblite.
     *
     * @throws OpenMMException if it cannot be loaded, or cannot do what the force asks for
     */
    static const EngineLibrary& findLibrary(const XtbForce& force);
    /** Make the calculator of the engine that findLibrary() finds. */
    static std::unique_ptr<XtbCalculator> create(const XtbForce& force);
    virtual ~XtbCalculator() {
    }
    XtbCalculator(const XtbCalculator&) = delete;
    XtbCalculator& operator=(const XtbCalculator&) = delete;
    /**
     * Compute E_xTB in kJ/mol at the embedding's positions and add its forces, also those that follow from dE_xTB/dQ_j.
     *
     * @throws ConvergenceError if the SCF fails from a warm and from a cold start
     * @throws OpenMMException for any other error of the engine
     */
    double compute(Embedding& embedding);
    /** Atomic partial charges of the last calculation, in e. */
    std::vector<double> getPartialCharges() const;
    /**
     * Forget the wavefunction, which is the guess for the next calculation.  GFN-FF has none, and keeps the topology
     * that it found at its first geometry.
     */
    void dropWarmStart();
protected:
    XtbCalculator(const XtbForce& force, const EngineLibrary& library);
    /** Whether there are handles, and with them something that the last call left. */
    virtual bool hasHandles() const = 0;
    virtual void deleteHandles() = 0;
    /**
     * Compute energy and gradients, creating the handles if there are none.
     *
     * @param charges        the external charges, scaled by their switching factors
     * @param chargeNumbers  their hardness elements
     * @param energy         set to the energy in Hartree
     * @param error          set to what the engine says if it fails
     * @return whether the calculation succeeded
     * @throws ConvergenceError if the engine does not accept the geometry
     */
    virtual bool tryCompute(const std::vector<double>& charges, const std::vector<int>& chargeNumbers, double& energy, std::string& error) = 0;
    virtual std::vector<double> fetchPartialCharges() const = 0;
    /** Add dE_xTB/dQ_j to the embedding's charge potential, where it needs it, for the last calculation. */
    virtual void addChargePotential(Embedding& embedding) const {
    }
    const std::string method;
    std::vector<int> numbers;
    const double charge, accuracy, electronicTemperature;
    const int unpairedElectrons, maxIterations;
    /** Positions in bohr and gradients in Hartree/bohr, in a rotated frame. */
    std::vector<double> qmX, mmX, qmGradient, mmGradient;
private:
    bool tryComputeFinite(Embedding& embedding, double& energy, std::string& error);
    const EngineLibrary& library;
    const int numThreads;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBCALCULATOR_H_*/
