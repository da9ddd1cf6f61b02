#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/XtbForce.h"
#include "openmmkstep/serialization/proxies.h"

using namespace OpenMMKStep;
using namespace OpenMM;

extern "C" __attribute__((constructor)) void registerKStepSerializationProxies() {
    static bool registered = false;
    if (registered)
        return;
    registered = true;
    SerializationProxy::registerProxy(typeid(XtbForce), new XtbForceProxy());
    SerializationProxy::registerProxy(typeid(KStepModelForce), new KStepModelForceProxy());
    SerializationProxy::registerProxy(typeid(KStepIntegrator), new KStepIntegratorProxy());
}
