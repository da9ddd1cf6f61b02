#ifndef OPENMMKSTEP_XTBFORCE_H_
#define OPENMMKSTEP_XTBFORCE_H_

#include "openmmkstep/QMRegionForce.h"
#include <string>

namespace OpenMMKStep {

/**
 * The energy of a QM region by extended tight binding, in the field of embedding charges:
 *
 *     E = E_xTB(x_QM; {S_g(j) Q_j at x_j}) - k_e sum_j S_g(j) sum_a C_aj / R_aj
 *
 * Forces are minus the gradient of this energy for every QM particle, every particle that a bond was cut to, and every
 * charge.  The QM region, with its link hydrogens, is treated as one molecule.  Energies contain the absolute energy of
 * xTB (some -1e4 to -1e6 kJ/mol).
 *
 * GFN-FF derives its topology from the first geometry that a Context evaluates, so start from a reasonable one.  It
 * cannot be embedded.
 *
 * OpenMM's LocalEnergyMinimizer begins with a step of 1 nm, summed over all particles; a QM region without surroundings
 * may be torn apart by it, and the SCF failure ends the minimization.  A few hundred steps of LangevinMiddleIntegrator
 * at 10 K do the same job.
 *
 * Two engines compute it, to within 1e-3 kJ/mol of each other: libxtb, and tblite, which has neither point charges nor
 * GFN-FF; see setEngine().  An engine is looked for when a Context is created: where the environment variable
 * OPENMMKSTEP_LIBXTB (OPENMMKSTEP_LIBTBLITE) names a file, there and nowhere else; otherwise in the PyPI package xtb
 * (tblite), as Python tells with setPackageFile(), then as libxtb.so.6 (libtblite.so.0) on the system's library path,
 * then in the folder lib of the environment variable CONDA_PREFIX.
 */
class OPENMM_EXPORT_KSTEP XtbForce : public QMRegionForce {
public:
    /**
     * Create an XtbForce.
     *
     * @param method         "GFN1-xTB", "GFN2-xTB" or "GFN-FF"
     * @param particles      indices of the particles in the QM region
     * @param atomicNumbers  the element of each of them (1-86), in the same order
     * @param charge         total charge of the QM region in units of e
     * @param multiplicity   spin multiplicity 2S+1 of the QM region
     * @throws OpenMMException for an unknown method or element, lists of different lengths or repeated particles.  A
     *         multiplicity that the number of electrons, link hydrogens included, does not allow is refused when a
     *         Context is created
     */
    XtbForce(const std::string& method, const std::vector<int>& particles, const std::vector<int>& atomicNumbers,
             int charge=0, int multiplicity=1);
    /** Get the method: "GFN1-xTB", "GFN2-xTB" or "GFN-FF". */
    const std::string& getMethod() const {
        return method;
    }
    /** Get the atomic number of each particle in the QM region. */
    const std::vector<int>& getAtomicNumbers() const {
        return atomicNumbers;
    }
    /** Get the total charge of the QM region in units of e. */
    int getCharge() const {
        return charge;
    }
    /** Get the spin multiplicity 2S+1 of the QM region. */
    int getMultiplicity() const {
        return multiplicity;
    }
    /** Get the engine that was chosen: "auto", "libxtb" or "tblite". */
    const std::string& getEngine() const {
        return engine;
    }
    /**
     * Set the engine that computes the energy.
     *
     * @param engine   "libxtb"; "tblite", for GFN1-xTB and GFN2-xTB without embedding charges; or "auto", the default:
     *                 libxtb, or tblite if it can take its place where libxtb cannot be loaded and the environment
     *                 variable OPENMMKSTEP_LIBXTB does not ask for it
     */
    void setEngine(const std::string& engine);
    /**
     * Find the engine that computes this force in this process, "libxtb" or "tblite", and load it.
     *
     * @throws OpenMMException if there is none, or it cannot do what this force asks for
     */
    std::string findEngine() const;
    /** Get the accuracy of the SCF: a factor on the engine's own thresholds, smaller is tighter. */
    double getAccuracy() const {
        return accuracy;
    }
    /**
     * Set the accuracy of the SCF.  The default is 0.05.  What is left of the SCF drifts downhill in NVE: a guest of 30 atoms
     * in water lost 0.043 kJ/mol/ps at 0.2, 0.011 at 0.05 and 0.003 at 0.01; the engines' own default is 1.  0.05 costs 6 %
     * more than 0.2, and 0.01 12 %.
     */
    void setAccuracy(double accuracy);
    /** Get the electronic temperature of the Fermi smearing in K. */
    double getElectronicTemperature() const {
        return electronicTemperature;
    }
    /** Set the electronic temperature of the Fermi smearing in K; the default is the engines' 300 K. */
    void setElectronicTemperature(double temperature);
    /** Get the largest number of SCF iterations. */
    int getMaxIterations() const {
        return maxIterations;
    }
    /** Set the largest number of SCF iterations; the default is 250. */
    void setMaxIterations(int iterations);
    /** Get the number of threads that the engine uses. */
    int getNumThreads() const {
        return numThreads;
    }
    /** Set the number of threads that the engine uses; the default, 1, is the fastest below about 100 QM atoms. */
    void setNumThreads(int threads);
    /**
     * Get the atomic partial charges (Mulliken for GFN1 and GFN2) at the Context's current positions.
     *
     * @param[out] charges   the charge of each particle of the QM region and then of each link atom, in units of e
     */
    void getPartialCharges(OpenMM::Context& context, std::vector<double>& charges);
    /**
     * Compute what a model of the QM region is trained on: the QM region in the field of the charges around it, at the
     * Context's current positions.  The QM atoms are the particles of the QM region followed by the link atoms, whose
     * forces are not passed on to the ends of their bonds here.  All derivatives are at fixed positions and (switched)
     * charges of the surroundings.  Costs no calculation where the Context has one at these positions.
     *
     * @param dampingLengths           d_a in nm for each QM atom, positive; may be empty if there are no charges
     * @param[out] positions           of the QM atoms, in one piece, in nm
     * @param[out] energy              E_xTB without the subtractive term, in kJ/mol
     * @param[out] forces              on the QM atoms, in kJ/mol/nm
     * @param[out] charges             Mulliken charges in e; they are nearly dE/dphi_a.  Zero for GFN-FF, which has none
     * @param[out] potentials          phi_a = k_e sum_j S_g(j) Q_j / sqrt(R_aj^2 + d_a^2), in kJ/mol/e
     * @param[out] potentialGradients  derivative of phi_a by the position of atom a, in kJ/mol/e/nm
     * @throws OpenMMException if the calculation fails, the box is too small, or the damping lengths do not fit
     */
    void computeQMRegion(OpenMM::Context& context, const std::vector<double>& dampingLengths, std::vector<OpenMM::Vec3>& positions,
                         double& energy, std::vector<OpenMM::Vec3>& forces, std::vector<double>& charges,
                         std::vector<double>& potentials, std::vector<OpenMM::Vec3>& potentialGradients);
    /**
     * Get the hardness of an element in a method, in Hartree: that of an embedding charge.
     *
     * @param method        "GFN1-xTB" or "GFN2-xTB"
     * @param atomicNumber  1 to 86
     */
    static double getElementHardness(const std::string& method, int atomicNumber);
    /**
     * Get the version and the file of an engine, and load it.
     *
     * @param engine        "libxtb" or "tblite"
     * @param[out] version  such as "6.5.1"; empty if the library does not tell
     * @param[out] file     the path of the library
     * @throws OpenMMException if it cannot be loaded
     */
    static void getEngineInfo(const std::string& engine, std::string& version, std::string& file);
    /**
     * Get the places where an engine is looked for, in their order.
     *
     * @param engine        "libxtb" or "tblite"
     * @param[out] names    what each place is called
     * @param[out] files    the path or soname of the library there; empty if there is nothing to try
     */
    static void getEnginePlaces(const std::string& engine, std::vector<std::string>& names, std::vector<std::string>& files);
    /**
     * Tell where a PyPI package has the library of an engine; takes effect if it has not been loaded yet.  Process-wide.
     *
     * @param engine   "libxtb" or "tblite"
     * @param file     the path of the library
     */
    static void setPackageFile(const std::string& engine, const std::string& file);
protected:
    OpenMM::ForceImpl* createImpl() const;
private:
    std::string method, engine;
    std::vector<int> atomicNumbers;
    int charge, multiplicity, maxIterations, numThreads;
    double accuracy, electronicTemperature;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBFORCE_H_*/
