#ifndef OPENMMKSTEP_DEVICEPARTICLES_H_
#define OPENMMKSTEP_DEVICEPARTICLES_H_

#include "openmm/Vec3.h"
#include "openmm/common/ComputeArray.h"
#include "openmm/common/ComputeContext.h"
#include <map>
#include <string>
#include <vector>

namespace OpenMMKStep {

/** OpenMM keeps forces as integers in units of 2^-32 kJ/mol/nm. */
constexpr double FORCE_SCALE = 4294967296.0;

/**
 * Where the particles of the System are on the device, which sorts its atoms now and then.
 */
class DeviceParticles {
public:
    DeviceParticles(OpenMM::ComputeContext& context);
    /** The atom of each particle, as an array on the device that is right until the atoms are sorted again. */
    OpenMM::ComputeArray& getOrder();
    /**
     * The device wraps molecules into the box.  Adds to a position read from it the box vectors that bring it back to
     * where the user has it.
     */
    void unwrap(OpenMM::Vec3& position, int particle) const;
    /** Call once before unwrap(): gets the box. */
    void prepareUnwrapping();
    /** Program text, with what every kernel of this library needs before it. */
    OpenMM::ComputeProgram compile(const std::string& source, std::map<std::string, std::string> defines=std::map<std::string, std::string>());
    /** Add the arguments of POSITION_ARGS. */
    void addPositionArgs(OpenMM::ComputeKernel kernel);
    /** Set the five arguments, of type real4, that describe the periodic box. */
    void setBoxArgs(OpenMM::ComputeKernel kernel, int index) const;
    /** Whether the type 'mixed' is double. */
    bool isMixedDouble() const {
        return context.getUseDoublePrecision() || context.getUseMixedPrecision();
    }
    /** Set an argument of type 'mixed'. */
    void setMixedArg(OpenMM::ComputeKernel kernel, int index, double value) const;
    /** The size in bytes of the type 'mixed'. */
    int getMixedSize() const {
        return isMixedDouble() ? sizeof(double) : sizeof(float);
    }
    /** The vectors of an array of mixed4, without the fourth component. */
    void download(const OpenMM::ComputeArray& array, std::vector<OpenMM::Vec3>& values) const;
    /** Set an array of mixed4. */
    void upload(OpenMM::ComputeArray& array, const std::vector<OpenMM::Vec3>& values) const;
private:
    OpenMM::ComputeContext& context;
    OpenMM::ComputeArray order;
    std::vector<int> atomIndex, atomOfParticle;
    OpenMM::Vec3 box[3];
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_DEVICEPARTICLES_H_*/
