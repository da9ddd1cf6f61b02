#include "KStepOpenCLTests.h"
#include "TestKStepMollified.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
