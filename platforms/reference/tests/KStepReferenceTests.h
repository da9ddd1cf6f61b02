#include "openmm/Platform.h"

/**
 * Load OpenMM's CPU platform and the plugin under test.  The plugin adds its kernel to the platforms that exist when
 * it is loaded, so CPU comes first.
 */
void loadPlugins() {
    OpenMM::Platform::loadPluginLibrary(OPENMM_CPU_PLUGIN);
    OpenMM::Platform::loadPluginLibrary(KSTEP_REFERENCE_PLUGIN);
}
