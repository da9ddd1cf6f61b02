#include "KStepReferenceTests.h"
#include "TestKStepQMRegion.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
