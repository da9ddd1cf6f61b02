#include "QMRegionNodes.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/serialization/proxies.h"
#include <memory>
#include <vector>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepIntegratorProxy::KStepIntegratorProxy() : SerializationProxy("KStepIntegrator") {
}

void KStepIntegratorProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 1);
    const KStepIntegrator& integrator = *reinterpret_cast<const KStepIntegrator*>(object);
    node.setDoubleProperty("baseStepSize", integrator.getBaseStepSize());
    node.setIntProperty("k", integrator.getK());
    node.setStringProperty("scheme", integrator.getScheme());
    node.setDoubleProperty("temperature", integrator.getTemperature());
    node.setDoubleProperty("friction", integrator.getFriction());
    node.setDoubleProperty("constraintTolerance", integrator.getConstraintTolerance());
    node.setIntProperty("randomSeed", integrator.getRandomNumberSeed());
    node.setIntProperty("correctorForceGroup", integrator.getCorrectorForceGroup());
    node.setIntProperty("modelForceGroup", integrator.getModelForceGroup());
    node.setIntProperty("extraChances", integrator.getExtraChances());
    SerializationNode& bonds = node.createChildNode("MollifiedBonds");
    for (const KStepIntegrator::MollifiedBond& bond : integrator.getMollification())
        bonds.createChildNode("Bond").setIntProperty("particle1", bond.particle1).setIntProperty("particle2", bond.particle2).setDoubleProperty("length", bond.length);
    // What the user set: getIntegrationForceGroups() of the class itself leaves out the model's group.
    node.setIntProperty("integrationForceGroups", integrator.Integrator::getIntegrationForceGroups());
}

void* KStepIntegratorProxy::deserialize(const SerializationNode& node) const {
    checkVersion(node, 1);
    unique_ptr<KStepIntegrator> integrator(new KStepIntegrator(node.getDoubleProperty("baseStepSize"), node.getIntProperty("k"),
            node.getStringProperty("scheme"), node.getDoubleProperty("temperature"), node.getDoubleProperty("friction")));
    integrator->setConstraintTolerance(node.getDoubleProperty("constraintTolerance"));
    integrator->setRandomNumberSeed(node.getIntProperty("randomSeed"));
    integrator->setCorrectorForceGroup(node.getIntProperty("correctorForceGroup"));
    integrator->setModelForceGroup(node.getIntProperty("modelForceGroup"));
    integrator->setExtraChances(node.getIntProperty("extraChances"));
    vector<KStepIntegrator::MollifiedBond> bonds;
    for (const SerializationNode& bond : node.getChildNode("MollifiedBonds").getChildren())
        bonds.push_back({bond.getIntProperty("particle1"), bond.getIntProperty("particle2"), bond.getDoubleProperty("length")});
    integrator->setMollification(bonds);
    integrator->setIntegrationForceGroups(node.getIntProperty("integrationForceGroups"));
    return integrator.release();
}
