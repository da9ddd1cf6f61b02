#ifndef OPENMMKSTEP_COMMONKSTEPKERNELSOURCES_H_
#define OPENMMKSTEP_COMMONKSTEPKERNELSOURCES_H_

namespace OpenMMKStep {

/** The files of platforms/common/kernels; EncodeKernels.cmake writes them into the library. */
namespace KernelSources {
extern const char* const kstep;
extern const char* const positions;
extern const char* const region;
} // namespace KernelSources

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_COMMONKSTEPKERNELSOURCES_H_*/
