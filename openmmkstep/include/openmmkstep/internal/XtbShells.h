#ifndef OPENMMKSTEP_XTBSHELLS_H_
#define OPENMMKSTEP_XTBSHELLS_H_

namespace OpenMMKStep {

/**
 * The shells of an element in GFN1-xTB or GFN2-xTB, in the order of libxtb's atomic orbitals.  Energies are in Hartree.
 */
struct XtbShells {
    /** Hardness of the element: that of an external charge. */
    double hardness;
    int numShells;
    int angularMomentum[3];
    double shellHardness[3];
    /** Electrons in the neutral atom. */
    double occupation[3];
    /** Get the shells of an element, 1 to 86. */
    static const XtbShells& get(bool isGFN1, int atomicNumber);
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBSHELLS_H_*/
