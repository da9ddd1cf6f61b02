#ifndef OPENMMKSTEP_FAULTMONITOR_H_
#define OPENMMKSTEP_FAULTMONITOR_H_

namespace OpenMMKStep {

/**
 * Knows how D and the forces of D are distributed, and says when a macro-step does not belong to that distribution.  It
 * is a guard against faults, not a corrector: repeating a step depending on its outcome is not neutral, so the limits
 * are wide.  Plain data, part of checkpoints.
 */
class FaultMonitor {
public:
    enum Fault {None, NonFinite, ConvergenceFailure, OutlierD, OutlierForce, OutsideRegion};
    /** The name of a fault in the integrator's events. */
    static const char* getName(Fault fault);
    /** Learn from a macro-step that was completed. */
    void record(double d, double forceNorm);
    /** Judge D (kJ/mol) and |F_corr - F_model| (kJ/mol/nm); kT in kJ/mol. */
    Fault check(double d, double forceNorm, double kT) const;
private:
    struct Distribution {
        long long count = 0;
        double mean = 0, sumSquares = 0;
        void add(double value);
        double getStandardDeviation() const;
    };
    Distribution dDistribution, forceDistribution;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_FAULTMONITOR_H_*/
