#ifndef OPENMMKSTEP_KSTEPMODELFORCEIMPL_H_
#define OPENMMKSTEP_KSTEPMODELFORCEIMPL_H_

#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/internal/KStepModel.h"
#include "openmmkstep/internal/QMRegionForceImpl.h"

namespace OpenMMKStep {

/**
 * Evaluates a potential model with the same embedding as XtbForce, and stands back where the corrector is evaluated.
 */
class KStepModelForceImpl : public QMRegionForceImpl {
public:
    KStepModelForceImpl(const KStepModelForce& owner);
    void initialize(OpenMM::ContextImpl& context) override;
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy, int groups) override;
    /** Whether a distance of two QM atoms is outside the range that the model's contract declares, if it does. */
    bool isOutsideTrainingRegion(OpenMM::ContextImpl& context);
protected:
    double compute(Embedding& embedding) override;
private:
    void checkContract(const OpenMM::System& system) const;
    const KStepModelForce& force;
    std::unique_ptr<KStepModel> model;
    ModelContract contract;
    bool standsIn;
    std::vector<double> potential, charges;
    std::vector<OpenMM::Vec3> modelForces;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPMODELFORCEIMPL_H_*/
