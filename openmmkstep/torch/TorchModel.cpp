// The only file that includes torch.  It is a library of its own, so that everything else works without torch.
#include "openmmkstep/internal/KStepModel.h"
#include "openmmkstep/internal/export.h"
#include "openmm/OpenMMException.h"
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/script.h>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

const char* CONTRACT_FILE = "kstep_contract.xml";

/** torch's messages carry a C++ stack trace, of no use to the user. */
string firstLines(const exception& e) {
    const c10::Error* error = dynamic_cast<const c10::Error*>(&e);
    return error == NULL ? e.what() : error->what_without_backtrace();
}

/**
 * Pins torch's threads while a model runs and gives them back.  With its default, all cores, a small model runs many
 * times slower as soon as another program wants one of them.
 */
class ThreadCountGuard {
public:
    ThreadCountGuard(int numThreads) : previous(at::get_num_threads()), changed(numThreads != previous) {
        if (changed)
            at::set_num_threads(numThreads);
    }
    ~ThreadCountGuard() {
        if (changed)
            at::set_num_threads(previous);
    }
private:
    int previous;
    bool changed;
};

class TorchModel : public KStepModel {
public:
    TorchModel(const string& data, const string& owner) : owner(owner) {
        istringstream stream(data);
        torch::jit::ExtraFilesMap files;
        files[CONTRACT_FILE] = "";
        try {
            module = torch::jit::load(stream, torch::kCPU, files);
            module.eval();
        }
        catch (const exception& e) {
            throw OpenMMException(owner+": the model is not a TorchScript file, or it is truncated or corrupt: "+firstLines(e));
        }
        contractText = files[CONTRACT_FILE];
    }
    const string& getContractText() const override {
        return contractText;
    }
    void prepare(const ModelContract& contract, int numThreads) override {
        this->contract = contract;
        this->numThreads = numThreads;
        try {
            if (!module.find_method("forward"))
                throw OpenMMException(owner+": the model has no method forward().");
            module = torch::jit::freeze(module);
        }
        catch (const c10::Error& e) {
            throw OpenMMException(owner+": the model cannot be prepared for evaluation: "+firstLines(e));
        }
    }
    double compute(const vector<Vec3>& positions, const vector<double>& potential, vector<Vec3>& forces, vector<double>& charges) override {
        ThreadCountGuard threads(numThreads);
        try {
            return (contract.outputsForces ? computeExplicit(positions, potential, forces, charges) : computeByAutograd(positions, potential, forces, charges));
        }
        catch (const OpenMMException&) {
            throw;
        }
        catch (const exception& e) {
            throw OpenMMException(owner+": the model failed: "+firstLines(e));
        }
    }
    void computeJump(const vector<Vec3>& positions, const vector<Vec3>& velocities, const vector<Vec3>& forces, vector<Vec3>& displacements, vector<Vec3>& velocityChanges) override {
        ThreadCountGuard threads(numThreads);
        // A map that is derived from an action takes gradients inside.
        torch::AutoGradMode grad(true);
        try {
            vector<c10::IValue> inputs = {view(positions), view(velocities)};
            if (contract.hasForceInput)
                inputs.push_back(view(forces));
            c10::IValue result = module.forward(inputs);
            if (!result.isTuple() || result.toTupleRef().elements().size() != 2)
                throw OpenMMException(owner+": expected the model to return (displacements, velocity_changes), as its contract says, found "+(result.isTuple() ? "a tuple of another length." : result.tagKind()+"."));
            const auto& elements = result.toTupleRef().elements();
            copyVectors(checkedVectors(elements[0], "displacements", positions.size()), displacements, 1);
            copyVectors(checkedVectors(elements[1], "velocity changes", positions.size()), velocityChanges, 1);
        }
        catch (const OpenMMException&) {
            throw;
        }
        catch (const exception& e) {
            throw OpenMMException(owner+": the model failed: "+firstLines(e));
        }
    }
private:
    /** A view of the caller's memory. */
    static torch::Tensor view(const vector<Vec3>& vectors) {
        return torch::from_blob(const_cast<double*>(reinterpret_cast<const double*>(vectors.data())), {(int64_t) vectors.size(), 3}, torch::TensorOptions().dtype(torch::kFloat64));
    }
    /** Views of the caller's memory; models do not write to their inputs. */
    vector<c10::IValue> makeInputs(const vector<Vec3>& positions, const vector<double>& potential, bool requireGradient) {
        int64_t n = positions.size();
        auto options = torch::TensorOptions().dtype(torch::kFloat64).requires_grad(requireGradient);
        vector<c10::IValue> inputs;
        inputs.push_back(torch::from_blob(const_cast<double*>(reinterpret_cast<const double*>(positions.data())), {n, 3}, options));
        if (contract.hasPotentialInput)
            inputs.push_back(torch::from_blob(const_cast<double*>(potential.data()), {n}, options));
        return inputs;
    }
    torch::Tensor checked(const c10::IValue& value, const char* name, int64_t numel) const {
        if (!value.isTensor() || value.toTensor().numel() != numel)
            throw OpenMMException(owner+": expected the model to return "+string(name)+" as a tensor of "+to_string(numel)+" elements, found "+(value.isTensor() ? to_string(value.toTensor().numel())+" elements." : value.tagKind()+"."));
        return value.toTensor().detach().to(torch::kCPU, torch::kFloat64).contiguous();
    }
    torch::Tensor checkedVectors(const c10::IValue& value, const char* name, int64_t n) const {
        torch::Tensor vectors = checked(value, name, 3*n);
        if (vectors.dim() != 2 || vectors.size(0) != n)
            throw OpenMMException(owner+": expected the model to return "+name+" of the shape ("+to_string(n)+", 3), found another shape of "+to_string(3*n)+" elements.");
        return vectors;
    }
    static void copyVectors(const torch::Tensor& tensor, vector<Vec3>& vectors, double scale) {
        const double* data = tensor.const_data_ptr<double>();
        vectors.resize(tensor.numel()/3);
        for (size_t i = 0; i < vectors.size(); i++)
            vectors[i] = Vec3(data[3*i], data[3*i+1], data[3*i+2])*scale;
    }
    double computeExplicit(const vector<Vec3>& positions, const vector<double>& potential, vector<Vec3>& forces, vector<double>& charges) {
        c10::InferenceMode inference;
        c10::IValue result = module.forward(makeInputs(positions, potential, false));
        size_t expected = (contract.hasPotentialInput ? 3 : 2);
        if (!result.isTuple() || result.toTupleRef().elements().size() < expected)
            throw OpenMMException(owner+": expected the model to return "+(contract.hasPotentialInput ? "(energy, forces, charges)" : "(energy, forces)")+", as its contract says, found "+(result.isTuple() ? "a shorter tuple." : result.tagKind()+"."));
        const auto& elements = result.toTupleRef().elements();
        int64_t n = positions.size();
        copyVectors(checkedVectors(elements[1], "forces", n), forces, 1);
        if (contract.hasPotentialInput) {
            torch::Tensor q = checked(elements[2], "charges", n);
            charges.assign(q.const_data_ptr<double>(), q.const_data_ptr<double>()+n);
        }
        return checked(elements[0], "the energy", 1).item<double>();
    }
    double computeByAutograd(const vector<Vec3>& positions, const vector<double>& potential, vector<Vec3>& forces, vector<double>& charges) {
        torch::AutoGradMode grad(true);
        vector<c10::IValue> inputs = makeInputs(positions, potential, true);
        c10::IValue result = module.forward(inputs);
        double energy = checked(result, "the energy", 1).item<double>();
        vector<torch::Tensor> variables;
        for (auto& input : inputs)
            variables.push_back(input.toTensor());
        // A model may ignore phi; its gradient is then undefined.
        auto gradients = torch::autograd::grad({result.toTensor().sum()}, variables, {}, c10::nullopt, false, true);
        for (size_t i = 0; i < gradients.size(); i++)
            gradients[i] = (gradients[i].defined() ? gradients[i].to(torch::kCPU, torch::kFloat64).contiguous() : torch::zeros_like(variables[i]));
        copyVectors(gradients[0], forces, -1);
        if (contract.hasPotentialInput) {
            const double* q = gradients[1].const_data_ptr<double>();
            charges.assign(q, q+potential.size());
        }
        return energy;
    }
    torch::jit::Module module;
    string owner, contractText;
    ModelContract contract;
    int numThreads = 1;
};

} // namespace

extern "C" OPENMM_EXPORT_KSTEP KStepModel* openmmkstepLoadTorchModel(const string& data, const string& owner) {
    return new TorchModel(data, owner);
}
