#include "readNetwork.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static const int64_t VERSION = 1;

static at::Tensor getTensor(const torch::jit::Module& module, const string& name) {
    if (!module.hasattr(name) || !module.attr(name).isTensor())
        throw OpenMMException("The model is marked as a network of openmmkstep.training, but has no tensor '"+name+"'.  Train or export it anew.");
    return module.attr(name).toTensor().detach().to(at::kCPU).contiguous();
}

template <class T>
static vector<T> getVector(const torch::jit::Module& module, const string& name) {
    at::Tensor tensor = getTensor(module, name).to(c10::CppTypeToScalarType<T>::value).contiguous();
    const T* data = tensor.const_data_ptr<T>();
    return vector<T>(data, data+tensor.numel());
}

/** The pair of atoms that each column of an incidence matrix, with one 1 and one -1, is the difference of. */
static vector<PotentialNetwork::Pair> findPairs(const at::Tensor& incidence) {
    if (incidence.dim() != 2)
        throw OpenMMException("The model is marked as a network of openmmkstep.training, but its vectors are no matrix.");
    int rows = incidence.size(0), columns = incidence.size(1);
    at::Tensor matrix = incidence.to(at::kDouble).contiguous();
    const double* data = matrix.const_data_ptr<double>();
    vector<PotentialNetwork::Pair> pairs(columns, {-1, -1});
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            if (data[i*columns+j] == 1)
                pairs[j].first = i;
            if (data[i*columns+j] == -1)
                pairs[j].second = i;
        }
    return pairs;
}

unique_ptr<PotentialNetwork> OpenMMKStep::readNetwork(const torch::jit::Module& model) {
    // A model without phi is a shell around one with phi.
    torch::jit::Module module = (model.hasattr("inner") && model.attr("inner").isModule() ? model.attr("inner").toModule() : model);
    if (!module.hasattr("network_version") || !module.attr("network_version").isInt() || module.attr("network_version").toInt() != VERSION)
        return nullptr;
    at::Tensor w1 = getTensor(module, "w1"), w2 = getTensor(module, "w2"), vectors = getTensor(module, "vectors");
    if (w1.scalar_type() != at::kFloat || w1.dim() != 3 || w2.dim() != 3)
        return nullptr;
    PotentialNetwork::Parameters p;
    p.numNetworks = w1.size(0);
    p.width = w1.size(1);
    p.hidden1 = w1.size(2);
    p.hidden2 = w2.size(2);
    p.w1 = getVector<float>(module, "w1");
    p.b1 = getVector<float>(module, "b1");
    p.w2 = getVector<float>(module, "w2");
    p.b2 = getVector<float>(module, "b2");
    p.w3 = getVector<float>(module, "w3");
    for (int64_t i : getVector<int64_t>(module, "index"))
        p.inputs.push_back(i);
    p.scale = getVector<double>(module, "scale");
    p.shift = getVector<double>(module, "shift");
    p.halfMatrix = getVector<double>(module, "half_matrix");
    p.linear = getVector<double>(module, "linear");
    p.offset = getVector<double>(module, "offset").at(0);
    p.rootStrengths = getVector<double>(module, "root_strengths");
    // Columns: the pairs, then the bonds b, c, a of the triples, then some of them again.
    vector<PotentialNetwork::Pair> pairs = findPairs(vectors);
    p.numAtoms = vectors.size(0);
    size_t numPairs = p.rootStrengths.size(), numTriples = (pairs.size()-numPairs)/6;
    if (pairs.size() != numPairs+6*numTriples)
        throw OpenMMException("The model is marked as a network of openmmkstep.training, but has another number of vectors.");
    p.pairs.assign(pairs.begin(), pairs.begin()+numPairs);
    for (size_t i = 0; i < numTriples; i++) {
        const PotentialNetwork::Pair* bonds = &pairs[numPairs+i];
        p.triples.push_back({{bonds[2*numTriples], bonds[0], bonds[numTriples]}});
    }
    p.numPhi = p.scale.size()-numPairs-numTriples;
    vector<double> strengths = getVector<double>(module, "strengths");
    if (strengths.size() == (size_t) p.numAtoms*p.numAtoms)
        for (int i = 0; i < p.numAtoms; i++)
            for (int j = i+1; j < p.numAtoms; j++)
                if (strengths[i*p.numAtoms+j] != 0) {
                    p.otherPairs.push_back({i, j});
                    p.otherStrengths.push_back(strengths[i*p.numAtoms+j]);
                }
    return make_unique<PotentialNetwork>(p);
}
