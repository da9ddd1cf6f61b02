#ifndef OPENMMKSTEP_QMREGIONFORCEIMPL_H_
#define OPENMMKSTEP_QMREGIONFORCEIMPL_H_

#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ForceImpl.h"
#include "openmm/Kernel.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/Embedding.h"
#include "openmmkstep/internal/export.h"
#include <map>
#include <memory>
#include <string>

namespace OpenMMKStep {

/**
 * Gathers the positions, keeps the last result for bit-identical ones, and spreads the forces.  Subclasses compute.
 */
class OPENMM_EXPORT_KSTEP QMRegionForceImpl : public OpenMM::ForceImpl, public CalcQMRegionForceKernel::Calculation {
public:
    QMRegionForceImpl(const QMRegionForce& owner);
    void initialize(OpenMM::ContextImpl& context) override;
    const QMRegionForce& getOwner() const override {
        return owner;
    }
    void updateContextState(OpenMM::ContextImpl& context, bool& forcesInvalid) override {
    }
    std::map<std::string, double> getDefaultParameters() override {
        return {};
    }
    std::vector<std::string> getKernelNames() override;
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy, int groups) override;
    double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                        const std::vector<int>* groupsInReach, ParticleForces& forces) override;
    /** The QM region, link hosts included, is one molecule, bonded or not: barostats and wrapping must keep it whole. */
    std::vector<std::pair<int, int> > getBondedParticles() const override;
    void updateParametersInContext(OpenMM::ContextImpl& context);
protected:
    /** Compute the energy at the embedding's positions and add all forces to the embedding's. */
    virtual double compute(Embedding& embedding) = 0;
    /** The positions of the QM atoms (link atoms last), in one piece, in the Context's current state. */
    std::vector<OpenMM::Vec3> locateQMAtoms(OpenMM::ContextImpl& context);
    /** Compute anew even if the positions stay the same. */
    void discardResult() {
        isResultValid = false;
    }
    const QMRegionForce& owner;
    std::unique_ptr<Embedding> embedding;
private:
    bool isTrial(const PeriodicBox& box) const;
    std::string describeSmallBox(double half) const;
    OpenMM::Kernel kernel;
    double lastEnergy;
    bool isResultValid, isEnergyWanted;
    /**
     * Smallest width of the box of the last evaluation that was possible by any of the Context's QMRegionForces, 0 if
     * there was none.  One for all: XtbForce is asked once in a macro-step, a model at every step, and what is old to one
     * of them is no trial.
     */
    std::shared_ptr<double> smallestWidth;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_QMREGIONFORCEIMPL_H_*/
