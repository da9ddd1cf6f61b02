#include "KStepOpenCLTests.h"
#include "TestKStepErrors.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
