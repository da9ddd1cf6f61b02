#include "KStepOpenCLTests.h"
#include "TestKStepRestart.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
