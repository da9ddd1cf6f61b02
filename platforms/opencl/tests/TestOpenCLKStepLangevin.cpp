#include "KStepOpenCLTests.h"
#include "TestKStepLangevin.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
