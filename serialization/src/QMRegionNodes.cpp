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
    node.setBoolProperty("periodic", force.usesPeriodicBoundaryConditions());
    node.setDoubleProperty("cutoff", force.getCutoffDistance());
    node.setDoubleProperty("switchingDistance", force.getSwitchingDistance());
    SerializationNode& links = node.createChildNode("LinkAtoms");
    for (int i = 0; i < force.getNumLinkAtoms(); i++) {
        int qm, mm;
        double distance;
        force.getLinkAtomParameters(i, qm, mm, distance);
        links.createChildNode("LinkAtom").setIntProperty("qm", qm).setIntProperty("mm", mm).setDoubleProperty("distance", distance);
    }
    SerializationNode& virtualCharges = node.createChildNode("VirtualCharges");
    for (int i = 0; i < force.getNumVirtualCharges(); i++) {
        vector<int> particles;
        vector<double> weights;
        int atomicNumber;
        double charge;
        force.getVirtualChargeParameters(i, particles, weights, charge, atomicNumber);
        SerializationNode& child = virtualCharges.createChildNode("VirtualCharge").setDoubleProperty("q", charge).setIntProperty("atomicNumber", atomicNumber);
        for (size_t j = 0; j < particles.size(); j++)
            child.createChildNode("Parent").setIntProperty("particle", particles[j]).setDoubleProperty("weight", weights[j]);
    }
    SerializationNode& exceptions = node.createChildNode("Exceptions");
    for (int i = 0; i < force.getNumExceptions(); i++) {
        int qm, mm;
        double product;
        force.getExceptionParameters(i, qm, mm, product);
        exceptions.createChildNode("Exception").setIntProperty("qm", qm).setIntProperty("mm", mm).setDoubleProperty("q", product);
    }
    SerializationNode& groups = node.createChildNode("EmbeddingGroups");
    for (int i = 0; i < force.getNumEmbeddingGroups(); i++) {
        vector<int> particles;
        int center;
        bool switched;
        force.getEmbeddingGroupParameters(i, particles, center, switched);
        SerializationNode& group = groups.createChildNode("Group").setIntProperty("center", center).setBoolProperty("switched", switched);
        for (int particle : particles)
            group.createChildNode("Particle").setIntProperty("index", particle);
    }
}

/** What version 1 did not have. */
static void readBoundary(QMRegionForce& force, const SerializationNode& node) {
    force.setUsesPeriodicBoundaryConditions(node.getBoolProperty("periodic"));
    force.setCutoffDistance(node.getDoubleProperty("cutoff"));
    force.setSwitchingDistance(node.getDoubleProperty("switchingDistance"));
    for (const SerializationNode& link : node.getChildNode("LinkAtoms").getChildren())
        force.addLinkAtom(link.getIntProperty("qm"), link.getIntProperty("mm"), link.getDoubleProperty("distance"));
    for (const SerializationNode& charge : node.getChildNode("VirtualCharges").getChildren()) {
        vector<int> particles;
        vector<double> weights;
        for (const SerializationNode& parent : charge.getChildren()) {
            particles.push_back(parent.getIntProperty("particle"));
            weights.push_back(parent.getDoubleProperty("weight"));
        }
        force.addVirtualCharge(particles, weights, charge.getDoubleProperty("q"), charge.getIntProperty("atomicNumber"));
    }
    for (const SerializationNode& exception : node.getChildNode("Exceptions").getChildren())
        force.addException(exception.getIntProperty("qm"), exception.getIntProperty("mm"), exception.getDoubleProperty("q"));
    for (const SerializationNode& group : node.getChildNode("EmbeddingGroups").getChildren()) {
        vector<int> particles;
        for (const SerializationNode& particle : group.getChildren())
            particles.push_back(particle.getIntProperty("index"));
        force.addEmbeddingGroup(particles, group.getIntProperty("center"), group.getBoolProperty("switched"));
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
    if (node.getIntProperty("version") > 1)
        readBoundary(force, node);
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
