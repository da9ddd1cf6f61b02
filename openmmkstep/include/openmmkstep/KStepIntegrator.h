#ifndef OPENMMKSTEP_KSTEPINTEGRATOR_H_
#define OPENMMKSTEP_KSTEPINTEGRATOR_H_

#include "openmm/Integrator.h"
#include "openmm/Kernel.h"
#include "openmm/Vec3.h"
#include "openmmkstep/internal/FaultMonitor.h"
#include "openmmkstep/internal/StepDivision.h"
#include "openmmkstep/internal/export.h"
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace OpenMMKStep {

class IntegrateKStepStepKernel;
class KStepModel;
struct ModelContract;

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
 *   with bond stretches which limits the plain impulse to h of about 2 fs.  setMollifiedAngles() adds angles, for longer
 *   steps.  The dynamics is Hamiltonian for
 *   K + U_common + U_model(x) + D(A(x)); see computeConservedEnergy().
 * - "metropolis": k inner steps on H_fast are a proposal, accepted with probability min(1, exp(-dD/kT)).  A failed
 *   test is followed by another k steps and a test with the same random number, up to getExtraChances() tests (extra
 *   chance Hybrid Monte Carlo; Campos, Sanz-Serna, J. Comput. Phys. 281, 365 (2015)); if all fail, positions are
 *   restored and all velocities reversed.  Samples exp(-H/kT) of the true Hamiltonian for any model, up to the time
 *   step error that ordinary dynamics has (or without it, with setIncludeShadowWork()).  It samples; it is not dynamics.
 * - "reweight": k inner steps on H_fast, then D is computed: the state has the weight exp(-D/kT).  Nothing is
 *   rejected, so the dynamics is that of the model; good where sd(D) is below about kT/2.  Reporters and barostats see
 *   H_fast.
 * - "jump": a direct model J(x, v [, F]) -> (dx, dv) carries the QM region over k-1 base steps at once, and the k-th is
 *   one base step of all atoms with the true force.  All other particles make (k-1) dt/2 before and after the jump
 *   (Strang splitting) on the common forces, whose reaction the waiting QM atoms' velocities receive.  No such model is
 *   symplectic, and one true step in k cannot correct it: it samples the model, needs a thermostat, and should not be
 *   trusted further than that; see setJumpModel().
 *
 * The inner steps are velocity Verlet where there is no friction and BAOAB where there is, constraints included.
 * Regions may be coupled to different temperatures; see setRegion().
 *
 * In the scheme "impulse" a macro-step that fails (a number that is not finite, an SCF that does not converge, an
 * outlier of D or its forces, a model outside its training region) is repeated with a smaller k, down to steps without
 * the model; see setErrorRecovery().
 *
 * One step() is one macro-step: the step count grows by 1 and the time by h (in "metropolis" by h for every test).
 * When a step fails for good, the Context keeps the state from before that step.  Temperatures are in K, friction in
 * 1/ps, times in ps.
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
        double effectiveSamples = 0;   ///< reweight: (sum w)^2 / sum w^2 over the macro-steps (Kish)
        long long nonFinite = 0;       ///< faults: a position, velocity or energy that is NaN or infinite
        long long convergenceFailures = 0; ///< faults: the corrector found no energy, from a cold start too
        long long outliersD = 0;       ///< faults: D outside its running distribution
        long long outliersForce = 0;   ///< faults: |F_corr - F_model| outside its running distribution
        long long outsideRegion = 0;   ///< faults: the model outside the region its contract declares
        long long redone = 0;          ///< macro-steps that were repeated with a smaller k
        long long plainMacroSteps = 0; ///< macro-steps made on the true forces, without the model
        int currentK = 0;              ///< base steps between corrector calls now; 0 stands for plain steps
        int modelUnfit = 0;            ///< 1 after more than 1 % of the macro-steps had to be repeated
    };
    /** A fault that was handled. */
    struct Event {
        long long step;                ///< the Context's step count at the start of the macro-step
        double time;                   ///< and its time in ps
        std::string kind;              ///< "nonFinite", "convergenceFailure", "outlierD", "outlierForce", "outsideRegion"
        int fromK;                     ///< base steps between corrector calls when it happened
        int toK;                       ///< and in the repetition; 0 stands for plain steps
    };
    /** A state that was undone, kept for whoever wants to improve the model. */
    struct UndoneState {
        long long step;                ///< the Context's step count at the start of the macro-step
        std::string kind;              ///< "rejected" by a Metropolis test, or the kind of an Event
        double D;                      ///< U_corrector - U_model in kJ/mol there (at A(x) with mollification)
        std::vector<OpenMM::Vec3> positions;   ///< of all particles in nm
        OpenMM::Vec3 box[3];           ///< the periodic box vectors in nm
    };
    /**
     * Create a KStepIntegrator.
     *
     * @param baseStepSize  the base step dt in ps
     * @param k             base steps per macro-step
     * @param scheme        "impulse", "metropolis", "reweight" or "jump"
     * @param temperature   the temperature in K; required (positive) for metropolis and reweight, and with friction
     * @param friction      the friction in 1/ps; a negative number asks for the default, which is 0 for impulse, 1/ps
     *                      for metropolis and reweight, and 10/ps for jump
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
     * A bond that mollification resets: particle2 moves along it, and with it all particles that hang on particle2 in
     * the list of bonds.
     */
    struct MollifiedBond {
        int particle1;     ///< the end that stays
        int particle2;     ///< the end that moves; of one bond only
        double length;     ///< the length it is reset to, in nm
    };
    /**
     * An angle that mollification resets: particle1 is rotated about particle2, in the plane of the three.
     */
    struct MollifiedAngle {
        int particle1;     ///< the terminal atom that moves, a hydrogen; of one angle only
        int particle2;     ///< the centre
        int particle3;     ///< the neighbour against which the angle is measured
        double angle;      ///< the angle it is reset to, in rad
    };
    /**
     * Set the bonds that are reset before D is evaluated in the scheme impulse.  Takes effect for Contexts created
     * afterwards.  An empty list, the default, gives the plain impulse.
     *
     * Normally these are all X-H bonds of the QM region with their mean lengths (heavy atom first).  For deep
     * mollification give all bonds of the region as a tree, without the bonds that close rings: each particle but the
     * root is particle2 of one bond.  The order of the list does not matter.
     */
    void setMollification(const std::vector<MollifiedBond>& bonds);
    /** Get the bonds that mollification resets. */
    const std::vector<MollifiedBond>& getMollification() const {
        return mollification;
    }
    /**
     * Set the angles that are reset after the bonds: for deep mollification one for each hydrogen of the QM region.
     * All hydrogens of one centre take the same neighbour as reference.  Nearly straight angles have no plane to rotate
     * in and must be left out.  Takes effect for Contexts created afterwards.
     */
    void setMollifiedAngles(const std::vector<MollifiedAngle>& angles);
    /** Get the angles that mollification resets. */
    const std::vector<MollifiedAngle>& getMollifiedAngles() const {
        return mollifiedAngles;
    }
    /**
     * Compute b = D(x) - D(A(x)) in kJ/mol: what the true potential energy at the current positions exceeds that of the
     * mollified Hamiltonian by.  A frame of a mollified run at the temperature T has the weight exp(-b/kT) in the
     * ensemble of the true Hamiltonian.  Costs one corrector call at x.  The standard deviation of b over a run says how
     * far the two are apart; with a good model it is far below kT.
     */
    double computeMollificationBias();
    /** Get whether the scheme impulse may run near a resonance with a bond to hydrogen. */
    bool getAllowResonance() const {
        return allowResonance;
    }
    /**
     * Set whether the scheme impulse may run near a resonance.  By default it may not: the first step in a Context
     * computes the periods of all bonds to hydrogen in the QM region (of an XtbForce or KStepModelForce) that are
     * neither mollified nor constrained, at the cost of two model calls a bond, and throws an OpenMMException if h is
     * 0.35 of the shortest period or more; from 0.28 on it warns on the standard error stream.
     */
    void setAllowResonance(bool allow);
    /**
     * Compute the energy in kJ/mol that the scheme impulse conserves without friction: K + U_common + U_model(x) +
     * D(A(x)).  Without mollification it is the total energy.  Costs no corrector call after a macro-step.
     */
    double computeConservedEnergy();
    /**
     * Compute D = U_corr - U_model in kJ/mol at the current positions (at A(x) with mollification).  Costs no corrector
     * call after a macro-step.
     */
    double computeD();
    /** Get the scheme: "impulse", "metropolis", "reweight" or "jump". */
    const std::string& getScheme() const {
        return scheme;
    }
    /**
     * Set the direct model of the scheme jump.  Not possible while a Context uses the integrator.
     *
     * The model's contract must be of the kind "jump" and declare k-1 base steps of this integrator's dt.  What it
     * returns is the change of positions (nm) and velocities (nm/ps) without the effect of the common forces, which act
     * in the steps around the jump.  If it takes forces, they are the true ones (corrector and common) at exactly the
     * positions that it is called with; where other particles have moved that costs one more corrector call.
     *
     * One macro-step with friction is: the other particles for (k-1) dt/2 in equal steps of at most dt (BAOAB); an exact
     * Ornstein-Uhlenbeck step of the QM velocities over (k-1) dt/2; the jump; the same two in reverse order; one BAOAB
     * step of dt with the true force.  It needs two corrector calls, one before and one after that last step.
     *
     * @param file       a TorchScript file that carries a contract (written by openmmkstep.saveModel() in Python); it is
     *                   read now and travels with this object when that is serialized
     * @param particles  indices of the particles that jump, in the order of the contract's species.  They must have
     *                   mass, and may be neither virtual sites nor part of constraints.
     * @throws OpenMMException if the file cannot be read or the particles are repeated
     */
    void setJumpModel(const std::string& file, const std::vector<int>& particles);
    /** Set the direct model of the scheme jump from the bytes of its file; see setJumpModel(). */
    void setJumpModelData(const std::string& data, const std::vector<int>& particles);
    /** Get the bytes of the direct model's file; empty if none was set. */
    const std::string& getJumpModelData() const {
        return jumpModelData;
    }
    /** Get the particles that jump. */
    const std::vector<int>& getJumpParticles() const {
        return jumpParticles;
    }
    /** Get the number of threads that torch uses for the direct model. */
    int getJumpNumThreads() const {
        return jumpNumThreads;
    }
    /** Set the number of threads that torch uses for the direct model; the default, 1, is the fastest for small models. */
    void setJumpNumThreads(int threads);
    /** Get whether the scheme jump runs without a thermostat too. */
    bool getAllowJumpWithoutThermostat() const {
        return allowJumpWithoutThermostat;
    }
    /**
     * Set whether the scheme jump runs without a thermostat on the particles that jump.  No direct model is known to
     * conserve energy: drifts of tens to thousands of kJ/mol/ps are usual.  Default: false, and a warning below 10/ps.
     */
    void setAllowJumpWithoutThermostat(bool allow);
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
    /** Get the thermostat of all particles that are in no region: "langevin" or "bussi". */
    const std::string& getThermostat() const {
        return thermostat;
    }
    /**
     * Set the thermostat of all particles that are in no region: "langevin" (the default; BAOAB inside the macro-step)
     * or "bussi" (stochastic velocity rescaling with the relaxation time 1/friction between macro-steps; Bussi,
     * Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007)).  Without friction both are absent.
     */
    void setThermostat(const std::string& thermostat);
    /** Particles with a temperature coupling of their own. */
    struct Region {
        std::vector<int> particles;
        double temperature;        ///< K
        double friction;           ///< 1/ps; 0 for no coupling
        std::string thermostat;    ///< "langevin" or "bussi"
    };
    /**
     * Couple some particles to a temperature of their own.  All others follow setTemperature(), setFriction() and
     * setThermostat().  A call with the particles of an existing region changes that one, also while a Context uses the
     * integrator; regions must not overlap.
     *
     * @param particles     the particles of the region
     * @param temperature   their temperature in K
     * @param friction      their friction in 1/ps; 0 for no coupling
     * @param thermostat    "langevin" or "bussi"; see setThermostat()
     * @return the index of the region
     */
    int setRegion(const std::vector<int>& particles, double temperature, double friction, const std::string& thermostat="langevin");
    /** Get the number of regions. */
    int getNumRegions() const {
        return regions.size();
    }
    /** Get a region. */
    const Region& getRegion(int index) const;
    /**
     * Compute the velocities in nm/ps at which the kinetic energy is unbiased: after another half kick where there is
     * Langevin friction, without their components along constraints.  This is what State's kinetic energy is made of.
     */
    std::vector<OpenMM::Vec3> computeHalfStepVelocities();
    /** Get whether the macro-step starts small and grows. */
    bool getAdaptive() const {
        return adaptive;
    }
    /**
     * Set whether impulse starts with a corrector call every base step and doubles the interval after 10 macro-steps
     * without a fault, until it is k.  The macro-step (and with it the time between frames) stays k dt: it is subdivided.
     * The default is false.  Not for metropolis and reweight, whose k must not depend on what happens.
     */
    void setAdaptive(bool adaptive);
    /** Get whether a macro-step with a fault is repeated with a smaller k. */
    bool getErrorRecovery() const {
        return errorRecovery;
    }
    /**
     * Set whether a macro-step of impulse with a fault is undone and repeated with a smaller k: k/2, and so on down to
     * steps on the true forces without the model, for at least 8 macro-steps; k doubles after 10 macro-steps without a
     * fault.  Faults are: a number that is not finite; a corrector that fails from a cold start too; D further from its
     * mean than 5 standard deviations and 4 kT (T is 300 K where none was set), F_corr - F_model larger than its mean by
     * 5 standard deviations and such that an impulse of it would bring more than kT, both judged from the 100th macro-step
     * on; a model outside the region that its
     * contract declares.  When more than 1 % of the macro-steps (and at least 10) were repeated, the model is declared
     * unfit and no longer used.  Default: true.
     */
    void setErrorRecovery(bool recovery);
    /** Get the last faults that were handled (at most 1000; all are counted in the statistics). */
    const std::vector<Event>& getEvents() const {
        return events;
    }
    /** Get how many of the states that were undone are kept. */
    int getMaxUndoneStates() const {
        return maxUndoneStates;
    }
    /**
     * Set how many of the last states that a Metropolis test rejected, or that were undone for a fault, are kept until
     * takeUndoneStates() is called: they are where the model is worst.  States that are not finite are not kept.  Each one
     * costs a download of the positions.  Default: 0.
     */
    void setMaxUndoneStates(int number);
    /** Get the states that were undone since the last call, oldest first, and forget them. */
    std::vector<UndoneState> takeUndoneStates();
    /** Get whether the metropolis test includes the shadow work. */
    bool getIncludeShadowWork() const {
        return includeShadowWork;
    }
    /**
     * Set whether the metropolis test is made on dD + W, where W is the work that the finite base step does on H_fast
     * (shadow work).  That removes the error of the base step from what is sampled; acceptance then falls with the size
     * of the whole system.  Default: false.
     */
    void setIncludeShadowWork(bool include);
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
     * the model's; in reweight those of H_fast, without the corrector's.  Reporters, the minimizer and the Monte Carlo
     * barostats ask this.
     */
    int getIntegrationForceGroups() const override;
    /** Get the statistics of the current Context. */
    Statistics getStatistics() const;
    /** Set all statistics to zero. */
    void resetStatistics();
    /**
     * Advance the simulation by a number of macro-steps.
     *
     * @throws OpenMMException on any error in a macro-step; the Context keeps the state before it.  Where that cannot be
     *         brought back, as on a device that is lost, the message says so, and this and other calls throw until
     *         positions are set or a checkpoint is loaded
     */
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
    void serializeParameters(OpenMM::SerializationNode& node) const override;
    void deserializeParameters(const OpenMM::SerializationNode& node) override;
private:
    /** What a computation needs to be valid for the Context's current positions. */
    enum Requirement {FastForces, Energies, CorrectionForces};
    /** What is valid for them. */
    struct Validity {
        bool fastForces = false, correctionForces = false, energies = false, plainForces = false;
    };
    // Settings and set-up (KStepIntegrator.cpp)
    void checkSettings() const;
    int getCommonGroups() const;
    bool isMollified() const;
    IntegrateKStepStepKernel& getKernel();
    // Steps (KStepIntegratorSteps.cpp)
    void macroStep();
    void impulseMacroStep();
    void impulseStep(int numSteps);
    void reweightStep();
    void jumpMacroStep();
    bool tryProposal();
    double propagate(int numSteps);
    void recordD();
    // Forces and energies (KStepIntegratorForces.cpp)
    void computeFastForces();
    void computeFastForcesAndModel();
    void computeCorrector(bool includeForces);
    void computeCorrection();
    void computePlainForces();
    void refresh();
    void validate(Requirement requirement);
    void computeMissing(Requirement requirement);
    void validateStart();
    void withHalfStepForces(const std::function<void(double)>& action);
    bool isContextChanged() const;
    void noticeChangedContext();
    // Resonance (KStepResonance.cpp)
    void findLightBonds();
    void checkResonance();
    // The scheme jump (KStepIntegratorJump.cpp)
    void initializeJump(const OpenMM::System& system);
    void checkJumpSettings();
    void jumpStep();
    void jump();
    void moveSurroundings(bool areForcesTrue);
    void computeJumpForces();
    void computeCommonForces();
    void addCorrectorForces();
    // Faults (KStepIntegratorFaults.cpp)
    void recoverableMacroStep();
    bool isKnownToBeFinite();
    void restoreAfterError(const std::function<void()>& restore);
    void checkUsable() const;
    void plainStep(int numSteps);
    void checkForFaults();
    bool isModelOutsideRegion();
    void countFault(FaultMonitor::Fault fault);
    void logEvent(FaultMonitor::Fault fault, int from);
    void keepUndoneState(const std::string& kind);
    void throwNotFinite(const std::string& message) const;
    void throwOutsideRegion() const;
    std::string getNotFiniteMessage() const;
    // Temperature (KStepIntegratorRegions.cpp)
    void checkRegions() const;
    void initializeRegions(const OpenMM::System& system);
    void updateThermostats();
    void applyBussi();
    double drawKineticEnergyScale(double kineticEnergy, double degreesOfFreedom, double temperature, double decay);
    bool hasLangevin() const;
    bool hasThermostat() const;
    // State (KStepIntegratorState.cpp)
    void writeState(std::ostream& stream) const;
    void readState(std::istream& stream);
    void forgetHistory() const;

    static constexpr double MIN_JUMP_FRICTION = 10;
    double baseStepSize, temperature, friction;
    int k, extraChances, randomNumberSeed, correctorForceGroup, modelForceGroup;
    bool adaptive, errorRecovery, includeShadowWork, allowResonance;
    std::string scheme, thermostat;
    std::vector<MollifiedBond> mollification;
    std::vector<Region> regions;
    std::vector<MollifiedAngle> mollifiedAngles;
    // A bond to hydrogen that is neither mollified nor constrained, and the period of its stretch in ps.
    struct LightBond {
        int light, heavy;
        double period;
    };
    std::vector<LightBond> lightBonds;
    double resonanceCheckedFor; // the macro-step, 0 for none in this Context
    std::string jumpModelData;
    std::vector<int> jumpParticles;
    int jumpNumThreads;
    bool allowJumpWithoutThermostat, warnedOfJumpFriction;
    std::shared_ptr<KStepModel> jumpModel;
    std::shared_ptr<ModelContract> jumpContract;
    bool hasModel, hasSurroundings;
    // For the rest (index 0) and each region.
    std::vector<double> degreesOfFreedom;
    bool areThermostatsCurrent;
    // Writing a checkpoint invalidates: what follows must not depend on more than the checkpoint holds.
    mutable Validity valid;
    double modelEnergy, correctorEnergy, fastEnergy;
    double correctionNorm; // of the accelerations by the correction, when faults were looked for
    bool isStateLost;      // after an error neither the new state nor the old one is there
    // How the Context stood after the last macro-step, to notice when someone else moved it or changed the groups.
    long long lastStepCount;
    int lastCommonGroups;
    OpenMM::Vec3 lastBox[3];
    Statistics statistics;
    struct {
        long long numD = 0;
        double sumSquaresD = 0;
        // Sums of the weights and their squares, relative to exp(maxLogWeight).
        double maxLogWeight = 0, sumWeights = 0, sumSquaredWeights = 0;
        long long warnedOfAcceptance = 0; // no bool: padding would make equal checkpoints differ
    } sums;
    FaultMonitor monitor;
    StepDivision division;
    std::vector<Event> events;
    int maxUndoneStates;
    std::deque<UndoneState> undoneStates;
    std::mt19937_64 random;
    OpenMM::Kernel kernel;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_KSTEPINTEGRATOR_H_*/
