#include "openmmkstep/internal/StepDivision.h"

using namespace OpenMMKStep;

static const int SUCCESSES_TO_GROW = 10;
static const int SUCCESSES_TO_LEAVE_PLAIN = 8;

void StepDivision::initialize(int macroStep, bool small, bool indivisible) {
    this->macroStep = macroStep;
    this->indivisible = indivisible;
    interval = (small ? 1 : macroStep);
    numSuccesses = 0;
    modelForbidden = false;
}

/** The largest divisor of n that is at most n/2. */
int StepDivision::smaller(int n) const {
    if (n <= 1 || indivisible)
        return 0;
    for (int divisor = 2; divisor <= n; divisor++)
        if (n%divisor == 0)
            return n/divisor;
    return 0;
}

int StepDivision::larger() const {
    int n = macroStep;
    while (n > 0 && smaller(n) != interval)
        n = smaller(n);
    return n;
}

bool StepDivision::shrink() {
    numSuccesses = 0;
    if (interval == 0)
        return false;
    interval = smaller(interval);
    return true;
}

void StepDivision::recordSuccess() {
    if (interval == macroStep || modelForbidden)
        return;
    if (++numSuccesses >= (interval == 0 ? SUCCESSES_TO_LEAVE_PLAIN : SUCCESSES_TO_GROW)) {
        interval = larger();
        numSuccesses = 0;
    }
}

void StepDivision::forbidModel() {
    interval = 0;
    modelForbidden = true;
}
