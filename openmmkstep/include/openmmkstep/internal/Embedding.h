#ifndef OPENMMKSTEP_EMBEDDING_H_
#define OPENMMKSTEP_EMBEDDING_H_

#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/CoulombSums.h"
#include "openmmkstep/internal/EmbeddingGroups.h"
#include "openmmkstep/internal/ParticleForces.h"
#include "openmmkstep/internal/PeriodicBox.h"
#include "openmmkstep/internal/export.h"
#include <vector>

namespace OpenMMKStep {

/**
 * The geometry and the classical electrostatics of a QM region and the point charges around it: the one implementation
 * of images, link atoms, switching, subtractive term and damped potential, for XtbForce and KStepModelForce alike.
 *
 * "QM atoms" are the particles of the QM region followed by the link atoms.  "Charges" are those that the region sees at
 * the current positions: first the virtual ones, then those of groups seen in full, then those of groups that are
 * partly switched off.  Lengths are in nm, charges in e, energies in kJ/mol.
 *
 * Use: setPositions(); if it returns true clearForces(), compute energies and add forces, also to getChargePotential();
 * in any case scatterForces().
 */
class OPENMM_EXPORT_KSTEP Embedding {
public:
    /**
     * @throws OpenMMException if what the force says contradicts itself or does not fit the System
     */
    Embedding(const QMRegionForce& force, const OpenMM::System& system);
    /** Read the charges from the force again; everything else must be the same. */
    void updateCharges(const QMRegionForce& force);
    /**
     * Take the positions from those of all particles.
     *
     * @param box            the periodic box; not used if the force does not use periodic boundary conditions
     * @param groupsInReach  the switched groups to look at, ascending: at least all that are in range.  The result is the
     *                       same, bit for bit, as with NULL, which looks at all groups
     * @return whether anything that energy and forces depend on differs, bit for bit, from the previous call
     * @throws OpenMMException if a position is NaN or infinite
     */
    bool setPositions(const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box, const std::vector<int>* groupsInReach=NULL);
    /**
     * How much wider than needed the box is at the current positions, in nm: half of its smallest width, less the cutoff
     * and the radius of the QM region.  Infinite if nothing is needed.  If negative, energy and forces are not defined.
     */
    double getBoxMargin() const {
        return boxMargin;
    }
    /** Positions of the QM atoms, in one piece. */
    const std::vector<OpenMM::Vec3>& getQMPositions() const {
        return current.qm;
    }
    /** Find the positions of the QM atoms, in one piece, at other positions of all particles. */
    std::vector<OpenMM::Vec3> locateQMAtoms(const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box) const;
    /** Positions of the charges. */
    const std::vector<OpenMM::Vec3>& getMMPositions() const {
        return current.mm;
    }
    /** The charges, scaled by the switching factors of their groups. */
    const std::vector<double>& getMMCharges() const {
        return mmCharges;
    }
    /** The atomic numbers that give the hardness of the charges. */
    const std::vector<int>& getMMAtomicNumbers() const {
        return mmAtomicNumbers;
    }
    /** The first of the charges whose group is partly switched off; their number if there are none. */
    int getFirstSwitchedCharge() const {
        return firstSwitched;
    }
    std::vector<OpenMM::Vec3>& getQMForces() {
        return qmForces;
    }
    std::vector<OpenMM::Vec3>& getMMForces() {
        return mmForces;
    }
    /** dE/dQ_j in kJ/mol/e for all charges, needed from getFirstSwitchedCharge() on: the switching forces follow from it. */
    std::vector<double>& getChargePotential() {
        return chargePotential;
    }
    /** Set all forces to zero. */
    void clearForces();
    /**
     * Set forces, a list over all particles of the System, to those that follow from the forces held here.
     *
     * @param[in,out] forces  what an earlier call left, or zeros and no particles
     */
    void scatterForces(ParticleForces& forces) const;
    /**
     * Get the energy - k_e sum_j S_g(j) sum_a C_aj / R_aj and add its forces.
     *
     * @throws OpenMMException if a charge is closer than 1e-3 nm to a QM particle whose fixed charge is not zero
     */
    double computeSubtractiveTerm();
    /**
     * Compute the damped potential phi_a = k_e sum_j Q_j / sqrt(R_aj^2 + d_a^2), in kJ/mol/e, at every QM atom.
     *
     * @param dampingLengths   d_a for each QM atom
     */
    void computePotential(const std::vector<double>& dampingLengths, std::vector<double>& potential) const;
    /** Compute phi_a, and its derivative by the position of atom a at fixed charges, in kJ/mol/e/nm. */
    void computePotential(const std::vector<double>& dampingLengths, std::vector<double>& potential, std::vector<OpenMM::Vec3>& gradient);
    /** Add the forces of an energy that depends on phi_a, given q_a = dE/dphi_a. */
    void addPotentialForces(const std::vector<double>& dampingLengths, const std::vector<double>& charges);
private:
    struct LinkAtom {
        int qm, particle; // index in the QM region; MM particle of the System
        double distance;
    };
    struct VirtualCharge {
        std::vector<int> particles, qm; // of the System; index in the QM region or -1
        std::vector<int> image, place;  // of the group that is not switched, or -1; place in the group
        std::vector<double> weights;
        double charge;
        int atomicNumber;
    };
    struct Exception {
        int qm, charge; // index in the QM region; index of the embedding charge
        double product;
    };
    /** All that energy and forces depend on, apart from the parameters. */
    struct Geometry {
        std::vector<OpenMM::Vec3> qm, linkBonds, mm;
        std::vector<int> charges; // the embedding charge of each element of mm after the virtual ones
        std::vector<EmbeddingGroups::Image> images;
        int numWhole = 0; // images with factor 1
        bool operator==(const Geometry& other) const;
    };
    void readLinkAtoms(const QMRegionForce& force, const OpenMM::System& system);
    void readCharges(const QMRegionForce& force, const OpenMM::System& system);
    void readVirtualCharges(const QMRegionForce& force, const OpenMM::System& system);
    void readExceptions(const QMRegionForce& force);
    void locateQMRegion(const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box, Geometry& geometry) const;
    void findCharges(const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box, const std::vector<int>* groupsInReach, Geometry& geometry);
    void checkFinite(const Geometry& geometry) const;
    OpenMM::Vec3 locateVirtualCharge(const VirtualCharge& charge, const std::vector<OpenMM::Vec3>& positions, const Geometry& geometry) const;
    void prepareCharges();
    void listParticles();
    void addToList(int particle);
    double addForcesOfPoint(int first, int qm, double d2, double scale, double& minR2);
    bool isPeriodic, hasFixedCharges, hasPositions;
    struct GroupCharge {
        int charge, place; // index of the embedding charge; place of its particle in the group
    };
    std::vector<int> qmParticles, chargeParticles, chargeNumbers, ungrouped;
    std::vector<std::vector<GroupCharge> > chargesOfGroup;
    std::vector<std::vector<OpenMM::Vec3> > located; // particles of the groups that are not switched, and one to work with
    std::vector<double> fixedCharges, charges;
    std::vector<LinkAtom> linkAtoms;
    std::vector<VirtualCharge> virtualCharges;
    std::vector<Exception> exceptions;
    EmbeddingGroups groups;
    Geometry current, next;
    double boxMargin;
    int firstSwitched;
    std::vector<int> mmAtomicNumbers, placeOfCharge;
    std::vector<int> forcedParticles; // those that scatterForces() has a force for
    std::vector<char> isListed;       // whether a particle is one of them
    std::vector<double> mmCharges, mmFactors, chargePotential, switchDerivative;
    std::vector<OpenMM::Vec3> qmForces, mmForces, qmParticlePositions;
    CoulombSums sums;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_EMBEDDING_H_*/
