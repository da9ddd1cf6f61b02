#ifndef OPENMMKSTEP_TBLITECALCULATOR_H_
#define OPENMMKSTEP_TBLITECALCULATOR_H_

#include "openmmkstep/internal/TbliteLibrary.h"
#include "openmmkstep/internal/XtbCalculator.h"

namespace OpenMMKStep {

/**
 * tblite: GFN1-xTB and GFN2-xTB without point charges.
 */
class TbliteCalculator : public XtbCalculator {
public:
    TbliteCalculator(const XtbForce& force, const TbliteLibrary& library);
    ~TbliteCalculator();
protected:
    bool hasHandles() const override {
        return (context != NULL);
    }
    void deleteHandles() override;
    bool tryCompute(const std::vector<double>& charges, const std::vector<int>& chargeNumbers, double& energy, std::string& error) override;
    std::vector<double> fetchPartialCharges() const override;
private:
    void createHandles();
    bool fetchError(std::string& message) const;
    const TbliteLibrary& lib;
    TbliteLibrary::Handle error, context, structure, calculator, result;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_TBLITECALCULATOR_H_*/
