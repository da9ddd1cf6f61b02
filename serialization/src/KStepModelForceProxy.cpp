#include "QMRegionNodes.h"
#include "base64.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/serialization/proxies.h"
#include <memory>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepModelForceProxy::KStepModelForceProxy() : SerializationProxy("KStepModelForce") {
}

void KStepModelForceProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 2);
    const KStepModelForce& force = *reinterpret_cast<const KStepModelForce*>(object);
    node.setIntProperty("correctorForceGroup", force.getCorrectorForceGroup());
    node.setIntProperty("numThreads", force.getNumThreads());
    if (force.getDevice() != "cpu")
        node.setStringProperty("device", force.getDevice());
    writeQMRegion(force, node);
    node.createChildNode("Model").setStringProperty("base64", encodeBase64(force.getModelData()));
}

void* KStepModelForceProxy::deserialize(const SerializationNode& node) const {
    checkVersion(node, 2);
    string data = decodeBase64(node.getChildNode("Model").getStringProperty("base64"), "KStepModelForce");
    unique_ptr<KStepModelForce> force(KStepModelForce::fromModelData(data, readParticles(node)));
    force->setCorrectorForceGroup(node.getIntProperty("correctorForceGroup"));
    force->setNumThreads(node.getIntProperty("numThreads"));
    force->setDevice(node.getStringProperty("device", "cpu"));
    readQMRegion(*force, node);
    return force.release();
}
