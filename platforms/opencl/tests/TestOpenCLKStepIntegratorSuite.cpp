#include "KStepOpenCLTests.h"
#include "TestKStepIntegratorSuite.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
