#ifndef OPENMMKSTEP_MODELCONTRACT_H_
#define OPENMMKSTEP_MODELCONTRACT_H_

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
    /** The distance of two atoms in the training data. */
    struct DistanceRange {
        int atom1, atom2;                  ///< indices in species
        double min, max;                   ///< nm
    };
    std::vector<DistanceRange> distanceRanges;  ///< the region of validity; empty if not declared
    /**
     * Read a contract.
     *
     * @throws OpenMMException if the text is empty, malformed, or of an unknown version
     */
    static ModelContract parse(const std::string& text);
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_MODELCONTRACT_H_*/
