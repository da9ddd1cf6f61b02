#include "KStepOpenCLTests.h"
#include "TestKStepContext.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
