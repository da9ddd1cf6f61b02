#include "DeviceParticles.h"
#include "CommonKStepKernelSources.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

DeviceParticles::DeviceParticles(ComputeContext& context) : context(context) {
    order.initialize<int>(context, context.getNumAtoms(), "kstepOrder");
}

ComputeArray& DeviceParticles::getOrder() {
    // OpenMM has several ways to sort atoms, not all of which call listeners.
    if (atomIndex != context.getAtomIndex()) {
        atomIndex = context.getAtomIndex();
        atomOfParticle.resize(context.getNumAtoms());
        for (int i = 0; i < context.getNumAtoms(); i++)
            atomOfParticle[atomIndex[i]] = i;
        order.upload(atomOfParticle);
    }
    return order;
}

void DeviceParticles::prepareUnwrapping() {
    getOrder();
    context.getPeriodicBoxVectors(box[0], box[1], box[2]);
}

void DeviceParticles::unwrap(Vec3& position, int particle) const {
    const mm_int4& offset = context.getPosCellOffsets()[atomOfParticle[particle]];
    position -= box[0]*offset.x+box[1]*offset.y+box[2]*offset.z;
}

ComputeProgram DeviceParticles::compile(const string& source, map<string, string> defines) {
    defines["NUM_ATOMS"] = context.intToString(context.getNumAtoms());
    defines["PADDED_NUM_ATOMS"] = context.intToString(context.getPaddedNumAtoms());
    return context.compileProgram(string(KernelSources::positions)+source, defines);
}

void DeviceParticles::addPositionArgs(ComputeKernel kernel) {
    kernel->addArg(context.getPosq());
    if (context.getUseMixedPrecision())
        kernel->addArg(context.getPosqCorrection());
}

void DeviceParticles::setMixedArg(ComputeKernel kernel, int index, double value) const {
    if (isMixedDouble())
        kernel->setArg(index, value);
    else
        kernel->setArg(index, (float) value);
}

void DeviceParticles::setBoxArgs(ComputeKernel kernel, int index) const {
    Vec3 a, b, c;
    context.getPeriodicBoxVectors(a, b, c);
    for (const Vec3& v : {Vec3(a[0], b[1], c[2]), Vec3(1/a[0], 1/b[1], 1/c[2]), a, b, c}) {
        if (context.getUseDoublePrecision())
            kernel->setArg(index++, mm_double4(v[0], v[1], v[2], 0));
        else
            kernel->setArg(index++, mm_float4((float) v[0], (float) v[1], (float) v[2], 0));
    }
}

void DeviceParticles::download(const ComputeArray& array, vector<Vec3>& values) const {
    vector<mm_double4> buffer;
    array.download(buffer, true);
    values.resize(buffer.size());
    for (size_t i = 0; i < buffer.size(); i++)
        values[i] = Vec3(buffer[i].x, buffer[i].y, buffer[i].z);
}

void DeviceParticles::upload(ComputeArray& array, const vector<Vec3>& values) const {
    vector<mm_double4> buffer;
    for (const Vec3& v : values)
        buffer.push_back(mm_double4(v[0], v[1], v[2], 0));
    array.upload(buffer, true);
}
