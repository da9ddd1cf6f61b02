#include "openmm_interop.h"
#include <openmm/OpenMMException.h>
#include <openmm/serialization/SerializationNode.h>
#include <openmm/serialization/SerializationProxy.h>
#include <map>
#include <mutex>

using namespace OpenMM;
using namespace std;

namespace {

const char* HAND_OVER_TYPE = "OpenMMKStepHandOver";

class HandOverProxy : public SerializationProxy {
public:
    HandOverProxy() : SerializationProxy(HAND_OVER_TYPE), nextToken(0) {
    }
    string park(void* object, const string& tag) {
        lock_guard<mutex> lock(guard);
        int token = nextToken++;
        parked[token] = object;
        return "<"+tag+" type=\""+HAND_OVER_TYPE+"\" token=\""+to_string(token)+"\"/>";
    }
    void serialize(const void* object, SerializationNode& node) const override {
        throw OpenMMException("Objects are not serialized through the hand-over proxy.");
    }
    void* deserialize(const SerializationNode& node) const override {
        lock_guard<mutex> lock(guard);
        auto entry = parked.find(node.getIntProperty("token"));
        if (entry == parked.end())
            throw OpenMMException("This object has been handed over already.");
        void* object = entry->second;
        parked.erase(entry);
        return object;
    }
private:
    mutable mutex guard;
    mutable map<int, void*> parked;
    int nextToken;
};

HandOverProxy& proxy() {
    static HandOverProxy* instance = new HandOverProxy(); // lives as long as OpenMM's table of proxies
    return *instance;
}

/** Proxies are registered by type; this one is only ever found by its name. */
struct HandOver {
};

} // namespace

void OpenMMKStep::registerHandOverProxy() {
    SerializationProxy::registerProxy(typeid(HandOver), &proxy());
}

string OpenMMKStep::park(Force* force) {
    return proxy().park(force, "Force");
}

string OpenMMKStep::park(Integrator* integrator) {
    return proxy().park(integrator, "Integrator");
}
