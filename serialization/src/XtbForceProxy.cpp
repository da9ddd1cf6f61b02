#include "QMRegionNodes.h"
#include "openmmkstep/XtbForce.h"
#include "openmmkstep/serialization/proxies.h"
#include <memory>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

XtbForceProxy::XtbForceProxy() : SerializationProxy("XtbForce") {
}

void XtbForceProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 3);
    const XtbForce& force = *reinterpret_cast<const XtbForce*>(object);
    node.setStringProperty("method", force.getMethod());
    node.setStringProperty("engine", force.getEngine());
    node.setIntProperty("charge", force.getCharge());
    node.setIntProperty("multiplicity", force.getMultiplicity());
    node.setDoubleProperty("accuracy", force.getAccuracy());
    node.setDoubleProperty("electronicTemperature", force.getElectronicTemperature());
    node.setIntProperty("maxIterations", force.getMaxIterations());
    node.setIntProperty("numThreads", force.getNumThreads());
    writeQMRegion(force, node);
    SerializationNode& elements = node.createChildNode("Elements");
    for (int number : force.getAtomicNumbers())
        elements.createChildNode("Element").setIntProperty("number", number);
}

void* XtbForceProxy::deserialize(const SerializationNode& node) const {
    checkVersion(node, 3);
    vector<int> numbers;
    for (const SerializationNode& element : node.getChildNode("Elements").getChildren())
        numbers.push_back(element.getIntProperty("number"));
    unique_ptr<XtbForce> force(new XtbForce(node.getStringProperty("method"), readParticles(node), numbers, node.getIntProperty("charge"), node.getIntProperty("multiplicity")));
    force->setEngine(node.getStringProperty("engine", "auto")); // versions 1 and 2 have none
    force->setAccuracy(node.getDoubleProperty("accuracy"));
    force->setElectronicTemperature(node.getDoubleProperty("electronicTemperature"));
    force->setMaxIterations(node.getIntProperty("maxIterations"));
    force->setNumThreads(node.getIntProperty("numThreads"));
    readQMRegion(*force, node);
    return force.release();
}
