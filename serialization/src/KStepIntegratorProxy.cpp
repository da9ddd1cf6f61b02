#include "QMRegionNodes.h"
#include "base64.h"
#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/serialization/proxies.h"
#include <memory>
#include <vector>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

KStepIntegratorProxy::KStepIntegratorProxy() : SerializationProxy("KStepIntegrator") {
}

static void writeJump(const KStepIntegrator& integrator, SerializationNode& node) {
    node.setIntProperty("numThreads", integrator.getJumpNumThreads());
    node.setBoolProperty("allowWithoutThermostat", integrator.getAllowJumpWithoutThermostat());
    if (integrator.getJumpModelData().empty())
        return;
    SerializationNode& model = node.createChildNode("Model").setStringProperty("base64", encodeBase64(integrator.getJumpModelData()));
    for (int particle : integrator.getJumpParticles())
        model.createChildNode("Particle").setIntProperty("index", particle);
}

static void readJump(KStepIntegrator& integrator, const SerializationNode& node) {
    integrator.setJumpNumThreads(node.getIntProperty("numThreads"));
    integrator.setAllowJumpWithoutThermostat(node.getBoolProperty("allowWithoutThermostat"));
    for (const SerializationNode& model : node.getChildren()) {
        vector<int> particles;
        for (const SerializationNode& particle : model.getChildren())
            particles.push_back(particle.getIntProperty("index"));
        integrator.setJumpModelData(decodeBase64(model.getStringProperty("base64"), "KStepIntegrator"), particles);
    }
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
    node.setBoolProperty("allowResonance", integrator.getAllowResonance());
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
    SerializationNode& angles = node.createChildNode("MollifiedAngles");
    for (const KStepIntegrator::MollifiedAngle& angle : integrator.getMollifiedAngles())
        angles.createChildNode("Angle").setIntProperty("particle1", angle.particle1).setIntProperty("particle2", angle.particle2).setIntProperty("particle3", angle.particle3).setDoubleProperty("angle", angle.angle);
    if (integrator.getScheme() == "jump")
        writeJump(integrator, node.createChildNode("Jump"));
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
        vector<KStepIntegrator::MollifiedAngle> angles;
        for (const SerializationNode& angle : node.getChildNode("MollifiedAngles").getChildren())
            angles.push_back({angle.getIntProperty("particle1"), angle.getIntProperty("particle2"), angle.getIntProperty("particle3"), angle.getDoubleProperty("angle")});
        integrator->setMollifiedAngles(angles);
        integrator->setAllowResonance(node.getBoolProperty("allowResonance"));
    }
    for (const SerializationNode& child : node.getChildren())
        if (child.getName() == "Jump")
            readJump(*integrator, child);
    integrator->setIntegrationForceGroups(node.getIntProperty("integrationForceGroups"));
    return integrator.release();
}
