#ifndef OPENMMKSTEP_UNITCONSTANTS_H_
#define OPENMMKSTEP_UNITCONSTANTS_H_

namespace OpenMMKStep {

// All unit conversions of the C++ code. OpenMM's units are nm, ps, kJ/mol, e, K; those of libxtb and tblite atomic units.

/** Length of one bohr in nm (CODATA 2018). */
constexpr double NM_PER_BOHR = 0.0529177210903;
constexpr double BOHR_PER_NM = 1.0/NM_PER_BOHR;
/** One Hartree in kJ/mol (CODATA 2018). Times NM_PER_BOHR it gives COULOMB_CONSTANT to 1e-9. */
constexpr double KJ_PER_HARTREE = 2625.4996394799;
/** Force of one Hartree/bohr in kJ/mol/nm. */
constexpr double FORCE_PER_AU = KJ_PER_HARTREE*BOHR_PER_NM;
/** One kelvin in Hartree, as libxtb and tblite have it: the unit of tblite's electronic temperature. */
constexpr double HARTREE_PER_KELVIN = 3.166808578545117e-6;
/** Coulomb constant 1/(4 pi eps0) in kJ nm/(mol e^2): OpenMM's own value (SimTKOpenMMRealType.h), so that
 *  the subtracted interactions cancel those of NonbondedForce exactly. */
constexpr double COULOMB_CONSTANT = 138.93545764438198;
/** Gas constant in kJ/(mol K): OpenMM's own value (Units.h BOLTZ). */
constexpr double GAS_CONSTANT = 8.31446261815324e-3;

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_UNITCONSTANTS_H_*/
