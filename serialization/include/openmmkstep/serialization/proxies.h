#ifndef OPENMMKSTEP_PROXIES_H_
#define OPENMMKSTEP_PROXIES_H_

#include "openmm/serialization/SerializationProxy.h"
#include "openmmkstep/internal/export.h"

namespace OpenMMKStep {

class XtbForceProxy : public OpenMM::SerializationProxy {
public:
    XtbForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

class KStepModelForceProxy : public OpenMM::SerializationProxy {
public:
    KStepModelForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

class KStepIntegratorProxy : public OpenMM::SerializationProxy {
public:
    KStepIntegratorProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

} // namespace OpenMMKStep

/** Make the proxies known to XmlSerializer.  Runs when the library is loaded; calling it again does nothing. */
extern "C" OPENMM_EXPORT_KSTEP void registerKStepSerializationProxies();

#endif /*OPENMMKSTEP_PROXIES_H_*/
