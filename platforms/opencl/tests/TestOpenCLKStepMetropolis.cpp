#include "KStepOpenCLTests.h"
#include "TestKStepMetropolis.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
