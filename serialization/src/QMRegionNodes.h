#ifndef OPENMMKSTEP_QMREGIONNODES_H_
#define OPENMMKSTEP_QMREGIONNODES_H_

#include "openmm/serialization/SerializationNode.h"
#include "openmmkstep/QMRegionForce.h"
#include <vector>

namespace OpenMMKStep {

/** Write what every QMRegionForce has: name, force group, fixed charges and embedding charges. */
void writeQMRegion(const QMRegionForce& force, OpenMM::SerializationNode& node);
/** Read it back into a force that has been created with readParticles(). */
void readQMRegion(QMRegionForce& force, const OpenMM::SerializationNode& node);
/** Read the particles of the QM region. */
std::vector<int> readParticles(const OpenMM::SerializationNode& node);
/** Throws unless the node's version is the one given. */
void checkVersion(const OpenMM::SerializationNode& node, int version);

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_QMREGIONNODES_H_*/
