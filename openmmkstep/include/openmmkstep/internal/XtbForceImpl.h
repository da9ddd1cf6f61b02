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
    /** Let the next evaluation start cold and depend on nothing but the positions. */
    void dropWarmStart();
protected:
    double compute(Embedding& embedding) override;
private:
    std::unique_ptr<XtbCalculator> calculator;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBFORCEIMPL_H_*/
