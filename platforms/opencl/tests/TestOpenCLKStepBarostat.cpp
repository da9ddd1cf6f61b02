#include "KStepOpenCLTests.h"
#include "TestKStepBarostat.h"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
