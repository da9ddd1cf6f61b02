#ifndef OPENMMKSTEP_EMBEDDINGGROUPS_H_
#define OPENMMKSTEP_EMBEDDINGGROUPS_H_

#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmmkstep/QMRegionForce.h"
#include "openmmkstep/internal/PeriodicBox.h"
#include <vector>

namespace OpenMMKStep {

/**
 * Which groups of charges the QM region sees, in which image, and with which switching factor.
 */
class EmbeddingGroups {
public:
    /** A group that is seen. */
    struct Image {
        int group;
        /** Center of the group in the image that is seen. */
        OpenMM::Vec3 center;
        /** The switching factor S_g. */
        double factor;
    };
    /**
     * @throws OpenMMException if a particle does not exist, is in the QM region or in two groups, or if cutoff and groups
     *         do not fit together
     */
    EmbeddingGroups(const QMRegionForce& force, const OpenMM::System& system);
    int getNumGroups() const {
        return groups.size();
    }
    const std::vector<int>& getParticles(int group) const {
        return groups[group].particles;
    }
    bool isSwitched(int group) const {
        return groups[group].switched;
    }
    /** The group that a particle of the System is in, or -1. */
    int getGroup(int particle) const {
        return groupOf[particle];
    }
    /**
     * Find where the particles of a group are in the image that is seen, whole: each is in the image nearest to the one
     * before it, since a long molecule may reach over half the box.
     */
    void locateParticles(const Image& image, const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box,
                         std::vector<OpenMM::Vec3>& located) const;
    /** The distance beyond which nothing that is switched is seen, in nm. */
    double getCutoff() const {
        return cutoff;
    }
    /**
     * Find the groups that are seen.
     *
     * @param qmPositions   positions of the QM particles, in one piece
     * @param centroid      their centroid
     * @param radius        the largest distance of a QM particle from it
     * @param inReach       the switched groups to look at, ascending; all others must be out of range.  NULL: all of them
     * @param[out] images   first the groups that are not switched, in their order, then those with factor 1, then those
     *                      with a factor below 1
     * @return the number of groups with factor 1
     */
    int select(const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box, const std::vector<OpenMM::Vec3>& qmPositions,
               const OpenMM::Vec3& centroid, double radius, const std::vector<int>* inReach, std::vector<Image>& images);
    /**
     * Add the forces of an energy that depends on the switching factor of a group.
     *
     * @param derivative   dE/dS_g in kJ/mol
     * @param qmForces     forces on the QM particles
     * @param forces       forces on all particles of the System, of which those of the group are changed
     */
    void addSwitchingForces(const Image& image, double derivative, const std::vector<OpenMM::Vec3>& qmPositions,
                            std::vector<OpenMM::Vec3>& qmForces, std::vector<OpenMM::Vec3>& forces) const;
private:
    struct Group {
        std::vector<int> particles;
        int center;
        bool switched;
    };
    void findImage(int group, const std::vector<OpenMM::Vec3>& positions, const PeriodicBox& box, const OpenMM::Vec3& centroid, Image& image) const;
    double computeFactor(const OpenMM::Vec3& center, const std::vector<OpenMM::Vec3>& qmPositions) const;
    std::vector<Group> groups;
    std::vector<int> groupOf, alwaysSeen, switchedGroups, switchedCenters; // center particles of the switched ones, or -1
    std::vector<Image> partlySeen;
    double switchingDistance, cutoff;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_EMBEDDINGGROUPS_H_*/
