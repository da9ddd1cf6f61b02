#ifndef OPENMMKSTEP_XTBLIBRARY_H_
#define OPENMMKSTEP_XTBLIBRARY_H_

#include <mutex>
#include <string>

namespace OpenMMKStep {

/**
 * libxtb, loaded with dlopen() at first use and kept for the life of the process.  The function pointers have the
 * signatures of libxtb's xtb.h (API version 2).
 */
class XtbLibrary {
public:
    typedef struct Opaque* Handle;
    /**
     * Get the library, loading it if necessary.
     *
     * @throws OpenMMException if it cannot be found or loaded, or lacks a function that is needed
     */
    static const XtbLibrary& get();
    /** Tell where libxtb is, before it is loaded. */
    static void setPath(const std::string& path);
    /** libxtb keeps global state: one call at a time in the whole process. */
    static std::mutex& getMutex();

    Handle (*newEnvironment)();
    void (*delEnvironment)(Handle* env);
    int (*checkEnvironment)(Handle env);
    void (*getError)(Handle env, char* buffer, const int* size);
    void (*setVerbosity)(Handle env, int verbosity);
    Handle (*newMolecule)(Handle env, const int* natoms, const int* numbers, const double* positions, const double* charge, const int* uhf, const double* lattice, const bool* periodic);
    void (*delMolecule)(Handle* mol);
    void (*updateMolecule)(Handle env, Handle mol, const double* positions, const double* lattice);
    Handle (*newCalculator)();
    void (*delCalculator)(Handle* calc);
    void (*loadGFN1xTB)(Handle env, Handle mol, Handle calc, char* filename);
    void (*loadGFN2xTB)(Handle env, Handle mol, Handle calc, char* filename);
    void (*loadGFNFF)(Handle env, Handle mol, Handle calc, char* filename);
    void (*setExternalCharges)(Handle env, Handle calc, int* n, int* numbers, double* charges, double* positions);
    void (*setAccuracy)(Handle env, Handle calc, double accuracy);
    void (*setMaxIter)(Handle env, Handle calc, int iterations);
    void (*setElectronicTemp)(Handle env, Handle calc, double temperature);
    void (*singlepoint)(Handle env, Handle mol, Handle calc, Handle results);
    Handle (*newResults)();
    void (*delResults)(Handle* results);
    void (*getEnergy)(Handle env, Handle results, double* energy);
    void (*getGradient)(Handle env, Handle results, double* gradient);
    void (*getPCGradient)(Handle env, Handle results, double* gradient);
    void (*getCharges)(Handle env, Handle results, double* charges);
    void (*getNao)(Handle env, Handle results, int* nao);
    void (*getOrbitalOccupations)(Handle env, Handle results, double* occupations);
    void (*getOrbitalCoefficients)(Handle env, Handle results, double* coefficients);
    /** Thread counts of the OpenMP and BLAS libraries that libxtb itself is linked to; NULL where it has none. */
    void (*ompSetNumThreads)(int);
    int (*ompGetMaxThreads)();
    void (*openblasSetNumThreads)(int);
    /** Writes out the buffers of the Fortran library (NULL: of all units); NULL where it is not linked dynamically. */
    void (*flushFortran)(const int* unit);
private:
    XtbLibrary();
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_XTBLIBRARY_H_*/
