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
    node.setIntProperty("version", 2);
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
    node.setStringProperty("thermostat", integrator.getThermostat());
    node.setBoolProperty("adaptive", integrator.getAdaptive());
    node.setBoolProperty("errorRecovery", integrator.getErrorRecovery());
    node.setBoolProperty("includeShadowWork", integrator.getIncludeShadowWork());
    SerializationNode& regions = node.createChildNode("Regions");
    for (int i = 0; i < integrator.getNumRegions(); i++) {
        const KStepIntegrator::Region& region = integrator.getRegion(i);
        SerializationNode& child = regions.createChildNode("Region").setDoubleProperty("temperature", region.temperature).setDoubleProperty("friction", region.friction).setStringProperty("thermostat", region.thermostat);
        for (int particle : region.particles)
            child.createChildNode("Particle").setIntProperty("index", particle);
    }
    // What the user set: getIntegrationForceGroups() of the class itself leaves out the model's group.
    node.setIntProperty("integrationForceGroups", integrator.Integrator::getIntegrationForceGroups());
}

void* KStepIntegratorProxy::deserialize(const SerializationNode& node) const {
    checkVersion(node, 2);
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
    if (node.getIntProperty("version") >= 2) {
        integrator->setThermostat(node.getStringProperty("thermostat"));
        integrator->setAdaptive(node.getBoolProperty("adaptive"));
        integrator->setErrorRecovery(node.getBoolProperty("errorRecovery"));
        integrator->setIncludeShadowWork(node.getBoolProperty("includeShadowWork"));
        for (const SerializationNode& region : node.getChildNode("Regions").getChildren()) {
            vector<int> particles;
            for (const SerializationNode& particle : region.getChildren())
                particles.push_back(particle.getIntProperty("index"));
            integrator->setRegion(particles, region.getDoubleProperty("temperature"), region.getDoubleProperty("friction"), region.getStringProperty("thermostat"));
        }
    }
    integrator->setIntegrationForceGroups(node.getIntProperty("integrationForceGroups"));
    return integrator.release();
}
