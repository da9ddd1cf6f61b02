#ifndef OPENMMKSTEP_TEMPORARYFOLDER_H_
#define OPENMMKSTEP_TEMPORARYFOLDER_H_

#include "openmmkstep/internal/export.h"
#include <string>

namespace OpenMMKStep {

/**
 * A folder of its own, which only this user can read, for as long as the object lives: in the folder that the
 * environment variable TMPDIR names, else in /tmp.
 */
class OPENMM_EXPORT_KSTEP TemporaryFolder {
public:
    /**
     * @param owner    the class that the error message begins with
     * @param purpose  what the error message says that the folder is for
     * @throws OpenMMException if it cannot be made
     */
    TemporaryFolder(const std::string& owner, const std::string& purpose);
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    /** Get its absolute path. */
    const std::string& getPath() const {
        return path;
    }
private:
    std::string path;
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_TEMPORARYFOLDER_H_*/
