#ifndef OPENMMKSTEP_LIBXTBCALCULATOR_H_
#define OPENMMKSTEP_LIBXTBCALCULATOR_H_

#include "openmmkstep/internal/LibxtbLibrary.h"
#include "openmmkstep/internal/XtbCalculator.h"

namespace OpenMMKStep {

/**
 * libxtb: GFN1-xTB and GFN2-xTB in the field of point charges, and GFN-FF.
 *
 * E_xTB depends on the charges through sum_s sum_j q_s Q_j (R_sj^2 + eta_sj^-2)^-1/2, q_s the Mulliken charges of
 * the shells and eta_sj the arithmetic (GFN2) or harmonic (GFN1) mean of shell and charge hardness.
 */
class LibxtbCalculator : public XtbCalculator {
public:
    LibxtbCalculator(const XtbForce& force, const LibxtbLibrary& library);
    ~LibxtbCalculator();
protected:
    bool hasHandles() const override {
        return (env != NULL);
    }
    void deleteHandles() override;
    bool tryCompute(const std::vector<double>& charges, const std::vector<int>& chargeNumbers, double& energy, std::string& error) override;
    std::vector<double> fetchPartialCharges() const override;
    void addChargePotential(Embedding& embedding) const override;
private:
    void createHandles();
    bool fetchError(std::string& error);
    std::vector<double> computeShellCharges() const;
    void checkShellCharges(const std::vector<double>& shellCharges, bool hasAllOrbitals) const;
    const LibxtbLibrary& lib;
    LibxtbLibrary::Handle env, mol, calc, results;
    bool hasExternalCharges;
    std::vector<double> firstX;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_LIBXTBCALCULATOR_H_*/
