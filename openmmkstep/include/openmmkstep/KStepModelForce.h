#ifndef OPENMMKSTEP_KSTEPMODELFORCE_H_
#define OPENMMKSTEP_KSTEPMODELFORCE_H_

#include "openmmkstep/QMRegionForce.h"
#include <string>

namespace OpenMMKStep {

/**
 * A k-step model that is a potential: a TorchScript function, or an AOTInductor package, of the positions of the QM
 * region and, where its contract says so, of the potential phi_a of the embedding charges at each QM particle.
 *
 *     U = U_model(x_QM, phi) - k_e sum_j S_g(j) sum_a C_aj / R_aj,     phi_a = k_e sum_j S_g(j) Q_j / sqrt(R_aj^2 + d_a^2)
 *
 * x_QM and phi are of the particles of the QM region followed by its link atoms, in the order of the contract's species.
 * d_a is the damping length that the model was trained with (its contract holds it).  Forces on the embedding charges
 * follow from dU_model/dphi_a and are exact.  For a model without phi input no embedding charges may be added.
 *
 * This force is a stand-in for the corrector (XtbForce): when the System also holds a Force in the corrector's force
 * group, KStepModelForce contributes nothing to an evaluation that includes that group.  So the energy summed over all
 * groups is that of the true Hamiltonian, under any integrator, and the groups without the corrector's give the
 * model's.
 */
class OPENMM_EXPORT_KSTEP KStepModelForce : public QMRegionForce {
public:
    /**
     * Create a KStepModelForce.
     *
     * @param file       a model file that carries a contract (written by openmmkstep.saveModel() or exportModel() in
     *                   Python); it is read now and travels with this object when that is serialized
     * @param particles  indices of the particles in the QM region, in the order of the contract's species
     * @throws OpenMMException if the file cannot be read or the particles are repeated
     */
    KStepModelForce(const std::string& file, const std::vector<int>& particles);
    /** Create a KStepModelForce from the bytes of a model file. */
    static KStepModelForce* fromModelData(const std::string& data, const std::vector<int>& particles);
    /** Get the bytes of the model file. */
    const std::string& getModelData() const {
        return modelData;
    }
    /**
     * Allow this process to run the machine code in this model, if it is an AOTInductor package.  Such code can do anything
     * that the user can: allow it only for files that you made or whose origin you trust.  This is not serialized, so what
     * another process read from XML is refused there, unless it calls this too or has the environment variable
     * OPENMMKSTEP_ALLOW_NATIVE_CODE=1; copies in this process share it.
     */
    void allowNativeCode() const;
    /** Get the force group of the corrector that this force stands in for. */
    int getCorrectorForceGroup() const {
        return correctorForceGroup;
    }
    /** Set the force group of the corrector that this force stands in for; the default is 1. */
    void setCorrectorForceGroup(int group);
    /** Get the number of threads that torch uses for this model. */
    int getNumThreads() const {
        return numThreads;
    }
    /** Set the number of threads that torch uses for this model; the default, 1, is the fastest for small models. */
    void setNumThreads(int threads);
    /** Get the device that torch runs the model on. */
    const std::string& getDevice() const {
        return device;
    }
    /**
     * Set the device that torch runs the model on: 'cpu' (the default), 'cuda' or 'cuda:N'.  It need not be that of the
     * Context's platform.  A GPU pays for large networks only: positions, phi, forces and charges travel at each evaluation, and
     * the networks of this package take less time on the host.  Without CUDA in torch, or for an AOTInductor package, which is
     * made for the host, creating a Context throws an OpenMMException.
     */
    void setDevice(const std::string& device);
    /** Whether the Context's current positions are outside the region of validity that the model's contract declares. */
    bool isOutsideTrainingRegion(OpenMM::Context& context);
protected:
    OpenMM::ForceImpl* createImpl() const;
private:
    explicit KStepModelForce(const std::vector<int>& particles);
    std::string modelData;
    int correctorForceGroup, numThreads;
    std::string device;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPMODELFORCE_H_*/
