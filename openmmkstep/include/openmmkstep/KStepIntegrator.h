#ifndef OPENMMKSTEP_KSTEPINTEGRATOR_H_
#define OPENMMKSTEP_KSTEPINTEGRATOR_H_

#include "openmm/Integrator.h"
#include "openmm/Kernel.h"
#include "openmm/Vec3.h"
#include "openmmkstep/internal/export.h"
#include <random>
#include <string>
#include <vector>

namespace OpenMMKStep {

class IntegrateKStepStepKernel;

/**
 * Integrates QM/MM dynamics on a cheap Hamiltonian H_fast = K + U_common + U_model for k base steps, then corrects the
 * macro-step of length h = k dt with one evaluation of the expensive corrector.
 *
 * The forces of a System are divided by force group: the corrector (group 1: XtbForce), the model (group 2:
 * KStepModelForce or any other Force), and the rest, which is common.  With D = U_corr - U_model the schemes are
 *
 * - "impulse": v += (h/2) dF/m, k inner steps on H_fast, v += (h/2) dF/m, where dF = F_corr - F_model (r-RESPA;
 *   Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992)).  Symplectic without friction.  Without a model it is
 *   plain RESPA between the corrector and the rest.
 *   With setMollification() D is evaluated at A(x), which is x with each of the given bonds reset to a fixed length, and
 *   the kick is the exact gradient of D(A(x)) (mollified impulse; Garcia-Archilla, Sanz-Serna, Skeel, SIAM J. Sci.
 *   Comput. 20, 930 (1998); Izaguirre, Reich, Skeel, J. Chem. Phys. 110, 9853 (1999)).  That takes out the resonance
 *   with bond stretches which limits the plain impulse to h of about 2 fs.  The dynamics is Hamiltonian for
 *   K + U_common + U_model(x) + D(A(x)); see computeConservedEnergy().
 * - "metropolis": k inner steps on H_fast are a proposal, accepted with probability min(1, exp(-dD/kT)).  A failed
 *   test is followed by another k steps and a test with the same random number, up to getExtraChances() tests (extra
 *   chance Hybrid Monte Carlo; Campos, Sanz-Serna, J. Comput. Phys. 281, 365 (2015)); if all fail, positions are
 *   restored and all velocities reversed.  Samples exp(-H/kT) of the true Hamiltonian for any model, up to the time
 *   step error that ordinary dynamics has.  It samples; it is not dynamics.
 *
 * The inner steps are velocity Verlet without friction and BAOAB with friction, constraints included.
 *
 * One step() is one macro-step: the step count grows by 1 and the time by h (in "metropolis" by h for every test).
 * When a step fails, the Context keeps the state from before that step.  Temperatures are in K, friction in 1/ps,
 * times in ps.
 */
class OPENMM_EXPORT_KSTEP KStepIntegrator : public OpenMM::Integrator {
public:
    /** Counts since the Context was created or resetStatistics() was called. */
    struct Statistics {
        long long macroSteps = 0;      ///< completed macro-steps
        long long chances = 0;         ///< Metropolis tests made
        long long accepted = 0;        ///< macro-steps accepted at any of their tests
        long long firstAccepted = 0;   ///< macro-steps accepted at their first test
        long long flips = 0;           ///< macro-steps that ended in a momentum flip
        long long correctorCalls = 0;  ///< evaluations of the corrector's force group by this integrator
        double meanD = 0;              ///< mean of D at the ends of macro-steps, kJ/mol
        double sdD = 0;                ///< its standard deviation, kJ/mol
    };
    /**
     * Create a KStepIntegrator.
     *
     * @param baseStepSize  the base step dt in ps
     * @param k             base steps per macro-step
     * @param scheme        "impulse" or "metropolis"
     * @param temperature   the temperature in K; required (positive) for metropolis, and for impulse with friction
     * @param friction      the friction in 1/ps; a negative number asks for the default, which is 0 for impulse and
     *                      1/ps for metropolis
     */
    KStepIntegrator(double baseStepSize, int k, const std::string& scheme="impulse", double temperature=0,
                    double friction=-1);
    /** Get the macro-step h = k dt in ps. */
    double getStepSize() const override;
    /** Set the macro-step h in ps by changing the base step to h/k. */
    void setStepSize(double size) override;
    /** Get the base step dt in ps. */
    double getBaseStepSize() const;
    /** Set the base step dt in ps. */
    void setBaseStepSize(double size);
    /** Get the number of base steps in a macro-step. */
    int getK() const {
        return k;
    }
    /** Set the number of base steps in a macro-step. */
    void setK(int k);
    /**
     * A bond that mollification resets, the lighter particle moving along it.
     */
    struct MollifiedBond {
        int particle1;     ///< the heavy atom, which stays
        int particle2;     ///< the hydrogen, which moves; in one bond only
        double length;     ///< the length it is reset to, in nm
    };
    /**
     * Set the bonds that are reset before D is evaluated in the scheme impulse, normally all X-H bonds of the QM
     * region with their mean lengths.  An empty list, the default, gives the plain impulse.  Takes effect for Contexts
     * created afterwards.
     */
    void setMollification(const std::vector<MollifiedBond>& bonds);
    /** Get the bonds that mollification resets. */
    const std::vector<MollifiedBond>& getMollification() const {
        return mollification;
    }
    /**
     * Compute the energy in kJ/mol that the scheme impulse conserves without friction: K + U_common + U_model(x) +
     * D(A(x)).  Without mollification it is the total energy.  Costs no corrector call after a macro-step.
     */
    double computeConservedEnergy();
    /** Get the scheme: "impulse" or "metropolis". */
    const std::string& getScheme() const {
        return scheme;
    }
    /** Get the temperature in K; 0 where none was set. */
    double getTemperature() const {
        return temperature;
    }
    /** Set the temperature in K. */
    void setTemperature(double temperature);
    /** Get the friction in 1/ps. */
    double getFriction() const {
        return friction;
    }
    /** Set the friction in 1/ps. */
    void setFriction(double friction);
    /** Get the random number seed; 0 (the default) picks a new one for each Context. */
    int getRandomNumberSeed() const {
        return randomNumberSeed;
    }
    /** Set the random number seed.  Takes effect for Contexts created afterwards. */
    void setRandomNumberSeed(int seed) {
        randomNumberSeed = seed;
    }
    /** Get the force group of the corrector. */
    int getCorrectorForceGroup() const {
        return correctorForceGroup;
    }
    /** Set the force group of the corrector; the default is 1.  Not possible while a Context uses the integrator. */
    void setCorrectorForceGroup(int group);
    /** Get the force group of the model. */
    int getModelForceGroup() const {
        return modelForceGroup;
    }
    /** Set the force group of the model; the default is 2.  Not possible while a Context uses the integrator. */
    void setModelForceGroup(int group);
    /** Get the total number of tests that metropolis makes before a flip. */
    int getExtraChances() const {
        return extraChances;
    }
    /** Set the total number of tests that metropolis makes before a flip; the default is 4, 1 is the plain test. */
    void setExtraChances(int chances);
    /**
     * Get the force groups of the true Hamiltonian: those set by setIntegrationForceGroups() (all by default) without
     * the model's.  Reporters, the minimizer and the Monte Carlo barostats ask this.
     */
    int getIntegrationForceGroups() const override;
    /** Get the statistics of the current Context. */
    Statistics getStatistics() const;
    /** Set all statistics to zero. */
    void resetStatistics();
    /** Advance the simulation by a number of macro-steps. */
    void step(int steps) override;
    /** Advance by whole macro-steps until the Context's time is at least the given time in ps. */
    void stepTo(double time);
protected:
    void initialize(OpenMM::ContextImpl& context) override;
    void cleanup() override;
    std::vector<std::string> getKernelNames() override;
    void stateChanged(OpenMM::State::DataType changed) override;
    double computeKineticEnergy() override;
    bool kineticEnergyRequiresForce() const override {
        return false;
    }
    void createCheckpoint(std::ostream& stream) const override;
    void loadCheckpoint(std::istream& stream) override;
private:
    void checkSettings() const;
    void macroStep();
    void impulseStep();
    void metropolisStep();
    bool tryProposal();
    void propagate();
    void refresh(bool needCorrectionForces);
    void validate(bool needCorrectionForces);
    void computeFastForces();
    void computeFastForcesAndModel();
    void computeCorrector(bool includeForces);
    void computeCorrection();
    void noticeChangedContext();
    void recordD();
    int getCommonGroups() const;
    IntegrateKStepStepKernel& getKernel();
    double baseStepSize, temperature, friction;
    int k, extraChances, randomNumberSeed, correctorForceGroup, modelForceGroup;
    std::string scheme;
    std::vector<MollifiedBond> mollification;
    // What is valid for the Context's current positions.
    bool fastForcesValid, correctionForcesValid, energiesValid;
    double modelEnergy, correctorEnergy;
    bool hasModel;
    // How the Context stood after the last macro-step, to notice when someone else moved it or changed the groups.
    long long lastStepCount;
    int lastCommonGroups;
    OpenMM::Vec3 lastBox[3];
    Statistics statistics;
    long long numD;
    double sumSquaresD;
    std::mt19937_64 random;
    OpenMM::Kernel kernel;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPINTEGRATOR_H_*/
