#ifndef OPENMMKSTEP_READNETWORK_H_
#define OPENMMKSTEP_READNETWORK_H_

#include "openmmkstep/internal/PotentialNetwork.h"
#include <memory>
#include <torch/script.h>

namespace OpenMMKStep {

/**
 * Take the potential that openmmkstep.training makes out of its TorchScript module, which is marked by the attribute
 * network_version (python/openmmkstep/training/fast.py).
 *
 * @return NULL for any other model, and for one whose networks are not in single precision
 * @throws OpenMMException if the module is marked, but its parameters are not those of such a potential
 */
std::unique_ptr<PotentialNetwork> readNetwork(const torch::jit::Module& module);

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_READNETWORK_H_*/
