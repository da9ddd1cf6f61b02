#include "QMRegionNodes.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

void OpenMMKStep::writeQMRegion(const QMRegionForce& force, SerializationNode& node) {
    node.setIntProperty("forceGroup", force.getForceGroup());
    node.setStringProperty("name", force.getName());
    SerializationNode& particles = node.createChildNode("Particles");
    for (int i = 0; i < force.getNumParticles(); i++)
        particles.createChildNode("Particle").setIntProperty("index", force.getParticles()[i]).setDoubleProperty("fixedCharge", force.getFixedCharge(i));
    SerializationNode& charges = node.createChildNode("EmbeddingCharges");
    for (int i = 0; i < force.getNumEmbeddingCharges(); i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        charges.createChildNode("Charge").setIntProperty("particle", particle).setDoubleProperty("q", charge).setIntProperty("atomicNumber", atomicNumber);
    }
}

void OpenMMKStep::readQMRegion(QMRegionForce& force, const SerializationNode& node) {
    force.setForceGroup(node.getIntProperty("forceGroup", 0));
    force.setName(node.getStringProperty("name", force.getName()));
    int index = 0;
    for (const SerializationNode& particle : node.getChildNode("Particles").getChildren())
        force.setFixedCharge(index++, particle.getDoubleProperty("fixedCharge"));
    for (const SerializationNode& charge : node.getChildNode("EmbeddingCharges").getChildren())
        force.addEmbeddingCharge(charge.getIntProperty("particle"), charge.getDoubleProperty("q"), charge.getIntProperty("atomicNumber"));
}

vector<int> OpenMMKStep::readParticles(const SerializationNode& node) {
    vector<int> particles;
    for (const SerializationNode& particle : node.getChildNode("Particles").getChildren())
        particles.push_back(particle.getIntProperty("index"));
    return particles;
}

void OpenMMKStep::checkVersion(const SerializationNode& node, int version) {
    int found = node.getIntProperty("version");
    if (found < 1 || found > version)
        throw OpenMMException("Unsupported version number "+to_string(found)+": expected at most "+to_string(version)+".  The XML was written by another version of openmmkstep.");
}
