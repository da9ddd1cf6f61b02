#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/internal/KStepModelForceImpl.h"
#include "openmm/OpenMMException.h"
#include <memory>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepModelForce::KStepModelForce(const vector<int>& particles) : QMRegionForce(particles), correctorForceGroup(1), numThreads(1), device("cpu") {
}

KStepModelForce::KStepModelForce(const string& file, const vector<int>& particles) : KStepModelForce(particles) {
    modelData = KStepModel::readFile(file, "KStepModelForce");
}

KStepModelForce* KStepModelForce::fromModelData(const string& data, const vector<int>& particles) {
    unique_ptr<KStepModelForce> force(new KStepModelForce(particles));
    force->modelData = data;
    return force.release();
}

void KStepModelForce::setCorrectorForceGroup(int group) {
    if (group < 0 || group > 31)
        throw OpenMMException("KStepModelForce: force groups are numbered 0 to 31, found "+to_string(group)+".");
    correctorForceGroup = group;
}

void KStepModelForce::setNumThreads(int threads) {
    if (threads < 1)
        throw OpenMMException("KStepModelForce: the number of threads must be at least 1.");
    numThreads = threads;
}

void KStepModelForce::setDevice(const string& device) {
    this->device = device;
}

void KStepModelForce::allowNativeCode() const {
    KStepModel::allowNativeCode(modelData);
}

bool KStepModelForce::isOutsideTrainingRegion(Context& context) {
    return dynamic_cast<KStepModelForceImpl&>(getImplInContext(context)).isOutsideTrainingRegion(getContextImpl(context));
}

ForceImpl* KStepModelForce::createImpl() const {
    return new KStepModelForceImpl(*this);
}
