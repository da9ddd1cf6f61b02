#include "openmmkstep/internal/FaultMonitor.h"
#include <algorithm>
#include <cmath>

using namespace OpenMMKStep;
using namespace std;

static const int LEARNING_STEPS = 100;
static const double MAX_DEVIATIONS = 5;
static const double MIN_D_IN_KT = 4;
// Without a floor the rounding errors of a model that equals the corrector would have outliers.
static const double MIN_FORCE_IN_KT_PER_NM = 10;

const char* FaultMonitor::getName(Fault fault) {
    static const char* names[] = {"none", "nonFinite", "convergenceFailure", "outlierD", "outlierForce", "outsideRegion"};
    return names[fault];
}

void FaultMonitor::Distribution::add(double value) {
    count++;
    double delta = value-mean;
    mean += delta/count;
    sumSquares += delta*(value-mean);
}

double FaultMonitor::Distribution::getStandardDeviation() const {
    return sqrt(sumSquares/(count-1));
}

void FaultMonitor::record(double d, double forceNorm) {
    dDistribution.add(d);
    forceDistribution.add(forceNorm);
}

FaultMonitor::Fault FaultMonitor::check(double d, double forceNorm, double kT) const {
    if (!isfinite(d) || !isfinite(forceNorm))
        return NonFinite;
    if (dDistribution.count < LEARNING_STEPS)
        return None;
    if (fabs(d-dDistribution.mean) > max(MAX_DEVIATIONS*dDistribution.getStandardDeviation(), MIN_D_IN_KT*kT))
        return OutlierD;
    double mean = forceDistribution.mean;
    double excess = max(max(MAX_DEVIATIONS*forceDistribution.getStandardDeviation(), mean), MIN_FORCE_IN_KT_PER_NM*kT);
    if (forceNorm > mean+excess)
        return OutlierForce;
    return None;
}
