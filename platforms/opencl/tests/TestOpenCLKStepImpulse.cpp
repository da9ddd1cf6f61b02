#include "KStepOpenCLTests.h"
#include "TestKStepImpulse.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
