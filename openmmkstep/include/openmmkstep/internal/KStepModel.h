#ifndef OPENMMKSTEP_KSTEPMODEL_H_
#define OPENMMKSTEP_KSTEPMODEL_H_

#include "openmm/Vec3.h"
#include "openmmkstep/internal/ModelContract.h"
#include <memory>
#include <string>
#include <vector>

namespace OpenMMKStep {

/**
 * A loaded model, a potential or a jump.  The implementation lives in libOpenMMKStepTorch, the one library that is linked to torch;
 * it is loaded when the first model is.
 */
class KStepModel {
public:
    virtual ~KStepModel() {
    }
    /** The text of the contract in the model's file; empty if it has none. */
    virtual const std::string& getContractText() const = 0;
    /**
     * Prepare for evaluations.
     *
     * @param contract    the model's contract, which the caller has checked
     * @param numThreads  the number of threads on the host
     * @param device      where to run: 'cpu', 'cuda' or 'cuda:N'; jumps run on 'cpu'
     * @throws OpenMMException if the device is not there, or the model cannot run on it
     */
    virtual void prepare(const ModelContract& contract, int numThreads, const std::string& device) = 0;
    /**
     * Evaluate a potential.
     *
     * @param positions     positions of the QM particles in nm
     * @param potential     phi_a in kJ/mol/e; not read if the contract has no such input
     * @param[out] forces   -dE/dx at constant phi in kJ/mol/nm, one for each particle
     * @param[out] charges  dE/dphi_a in e; not written if the contract has no such input
     * @return the energy in kJ/mol
     * @throws OpenMMException if the model fails or returns tensors of other shapes
     */
    virtual double compute(const std::vector<OpenMM::Vec3>& positions, const std::vector<double>& potential,
                           std::vector<OpenMM::Vec3>& forces, std::vector<double>& charges) = 0;
    /**
     * Evaluate a jump model: where the particles are, and how fast, after the base steps that it covers.
     *
     * @param positions             positions in nm
     * @param velocities            velocities in nm/ps
     * @param forces                forces in kJ/mol/nm at the positions; not read if the contract has no such input
     * @param[out] displacements    the change of each position in nm
     * @param[out] velocityChanges  the change of each velocity in nm/ps
     * @throws OpenMMException if the model fails or returns tensors of other shapes
     */
    virtual void computeJump(const std::vector<OpenMM::Vec3>& positions, const std::vector<OpenMM::Vec3>& velocities,
                             const std::vector<OpenMM::Vec3>& forces, std::vector<OpenMM::Vec3>& displacements,
                             std::vector<OpenMM::Vec3>& velocityChanges) = 0;
    /**
     * Read the bytes of a model file.
     *
     * @param owner  the class that error messages begin with
     * @throws OpenMMException if it cannot be read or is empty
     */
    static std::string readFile(const std::string& file, const std::string& owner);
    /**
     * Load a model from the bytes of its file.
     *
     * @param owner  the class that error messages begin with
     * @throws OpenMMException if torch is missing or of another version than the plugin was built with, the bytes are
     *         neither a TorchScript file nor an AOTInductor package, or they are a package and its code is not allowed
     */
    static std::unique_ptr<KStepModel> load(const std::string& data, const std::string& owner);
    /** Allow this process to run the machine code in an AOTInductor package with exactly this content. */
    static void allowNativeCode(const std::string& data);
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPMODEL_H_*/
