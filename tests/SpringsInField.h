#ifndef OPENMMKSTEP_SPRINGSINFIELD_H_
#define OPENMMKSTEP_SPRINGSINFIELD_H_

#include "TestUtilities.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/QMRegionForceImpl.h"
#include <functional>
#include <random>

namespace KStepTests {

/**
 * A QMRegionForce that needs neither xTB nor a model: springs between all QM atoms, whose charges are in the damped
 * potential of the embedding charges.
 */
class SpringsInField : public OpenMMKStep::QMRegionForce {
public:
    explicit SpringsInField(const std::vector<int>& particles) : QMRegionForce(particles) {
    }
    /** The energy at the embedding's positions; its forces are added to the embedding's. */
    static double compute(OpenMMKStep::Embedding& embedding) {
        const std::vector<OpenMM::Vec3> x = embedding.getQMPositions();
        std::vector<double> damping(x.size(), 0.04), charges, potential;
        for (size_t i = 0; i < x.size(); i++)
            charges.push_back(i%2 == 0 ? 0.3 : -0.2);
        embedding.computePotential(damping, potential);
        double energy = 0;
        for (size_t i = 0; i < x.size(); i++) {
            energy += charges[i]*potential[i];
            for (size_t j = 0; j < i; j++) {
                OpenMM::Vec3 delta = x[i]-x[j];
                double r = sqrt(delta.dot(delta));
                OpenMM::Vec3 force = delta*(-1000*(r-0.15)/r);
                energy += 500*(r-0.15)*(r-0.15);
                embedding.getQMForces()[i] += force;
                embedding.getQMForces()[j] -= force;
            }
        }
        embedding.addPotentialForces(damping, charges);
        return energy+embedding.computeSubtractiveTerm();
    }
    /** The QM atoms at the Context's positions. */
    std::vector<OpenMM::Vec3> locateQMAtoms(OpenMM::Context& context);
    mutable long long numCalls = 0;
    /** Called before anything is computed; it may throw. */
    std::function<void()> fault = [] {};
protected:
    OpenMM::ForceImpl* createImpl() const override;
};

class SpringsInFieldImpl : public OpenMMKStep::QMRegionForceImpl {
public:
    explicit SpringsInFieldImpl(const SpringsInField& owner) : QMRegionForceImpl(owner), springs(owner) {
    }
    using QMRegionForceImpl::locateQMAtoms;
protected:
    double compute(OpenMMKStep::Embedding& embedding) override {
        springs.numCalls++;
        springs.fault();
        return SpringsInField::compute(embedding);
    }
private:
    const SpringsInField& springs;
};

inline OpenMM::ForceImpl* SpringsInField::createImpl() const {
    return new SpringsInFieldImpl(*this);
}

inline std::vector<OpenMM::Vec3> SpringsInField::locateQMAtoms(OpenMM::Context& context) {
    return dynamic_cast<SpringsInFieldImpl&>(getImplInContext(context)).locateQMAtoms(getContextImpl(context));
}

/**
 * A QM region of three particles in a chain of six, with a link atom, a virtual charge and an exception, in a periodic
 * box of waters.  Some of the waters are seen by their centroid rather than by their oxygen.
 */
struct EmbeddedChain {
    static constexpr int NUM_CHAIN = 6, FIRST_WATER = 6;
    static constexpr double EDGE = 2.48, SPACING = 0.31, SWITCHING = 0.45, CUTOFF = 0.7;
    EmbeddedChain() {
        system.setDefaultPeriodicBoxVectors(OpenMM::Vec3(EDGE, 0, 0), OpenMM::Vec3(0, EDGE, 0), OpenMM::Vec3(0, 0, EDGE));
        for (int i = 0; i < NUM_CHAIN; i++) {
            system.addParticle(12);
            positions.push_back(OpenMM::Vec3(0.05+0.14*i, 0.02*(i%2), 0.03*i));
        }
        std::mt19937 random(5);
        std::uniform_real_distribution<double> jitter(-0.04, 0.04);
        int n = (int) std::round(EDGE/SPACING);
        for (int i = 0; i < n*n*n; i++) {
            OpenMM::Vec3 x(i%n*SPACING+jitter(random), i/n%n*SPACING+jitter(random), i/(n*n)*SPACING+jitter(random));
            double nearest = EDGE;
            for (int j = 0; j < NUM_CHAIN; j++) {
                OpenMM::Vec3 delta = getBox().getImage(x-positions[j]);
                nearest = std::min(nearest, sqrt(delta.dot(delta)));
            }
            if (nearest < 0.2)
                continue;
            for (const OpenMM::Vec3& arm : {OpenMM::Vec3(), OpenMM::Vec3(0.0757, 0.0586, 0), OpenMM::Vec3(-0.0757, 0.0586, 0)}) {
                system.addParticle(arm == OpenMM::Vec3() ? 16 : 1);
                positions.push_back(x+arm);
            }
        }
        addForce(1);
    }
    /** Add a SpringsInField, which the System owns, in a force group. */
    SpringsInField* addForce(int forceGroup) {
        SpringsInField* force = new SpringsInField({0, 1, 2});
        force->setForceGroup(forceGroup);
        force->setUsesPeriodicBoundaryConditions(true);
        force->setCutoffDistance(CUTOFF);
        force->setSwitchingDistance(SWITCHING);
        force->addLinkAtom(2, 3, 0.1);
        force->addEmbeddingGroup({3, 4, 5}, -1, false);
        for (int i = 0; i < 3; i++)
            force->setFixedCharge(i, 0.1*(i-1));
        // Particle 3 feels a force as a link atom's host, 4 for the virtual charge, 5 for its own.
        force->addVirtualCharge({2, 4}, {0.4, 0.6}, -0.15, 10);
        force->addEmbeddingCharge(5, 0.2);
        force->addException(2, 5, 0.01);
        for (int i = FIRST_WATER; i < system.getNumParticles(); i += 3) {
            force->addEmbeddingGroup({i, i+1, i+2}, i%2 == 0 ? i : -1);
            // The second hydrogen carries nothing, but may belong to a group that is partly seen.
            force->addEmbeddingCharge(i, -0.4);
            force->addEmbeddingCharge(i+1, 0.4);
        }
        system.addForce(force);
        return force;
    }
    SpringsInField& getForce() {
        return dynamic_cast<SpringsInField&>(system.getForce(0));
    }
    static OpenMMKStep::PeriodicBox getBox() {
        return OpenMMKStep::PeriodicBox(OpenMM::Vec3(EDGE, 0, 0), OpenMM::Vec3(0, EDGE, 0), OpenMM::Vec3(0, 0, EDGE));
    }
    /** Move the chain's particles a little, each water by up to the given distance along each axis, and every tenth far away. */
    static void move(std::vector<OpenMM::Vec3>& positions, double distance, std::mt19937& random) {
        std::uniform_real_distribution<double> uniform(-1, 1);
        for (int i = 0; i < NUM_CHAIN; i++)
            positions[i] += OpenMM::Vec3(uniform(random), uniform(random), uniform(random))*0.002;
        for (size_t i = FIRST_WATER; i < positions.size(); i += 3) {
            double scale = (uniform(random) > 0.8 ? EDGE : distance);
            OpenMM::Vec3 shift(scale*uniform(random), scale*uniform(random), scale*uniform(random));
            for (size_t j = i; j < i+3; j++)
                positions[j] += shift;
        }
    }
    OpenMM::System system;
    std::vector<OpenMM::Vec3> positions;
};

} // namespace KStepTests

#endif /*OPENMMKSTEP_SPRINGSINFIELD_H_*/
