#include "KStepOpenCLTests.h"
#include "TestKStepRecovery.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
