#include "QMRegionNodes.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/serialization/proxies.h"
#include "openmm/OpenMMException.h"
#include <memory>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const string BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static string encodeBase64(const string& data) {
    string text;
    for (size_t i = 0; i < data.size(); i += 3) {
        unsigned int bits = 0;
        for (size_t j = i; j < i+3; j++)
            bits = (bits << 8) | (j < data.size() ? (unsigned char) data[j] : 0);
        for (size_t j = 0; j < 4; j++)
            text += (i+j <= data.size() ? BASE64[(bits >> (18-6*j)) & 63] : '=');
    }
    return text;
}

static string decodeBase64(const string& text) {
    if (text.size()%4 != 0)
        throw OpenMMException("The model in the XML of a KStepModelForce is truncated.");
    string data;
    for (size_t i = 0; i < text.size(); i += 4) {
        unsigned int bits = 0, numBytes = 3;
        for (size_t j = i; j < i+4; j++) {
            size_t value = BASE64.find(text[j]);
            if (value == string::npos) {
                if (text[j] != '=' || i+4 != text.size() || numBytes == 1)
                    throw OpenMMException("The model in the XML of a KStepModelForce is corrupt.");
                numBytes--;
                value = 0;
            }
            else if (numBytes < 3)
                throw OpenMMException("The model in the XML of a KStepModelForce is corrupt.");
            bits = (bits << 6) | value;
        }
        for (unsigned int j = 0; j < numBytes; j++)
            data += (char) ((bits >> (16-8*j)) & 255);
    }
    return data;
}

KStepModelForceProxy::KStepModelForceProxy() : SerializationProxy("KStepModelForce") {
}

void KStepModelForceProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 1);
    const KStepModelForce& force = *reinterpret_cast<const KStepModelForce*>(object);
    node.setIntProperty("correctorForceGroup", force.getCorrectorForceGroup());
    node.setIntProperty("numThreads", force.getNumThreads());
    writeQMRegion(force, node);
    node.createChildNode("Model").setStringProperty("base64", encodeBase64(force.getModelData()));
}

void* KStepModelForceProxy::deserialize(const SerializationNode& node) const {
    checkVersion(node, 1);
    string data = decodeBase64(node.getChildNode("Model").getStringProperty("base64"));
    unique_ptr<KStepModelForce> force(KStepModelForce::fromModelData(data, readParticles(node)));
    force->setCorrectorForceGroup(node.getIntProperty("correctorForceGroup"));
    force->setNumThreads(node.getIntProperty("numThreads"));
    readQMRegion(*force, node);
    return force.release();
}
