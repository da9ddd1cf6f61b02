#include "TestUtilities.h"
void runTests() {}
