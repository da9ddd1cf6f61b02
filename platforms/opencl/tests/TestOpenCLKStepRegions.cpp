#include "KStepOpenCLTests.h"
#include "TestKStepRegions.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
