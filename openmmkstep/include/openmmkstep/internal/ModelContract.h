#ifndef OPENMMKSTEP_MODELCONTRACT_H_
#define OPENMMKSTEP_MODELCONTRACT_H_

#include "openmm/System.h"
#include "openmm/Vec3.h"
#include <string>
#include <vector>

namespace OpenMMKStep {

/**
 * What a model file says about itself, as far as the C++ code needs it.  The Python class openmmkstep.ModelContract
 * documents and writes all fields; the text is XML in the form that OpenMM's XmlSerializer reads.
 */
struct ModelContract {
    std::string kind;                      ///< "potential" or "jump"
    std::vector<int> species;              ///< atomic numbers in order
    bool hasPotentialInput;                ///< the model takes phi
    bool outputsForces;                    ///< the model returns (energy, forces [, charges]) instead of energy
    std::vector<double> dampingLengths;    ///< d_a in nm, for models with phi
    int hardnessElement;                   ///< element of the embedding charges the model was trained with
    int charge, multiplicity;              ///< of the molecule
    bool hasForceInput;                    ///< a jump model that takes the forces
    int jumpSteps;                         ///< base steps that a jump model covers; 0 for potentials
    double jumpStepSize;                   ///< its base step in ps; 0 for potentials
    /** The distance of two atoms in the training data. */
    struct DistanceRange {
        int atom1, atom2;                  ///< indices in species
        double min, max;                   ///< nm
    };
    std::vector<DistanceRange> distanceRanges;  ///< the region of validity; empty if not declared
    /** Whether a distance of two atoms is outside the range that the contract declares, if it does (positions in nm). */
    bool isOutsideTrainingRegion(const std::vector<OpenMM::Vec3>& positions) const;
    /**
     * Check that the XtbForces in a force group are of the same particles, in any order, elements, charge and multiplicity.
     *
     * @param particles  those that the model acts on, in the order of species
     * @param owner  the class that error messages begin with
     * @throws OpenMMException if they are not
     */
    void checkCorrector(const OpenMM::System& system, int correctorForceGroup, const std::vector<int>& particles,
                        const std::string& owner) const;
    /**
     * Read a contract.
     *
     * @param owner  the class that error messages begin with
     * @throws OpenMMException if the text is empty, malformed, or of an unknown version
     */
    static ModelContract parse(const std::string& text, const std::string& owner);
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_MODELCONTRACT_H_*/
