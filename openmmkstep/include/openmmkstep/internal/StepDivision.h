#ifndef OPENMMKSTEP_STEPDIVISION_H_
#define OPENMMKSTEP_STEPDIVISION_H_

namespace OpenMMKStep {

/**
 * How a macro-step of K base steps is divided: K/n steps with n base steps between corrector calls each, where n is K or
 * one of the divisors met when K is halved again and again, down to 1; or plain steps without the model, for which n is
 * 0.  Plain data, part of checkpoints.
 */
class StepDivision {
public:
    /**
     * Start with n = K, or with n = 1 if the macro-step is to grow.  One that is indivisible (a jump) is made as a whole or
     * of plain steps.
     */
    void initialize(int macroStep, bool small, bool indivisible=false);
    /** Base steps between corrector calls; 0 for plain steps. */
    int getInterval() const {
        return interval;
    }
    /** The K that this was initialized for. */
    int getMacroStep() const {
        return macroStep;
    }
    /** Halve the interval, from 1 to plain steps.  Returns false if they are plain already. */
    bool shrink();
    /** A macro-step went well: after enough of them the interval grows. */
    void recordSuccess();
    /** Only plain steps from now on. */
    void forbidModel();
private:
    int smaller(int n) const;
    int larger() const;
    int macroStep = 0, interval = 0, numSuccesses = 0;
    int modelForbidden = 0, indivisible = 0; // no bools: padding would make equal checkpoints differ
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_STEPDIVISION_H_*/
