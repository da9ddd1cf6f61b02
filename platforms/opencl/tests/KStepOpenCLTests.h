#include "TestUtilities.h"

void loadPlugins() {
    KStepTests::loadGPUPlugins("OpenCL", OPENMM_OPENCL_PLUGIN, KSTEP_REFERENCE_PLUGIN, KSTEP_OPENCL_PLUGIN);
}
