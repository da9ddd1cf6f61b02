#include "KStepOpenCLTests.h"
#include "TestKStepResonance.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
