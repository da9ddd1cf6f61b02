#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/XtbForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/serialization/SerializationNode.h"
#include <sstream>
#include <type_traits>

// What checkpoints and States hold beyond positions and velocities.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const int STATE_VERSION = 2;
static const char* const STATE_PROPERTY = "kstepState";

template <class T>
static void write(ostream& stream, const T& value) {
    static_assert(is_trivially_copyable<T>::value, "only plain data is written");
    stream.write((const char*) &value, sizeof(T));
}

template <class T>
static void read(istream& stream, T& value) {
    stream.read((char*) &value, sizeof(T));
}

/**
 * Make the rest of the run depend on nothing but what is written: forces are computed again, and xTB starts cold, in
 * this run as in one that starts from the checkpoint.
 */
void KStepIntegrator::forgetHistory() const {
    valid = Validity();
    for (ForceImpl* impl : context->getForceImpls()) {
        XtbForceImpl* xtb = dynamic_cast<XtbForceImpl*>(impl);
        if (xtb != NULL)
            xtb->dropWarmStart();
    }
}

void KStepIntegrator::writeState(ostream& stream) const {
    write(stream, STATE_VERSION);
    stringstream text;
    text << random;
    string state = text.str();
    write(stream, (int) state.size());
    stream.write(state.data(), state.size());
    write(stream, statistics);
    write(stream, sums);
    write(stream, monitor);
    write(stream, division);
    kernel.getAs<const IntegrateKStepStepKernel>().createCheckpoint(*context, stream);
    forgetHistory();
}

void KStepIntegrator::readState(istream& stream) {
    int version, size;
    read(stream, version);
    if (!stream || version != STATE_VERSION)
        throw OpenMMException("KStepIntegrator: the checkpoint was written by another version of this plugin.");
    read(stream, size);
    string state(size, ' ');
    stream.read(&state[0], size);
    stringstream(state) >> random;
    read(stream, statistics);
    read(stream, sums);
    read(stream, monitor);
    read(stream, division);
    getKernel().loadCheckpoint(*context, stream);
    if (!stream)
        throw OpenMMException("KStepIntegrator: the checkpoint is truncated.");
    events.clear();
    forgetHistory();
}

void KStepIntegrator::createCheckpoint(ostream& stream) const {
    writeState(stream);
}

void KStepIntegrator::loadCheckpoint(istream& stream) {
    readState(stream);
}

void KStepIntegrator::serializeParameters(SerializationNode& node) const {
    stringstream stream;
    writeState(stream);
    // XML holds text: two hexadecimal digits for each byte.
    string text;
    for (unsigned char byte : stream.str())
        for (int digit : {byte>>4, byte&15})
            text += "0123456789abcdef"[digit];
    node.setStringProperty(STATE_PROPERTY, text);
}

void KStepIntegrator::deserializeParameters(const SerializationNode& node) {
    if (!node.hasProperty(STATE_PROPERTY))
        throw OpenMMException("KStepIntegrator: the State holds parameters of another integrator.");
    const string& text = node.getStringProperty(STATE_PROPERTY);
    string bytes;
    for (size_t i = 0; i+1 < text.size(); i += 2)
        bytes += (char) stoi(text.substr(i, 2), NULL, 16);
    stringstream stream(bytes);
    readState(stream);
}
