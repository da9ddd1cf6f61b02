#ifndef OPENMMKSTEP_TBLITELIBRARY_H_
#define OPENMMKSTEP_TBLITELIBRARY_H_

#include "openmmkstep/internal/EngineLibrary.h"

namespace OpenMMKStep {

/**
 * tblite.  The function pointers have the signatures of its tblite.h.  In the PyPI package the whole API is in the
 * extension module, which can be loaded into any Python process (and, lacking Python's symbols, into no other).
 */
class TbliteLibrary : public EngineLibrary {
public:
    typedef struct Opaque* Handle;
    /**
     * Get the library, loading it if necessary.
     *
     * @throws OpenMMException if it cannot be found or loaded, or lacks a function that is needed
     */
    static const TbliteLibrary& get();
    /** Tell where the library of the PyPI package tblite is, before it is loaded; empty if there is none. */
    static void setPackageFile(const std::string& file);
    /** Get the places where the library is looked for, in their order. */
    static std::vector<Place> getPlaces();

    Handle (*newError)();
    void (*deleteError)(Handle* error);
    int (*checkError)(Handle error);
    void (*getError)(Handle error, char* buffer, const int* size);
    Handle (*newContext)();
    void (*deleteContext)(Handle* context);
    int (*checkContext)(Handle context);
    void (*getContextError)(Handle context, char* buffer, const int* size);
    void (*setContextVerbosity)(Handle context, int verbosity);
    Handle (*newStructure)(Handle error, int natoms, const int* numbers, const double* positions, const double* charge, const int* uhf, const double* lattice, const bool* periodic);
    void (*deleteStructure)(Handle* structure);
    void (*updateStructureGeometry)(Handle error, Handle structure, const double* positions, const double* lattice);
    /** Versions before 0.8 have no third argument and ignore it. */
    Handle (*newGFN1Calculator)(Handle context, Handle structure, const void* configuration);
    Handle (*newGFN2Calculator)(Handle context, Handle structure, const void* configuration);
    void (*deleteCalculator)(Handle* calculator);
    void (*setCalculatorAccuracy)(Handle context, Handle calculator, double accuracy);
    void (*setCalculatorMaxIter)(Handle context, Handle calculator, int iterations);
    void (*setCalculatorTemperature)(Handle context, Handle calculator, double hartree);
    Handle (*newResult)();
    void (*deleteResult)(Handle* result);
    void (*getSinglepoint)(Handle context, Handle structure, Handle calculator, Handle result);
    void (*getResultEnergy)(Handle error, Handle result, double* energy);
    void (*getResultGradient)(Handle error, Handle result, double* gradient);
    void (*getResultCharges)(Handle error, Handle result, double* charges);
private:
    TbliteLibrary();
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_TBLITELIBRARY_H_*/
