#ifndef OPENMMKSTEP_XTBFORCEIMPL_H_
#define OPENMMKSTEP_XTBFORCEIMPL_H_

#include "openmmkstep/XtbForce.h"
#include "openmmkstep/internal/QMRegionForceImpl.h"
#include "openmmkstep/internal/XtbCalculator.h"

namespace OpenMMKStep {

/**
 * The subtractive embedding of physics: E_xTB in the field of the charges, minus the bare fixed-charge interaction.
 */
class XtbForceImpl : public QMRegionForceImpl {
public:
    XtbForceImpl(const XtbForce& owner);
    void initialize(OpenMM::ContextImpl& context) override;
    std::vector<double> getPartialCharges(OpenMM::ContextImpl& context);
    /** See XtbForce::computeQMRegion(). */
    void computeQMRegion(OpenMM::ContextImpl& context, const std::vector<double>& dampingLengths, std::vector<OpenMM::Vec3>& positions,
                         double& energy, std::vector<OpenMM::Vec3>& forces, std::vector<double>& charges,
                         std::vector<double>& potentials, std::vector<OpenMM::Vec3>& potentialGradients);
    /** Let the next evaluation start cold and depend on nothing but the positions. */
    void dropWarmStart();
protected:
    double compute(Embedding& embedding) override;
private:
    /** Make sure that calculator and embedding are at the Context's current positions. */
    void computeAtCurrentPositions(OpenMM::ContextImpl& context);
    std::unique_ptr<XtbCalculator> calculator;
    // Of the last calculation, without the subtractive term.
    double xtbEnergy;
    std::vector<OpenMM::Vec3> xtbForces;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBFORCEIMPL_H_*/
