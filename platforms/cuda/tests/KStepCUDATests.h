#include "TestUtilities.h"

void loadPlugins() {
    KStepTests::loadGPUPlugins("CUDA", OPENMM_CUDA_PLUGIN, KSTEP_REFERENCE_PLUGIN, KSTEP_CUDA_PLUGIN);
}
