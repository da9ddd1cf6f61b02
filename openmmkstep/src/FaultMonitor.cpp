#include "openmmkstep/internal/FaultMonitor.h"
#include <algorithm>
#include <cmath>

using namespace OpenMMKStep;
using namespace std;

static const int LEARNING_STEPS = 100;
static const double MAX_DEVIATIONS = 5;
static const double MIN_D_IN_KT = 4;

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

void FaultMonitor::record(double d, double accelerationNorm) {
    dDistribution.add(d);
    accelerationDistribution.add(accelerationNorm);
}

FaultMonitor::Fault FaultMonitor::check(double d, double accelerationNorm, double kT, double interval) const {
    if (!isfinite(d) || !isfinite(accelerationNorm))
        return NonFinite;
    if (dDistribution.count < LEARNING_STEPS)
        return None;
    if (fabs(d-dDistribution.mean) > max(MAX_DEVIATIONS*dDistribution.getStandardDeviation(), MIN_D_IN_KT*kT))
        return OutlierD;
    // What an impulse of these forces brings to particles at rest: below kT it does no harm, however unusual it is.
    double kick = 0.5*pow(interval*accelerationNorm, 2);
    if (kick > kT && accelerationNorm > accelerationDistribution.mean+MAX_DEVIATIONS*accelerationDistribution.getStandardDeviation())
        return OutlierForce;
    return None;
}
