#ifndef OPENMMKSTEP_ENGINELIBRARY_H_
#define OPENMMKSTEP_ENGINELIBRARY_H_

#include <mutex>
#include <string>
#include <vector>

namespace OpenMMKStep {

/**
 * The shared library of an engine, looked for in several places, loaded with dlopen() and kept for the life of the
 * process.
 */
class EngineLibrary {
public:
    EngineLibrary(const EngineLibrary&) = delete;
    EngineLibrary& operator=(const EngineLibrary&) = delete;
    /** Get the name of the engine. */
    const std::string& getName() const {
        return name;
    }
    /** Get the file that was loaded. */
    const std::string& getPath() const {
        return path;
    }
    /** Get the version of the engine, or an empty string if it is not known. */
    const std::string& getVersion() const {
        return version;
    }
    /** One call at a time in the whole process: engines have global state. */
    std::mutex& getMutex() const {
        return mutex;
    }
    /**
     * Pins the number of threads of the OpenMP and BLAS libraries that the engine is linked to.  Gives the caller's OpenMP
     * thread count back: torch or OpenMM may use the same library.
     */
    class ThreadCountGuard {
    public:
        ThreadCountGuard(const EngineLibrary& library, int numThreads);
        ~ThreadCountGuard();
    private:
        const EngineLibrary& library;
        int previous;
    };
    /** Where a library may be. */
    struct Place {
        /** What users call it. */
        std::string name;
        /** The path or soname; empty if there is nothing to try. */
        std::string file;
        /** Why there is nothing to try. */
        std::string reason;
    };
protected:
    /**
     * Get the places in their order: where an environment variable is set, only what it names, else the file that Python
     * found in a package of PyPI, the system's library path, and the conda environment.
     */
    static std::vector<Place> listPlaces(const std::string& variable, const std::string& package, const std::string& packageFile, const std::string& soname);
    /**
     * Load the first library that can be loaded.
     *
     * @param neighbours  beginnings of the names of libraries in the same folder that must be loaded before, in this
     *                    order, if the library does not find them by itself
     * @param remedy      what the error message tells the user to do
     * @throws OpenMMException if there is none; the message lists all places
     */
    EngineLibrary(const std::string& name, const std::vector<Place>& places, const std::vector<std::string>& neighbours, const std::string& remedy);
    /**
     * Get a function of the library, or of one that it is linked to.
     *
     * @throws OpenMMException if it is not there
     */
    template <class T>
    void lookUp(const char* function, T& pointer) const {
        pointer = reinterpret_cast<T>(find(function));
        if (pointer == NULL)
            failLookUp(function);
    }
    /** Get a function, or NULL. */
    void* find(const char* function) const;
    std::string version;
    /** The oldest version that has all functions, for the error message. */
    std::string oldestVersion;
private:
    void failLookUp(const char* function) const;
    std::string name, path;
    void* handle;
    mutable std::mutex mutex;
    // NULL where the library has none.
    void (*ompSetNumThreads)(int);
    int (*ompGetMaxThreads)();
    void (*openblasSetNumThreads)(int);
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_ENGINELIBRARY_H_*/
