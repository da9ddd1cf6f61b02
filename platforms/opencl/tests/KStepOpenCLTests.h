#include "openmm/Platform.h"

/**
 * Load OpenMM's OpenCL platform and the plugins under test.  A plugin adds its kernels to the platforms that exist when
 * it is loaded.
 */
void loadPlugins() {
    OpenMM::Platform::loadPluginLibrary(OPENMM_OPENCL_PLUGIN);
    OpenMM::Platform::loadPluginLibrary(KSTEP_REFERENCE_PLUGIN);
    OpenMM::Platform::loadPluginLibrary(KSTEP_OPENCL_PLUGIN);
}
