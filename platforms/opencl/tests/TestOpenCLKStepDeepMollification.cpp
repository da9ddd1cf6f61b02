#include "KStepOpenCLTests.h"
#include "TestKStepDeepMollification.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
