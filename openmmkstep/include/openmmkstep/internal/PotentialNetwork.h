#ifndef OPENMMKSTEP_POTENTIALNETWORK_H_
#define OPENMMKSTEP_POTENTIALNETWORK_H_

#include "openmm/Vec3.h"
#include "openmmkstep/internal/export.h"
#include <vector>

namespace OpenMMKStep {

/**
 * The potential that openmmkstep.training makes, evaluated without torch: several times faster than by TorchScript, whose
 * operations each cost a microsecond.  python/openmmkstep/training/fast.py is the definition; what its buffers hold is
 * here in Parameters.  Lengths are in nm, energies in kJ/mol, charges in e.
 *
 * Descriptors are 1/r of pairs of atoms, triple products of bond vectors, and phi.  The energy is an offset, a quadratic form
 * of the last of them, networks with two hidden layers of tanh, and a repulsion by r^-12.
 */
class OPENMM_EXPORT_KSTEP PotentialNetwork {
public:
    struct Pair {
        int first, second;
    };
    struct Triple {
        Pair bonds[3];
    };
    struct Parameters {
        int numAtoms, numPhi;  // numPhi is numAtoms, or 0 for a model without phi
        std::vector<Pair> pairs;
        std::vector<Triple> triples;
        std::vector<double> scale, shift;  // scaled descriptor = scale*descriptor+shift
        std::vector<double> halfMatrix, linear;  // of the last descriptors
        int numNetworks, width, hidden1, hidden2;
        std::vector<int> inputs;  // descriptors that each network sees: numNetworks*width
        std::vector<float> w1, b1, w2, b2, w3;  // (network, input, unit), row-major
        std::vector<double> rootStrengths;  // of the repulsion of pairs with a descriptor: its square root
        std::vector<Pair> otherPairs;  // pairs without descriptor that repel each other
        std::vector<double> otherStrengths;
        double offset;
    };
    /**
     * @throws OpenMMException if sizes or indices contradict each other
     */
    explicit PotentialNetwork(const Parameters& parameters);
    /**
     * Evaluate the potential.
     *
     * @param potential     phi_a in kJ/mol/e; not read by a model without phi
     * @param[out] forces   -dE/dx at constant phi in kJ/mol/nm
     * @param[out] charges  dE/dphi_a in e; not written by a model without phi
     * @return the energy in kJ/mol
     */
    double compute(const std::vector<OpenMM::Vec3>& positions, const std::vector<double>& potential,
                   std::vector<OpenMM::Vec3>& forces, std::vector<double>& charges);
    int getNumAtoms() const {
        return p.numAtoms;
    }
    bool hasPotentialInput() const {
        return p.numPhi > 0;
    }
    /** What is added to the energy, which is much larger than its differences. */
    double getOffset() const {
        return p.offset;
    }
private:
    void computeDescriptors(const std::vector<OpenMM::Vec3>& positions, const std::vector<double>& potential);
    double addQuadraticForm();
    double addNetworks();
    double addPairForces(std::vector<OpenMM::Vec3>& forces);
    double addOtherRepulsion(const std::vector<OpenMM::Vec3>& positions, std::vector<OpenMM::Vec3>& forces) const;
    void addTripleForces(std::vector<OpenMM::Vec3>& forces) const;
    Parameters p;
    int numPairs, numTriples, numDescriptors, firstQuadratic;
    std::vector<double> dx, dy, dz, inverse;  // of the pairs
    std::vector<OpenMM::Vec3> crosses;  // b x c, c x a, a x b of each triple
    std::vector<double> z, slope, bracket;  // scaled descriptors, dE/dz, linear+halfMatrix*z
    std::vector<float> input, inputSlope, work;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_POTENTIALNETWORK_H_*/
