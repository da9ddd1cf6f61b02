#include "KStepOpenCLTests.h"
#include "TestKStepReweight.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
