#ifndef OPENMMKSTEP_LIBXTBLIBRARY_H_
#define OPENMMKSTEP_LIBXTBLIBRARY_H_

#include "openmmkstep/internal/EngineLibrary.h"

namespace OpenMMKStep {

/**
 * libxtb.  The function pointers have the signatures of its xtb.h (API version 2).
 */
class LibxtbLibrary : public EngineLibrary {
public:
    typedef struct Opaque* Handle;
    /**
     * Get the library, loading it if necessary.
     *
     * @throws OpenMMException if it cannot be found or loaded, or lacks a function that is needed
     */
    static const LibxtbLibrary& get();
    /** Tell where the library of the PyPI package xtb is, before it is loaded; empty if there is none. */
    static void setPackageFile(const std::string& file);
    /** Get the places where the library is looked for, in their order. */
    static std::vector<Place> getPlaces();

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
    /** Writes out the buffers of the Fortran library (NULL: of all units); NULL where it is not linked dynamically. */
    void (*flushFortran)(const int* unit);
private:
    LibxtbLibrary();
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_LIBXTBLIBRARY_H_*/
