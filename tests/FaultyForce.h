#ifndef OPENMMKSTEP_FAULTYFORCE_H_
#define OPENMMKSTEP_FAULTYFORCE_H_

#include "TestUtilities.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmmkstep/internal/ConvergenceError.h"
#include <functional>
#include <limits>

namespace KStepTests {

enum InjectedFault {NoFault, NaNEnergy, NaNForce, NoConvergence, WrongEnergy, WrongForce};

/**
 * Harmonic springs between all pairs of particles and a tether to the origin, with a fault wherever a function of the
 * call's number wants one.  The number of faults made is counted.
 */
class FaultyForce : public OpenMM::Force {
public:
    FaultyForce(double spring, double tether, std::function<InjectedFault(long long)> chooseFault) :
            spring(spring), tether(tether), chooseFault(chooseFault) {
    }
    bool usesPeriodicBoundaryConditions() const override {
        return false;
    }
    mutable long long numCalls = 0, numFaults = 0;
    double spring, tether;
    std::function<InjectedFault(long long)> chooseFault;
protected:
    OpenMM::ForceImpl* createImpl() const override;
};

class FaultyForceImpl : public OpenMM::CustomCPPForceImpl {
public:
    FaultyForceImpl(const FaultyForce& owner) : CustomCPPForceImpl(owner), owner(owner) {
    }
    const OpenMM::Force& getOwner() const override {
        return owner;
    }
    double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions, std::vector<OpenMM::Vec3>& forces) override {
        const double nan = std::numeric_limits<double>::quiet_NaN();
        InjectedFault fault = owner.chooseFault(owner.numCalls++);
        owner.numFaults += (fault != NoFault);
        if (fault == NoConvergence)
            throw OpenMMKStep::ConvergenceError("injected: no convergence");
        double energy = 0;
        for (size_t i = 0; i < positions.size(); i++) {
            forces[i] = positions[i]*(-owner.tether);
            energy += 0.5*owner.tether*positions[i].dot(positions[i]);
        }
        for (size_t i = 0; i < positions.size(); i++)
            for (size_t j = 0; j < i; j++) {
                OpenMM::Vec3 delta = positions[i]-positions[j];
                double r = sqrt(delta.dot(delta));
                energy += 0.5*owner.spring*(r-0.3)*(r-0.3);
                OpenMM::Vec3 force = delta*(-owner.spring*(r-0.3)/r);
                forces[i] += force;
                forces[j] -= force;
            }
        if (fault == NaNEnergy)
            energy = nan;
        if (fault == NaNForce)
            forces[0][1] = nan;
        if (fault == WrongEnergy)
            energy += 300;
        if (fault == WrongForce)
            forces[0] += OpenMM::Vec3(0, 3000, 0);
        return energy;
    }
private:
    const FaultyForce& owner;
};

inline OpenMM::ForceImpl* FaultyForce::createImpl() const {
    return new FaultyForceImpl(*this);
}

inline InjectedFault never(long long call) {
    return NoFault;
}

} // namespace KStepTests

#endif /*OPENMMKSTEP_FAULTYFORCE_H_*/
