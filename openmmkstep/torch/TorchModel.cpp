// The files here are the only ones that include torch.  They are a library of their own, so that everything else works
// without torch.
#include "openmmkstep/internal/KStepModel.h"
#include "openmmkstep/internal/TemporaryFolder.h"
#include "openmmkstep/internal/export.h"
#include "TorchDevice.h"
#include "readNetwork.h"
#include "openmm/OpenMMException.h"
#include <ATen/Parallel.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/script.h>
#include <torch/version.h>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <regex>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

const char* CONTRACT_FILE = "kstep_contract.xml";
// Of energy, forces and charges, relative to the largest: both use single precision in the networks, in another order.
const double NETWORK_TOLERANCE = 1e-5;

/** torch's messages carry a C++ stack trace, of no use to the user. */
string firstLines(const exception& e) {
    const c10::Error* error = dynamic_cast<const c10::Error*>(&e);
    return error == NULL ? e.what() : error->what_without_backtrace();
}

bool endsWith(const string& text, const string& end) {
    return text.size() >= end.size() && text.compare(text.size()-end.size(), end.size(), end) == 0;
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

/** Atoms some 0.15 nm apart, on a lattice whose regularity is broken. */
vector<Vec3> makeTestPositions(int numAtoms) {
    int side = ceil(cbrt(numAtoms));
    vector<Vec3> x;
    for (int i = 0; i < numAtoms; i++)
        x.push_back(Vec3(i/(side*side), (i/side)%side, i%side)*0.15+Vec3(sin(1.0+i), sin(2.0+3*i), sin(3.0+5*i))*0.02);
    return x;
}

/** What runs a model: values in, values out. */
class Runner {
public:
    virtual ~Runner() {
    }
    virtual void prepare(const ModelContract& contract, const torch::Device& device) = 0;
    virtual c10::IValue run(vector<c10::IValue>& inputs) = 0;
    /** The same model in a form that needs no torch, if it has one. */
    virtual unique_ptr<PotentialNetwork> takeNetwork() {
        return nullptr;
    }
};

/**
 * TorchScript: code that torch interprets.  Its operators include some that write files, which no model needs; a model
 * that names one, or that has code to run while it is loaded, is refused.
 */
class ScriptRunner : public Runner {
public:
    ScriptRunner(caffe2::serialize::PyTorchStreamReader& archive, const string& owner) : owner(owner) {
        static const regex forbidden("__setstate__|[.]\\s*(save|from_file)\\b");
        // What torch loads is a copy that was written here, without what only serves messages and can crash it.
        stringstream copy;
        caffe2::serialize::PyTorchStreamWriter writer([&](const void* bytes, size_t size) {
            copy.write(static_cast<const char*>(bytes), size);
            return size;
        });
        writer.setMinVersion(archive.version());
        for (const string& name : archive.getAllRecords()) {
            if (endsWith(name, ".debug_pkl") || name == "version" || name.compare(0, 1, ".") == 0)
                continue;
            auto [content, size] = archive.getRecord(name);
            writer.writeRecord(name, content.get(), size);
            const char* begin = static_cast<const char*>(content.get());
            cmatch found;
            if (endsWith(name, ".py") && regex_search(begin, begin+size, found, forbidden))
                throw OpenMMException(owner+": the code of the model contains '"+found.str()+"', which a model of energies and forces has no use for and which could write files.  It is not loaded.  If it is the name of a submodule, rename that.");
        }
        writer.writeEndOfFile();
        module = torch::jit::load(copy, torch::kCPU);
        module.eval();
    }
    void prepare(const ModelContract& contract, const torch::Device& device) override {
        if (!module.find_method("forward"))
            throw OpenMMException(owner+": the model has no method forward().");
        if (device.is_cpu())
            network = readNetwork(module);
        // Freezing removes the functions that forward() calls, but not the references to them that torch follows when an
        // operation fails: it then reads memory that was given back.  What is written and read again has none.
        stringstream frozen;
        torch::jit::freeze(module).save(frozen);
        module = torch::jit::load(frozen, device);
    }
    c10::IValue run(vector<c10::IValue>& inputs) override {
        return module.forward(inputs);
    }
    unique_ptr<PotentialNetwork> takeNetwork() override {
        return std::move(network);
    }
private:
    string owner;
    torch::jit::Module module;
    unique_ptr<PotentialNetwork> network;
};

/**
 * An AOTInductor package: a shared library of machine code.  It is loaded only when all checks have passed, since loading
 * it runs it.  Only the library is taken out of the package, into a folder of its own that is gone when it is loaded.
 */
class NativeRunner : public Runner {
public:
    NativeRunner(caffe2::serialize::PyTorchStreamReader& archive, const string& owner) : owner(owner) {
        for (const string& name : archive.getAllRecords())
            if (endsWith(name, ".so")) {
                if (!library.empty())
                    throw OpenMMException(owner+": the package holds more than one library.  Make it anew with exportModel().");
                auto [content, size] = archive.getRecord(name);
                library.assign(static_cast<const char*>(content.get()), size);
            }
        if (library.empty())
            throw OpenMMException(owner+": the package holds no library.  Make it anew with exportModel().");
    }
    void prepare(const ModelContract& contract, const torch::Device& device) override {
        string remedy = "  Export the model for this machine with exportModel(), or use the TorchScript file that it was made of.";
        string found = minorVersion(TORCH_VERSION);
        if (minorVersion(contract.torchVersion) != found)
            throw OpenMMException(owner+": the package was compiled for torch "+contract.torchVersion+", but this is torch "+found+"."+remedy);
        if (!isSupported(contract.processor))
            throw OpenMMException(owner+": the package was compiled for the processor '"+contract.processor+"', whose instructions this machine does not have."+remedy);
        if (!device.is_cpu())
            throw OpenMMException(owner+": the package was compiled for the CPU, but the model is to run on '"+device.str()+"'."+remedy);
        if (!contract.outputsForces)
            throw OpenMMException(owner+": a package must return forces, but its contract names none."+remedy);
        string error;
        try {
            TemporaryFolder folder(owner, "the package's library");
            string file = folder.getPath()+"/model.so";
            ofstream(file, ios::binary) << library << flush;
            runner.reset(new torch::inductor::AOTIModelContainerRunnerCpu(file, 1, true));
        }
        catch (const OpenMMException&) {
            throw;
        }
        catch (const exception& e) {
            error = firstLines(e);
        }
        if (runner == NULL)
            throw OpenMMException(owner+": the package's library cannot be loaded: "+error+"."+remedy);
        library = string();
    }
    c10::IValue run(vector<c10::IValue>& inputs) override {
        vector<at::Tensor> tensors;
        for (auto& input : inputs)
            tensors.push_back(input.toTensor());
        vector<c10::IValue> outputs;
        for (at::Tensor& output : runner->boxed_run(std::move(tensors)))
            outputs.push_back(std::move(output));
        return c10::ivalue::Tuple::create(std::move(outputs));
    }
private:
    static string minorVersion(const string& version) {
        return version.substr(0, version.find('.', version.find('.')+1));
    }
    static bool isSupported(const string& processor) {
#if defined(__x86_64__)
        return (processor == "x86-64" || (processor == "x86-64-v3" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")));
#else
        return false;
#endif
    }
    string owner, library;
    unique_ptr<torch::inductor::AOTIModelContainerRunnerCpu> runner;
};

class TorchModel : public KStepModel {
public:
    TorchModel(const string& data, const string& owner, bool allowNativeCode) : owner(owner) {
        try {
            istringstream stream(data);
            caffe2::serialize::PyTorchStreamReader archive(&stream);
            const string contractRecord = string("extra/")+CONTRACT_FILE;
            if (archive.hasRecord(contractRecord)) {
                auto [content, size] = archive.getRecord(contractRecord);
                contractText.assign(static_cast<const char*>(content.get()), size);
            }
            if (!archive.hasRecord("archive_format"))
                runner.reset(new ScriptRunner(archive, owner));
            else if (allowNativeCode)
                runner.reset(new NativeRunner(archive, owner));
            else
                throw OpenMMException(owner+": the model is an AOTInductor package, whose machine code runs with all rights of this process.  If you trust whoever made it, say so: KStepModelForce(..., allowNativeCode=True) in Python, KStepModelForce::allowNativeCode() in C++, or the environment variable OPENMMKSTEP_ALLOW_NATIVE_CODE=1.  Otherwise use a TorchScript model.");
        }
        catch (const OpenMMException&) {
            throw;
        }
        catch (const exception& e) {
            throw OpenMMException(owner+": the model is not a TorchScript file, or it is truncated or corrupt: "+firstLines(e));
        }
    }
    const string& getContractText() const override {
        return contractText;
    }
    void prepare(const ModelContract& contract, int numThreads, const string& deviceName) override {
        this->contract = contract;
        this->numThreads = numThreads;
        device = TorchDevice(deviceName, owner);
        TorchDevice::Scope scope(device);
        try {
            runner->prepare(contract, device.get());
        }
        catch (const c10::Error& e) {
            throw OpenMMException(owner+": the model cannot be prepared for evaluation: "+firstLines(e));
        }
        unique_ptr<PotentialNetwork> found = runner->takeNetwork();
        if (found) {
            checkNetwork(*found);
            network = std::move(found);
        }
    }
    double compute(const vector<Vec3>& positions, const vector<double>& potential, vector<Vec3>& forces, vector<double>& charges) override {
        if (network)
            return network->compute(positions, potential, forces, charges);
        ThreadCountGuard threads(numThreads);
        TorchDevice::Scope scope(device);
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
            c10::IValue result = runner->run(inputs);
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
    /**
     * Compare the network with the model that it was read from, whose own code counts.
     *
     * @throws OpenMMException if they differ
     */
    void checkNetwork(PotentialNetwork& found) {
        int n = contract.species.size();
        if (found.getNumAtoms() != n || found.hasPotentialInput() != contract.hasPotentialInput || !contract.outputsForces)
            throw OpenMMException(owner+": the network in the model's file does not fit its contract.  Train or export the model anew.");
        vector<Vec3> x = makeTestPositions(n), forces, expectedForces;
        vector<double> phi(n), charges, expectedCharges;
        for (int i = 0; i < n; i++)
            phi[i] = 40*sin(1.0+7*i);
        double expected = compute(x, phi, expectedForces, expectedCharges), energy = found.compute(x, phi, forces, charges);
        double largest = 1, error = 0, scale = max(1.0, fabs(expected-found.getOffset()));
        for (int i = 0; i < n; i++) {
            largest = max(largest, sqrt(expectedForces[i].dot(expectedForces[i])));
            Vec3 difference = forces[i]-expectedForces[i];
            error = max(error, sqrt(difference.dot(difference)));
        }
        bool isSame = (fabs(energy-expected) < NETWORK_TOLERANCE*scale && error < NETWORK_TOLERANCE*largest);
        for (size_t i = 0; i < charges.size(); i++)
            isSame &= (fabs(charges[i]-expectedCharges[i]) < NETWORK_TOLERANCE*max(1.0, fabs(expectedCharges[i])));
        if (!isSame)
            throw OpenMMException(owner+": the model's code and the network in its file give different results.  One of them was changed; train or export the model anew.");
    }
    /** A view of the caller's memory. */
    static torch::Tensor view(const vector<Vec3>& vectors) {
        return torch::from_blob(const_cast<double*>(reinterpret_cast<const double*>(vectors.data())), {(int64_t) vectors.size(), 3}, torch::TensorOptions().dtype(torch::kFloat64));
    }
    /** Views of the caller's memory, or copies on the device; models do not write to their inputs. */
    vector<c10::IValue> makeInputs(const vector<Vec3>& positions, const vector<double>& potential, bool requireGradient) {
        vector<c10::IValue> inputs = {view(positions).to(device.get()).requires_grad_(requireGradient)};
        if (contract.hasPotentialInput) {
            auto phi = torch::from_blob(const_cast<double*>(potential.data()), {(int64_t) potential.size()}, torch::TensorOptions().dtype(torch::kFloat64));
            inputs.push_back(phi.to(device.get()).requires_grad_(requireGradient));
        }
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
        vector<c10::IValue> inputs = makeInputs(positions, potential, false);
        c10::IValue result = runner->run(inputs);
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
        c10::IValue result = runner->run(inputs);
        double energy = checked(result, "the energy", 1).item<double>();
        vector<torch::Tensor> variables;
        for (auto& input : inputs)
            variables.push_back(input.toTensor());
        // A model may ignore phi; its gradient is then undefined.
        auto gradients = torch::autograd::grad({result.toTensor().sum()}, variables, {}, c10::nullopt, false, true);
        for (size_t i = 0; i < gradients.size(); i++)
            gradients[i] = (gradients[i].defined() ? gradients[i] : torch::zeros_like(variables[i])).to(torch::kCPU, torch::kFloat64).contiguous();
        copyVectors(gradients[0], forces, -1);
        if (contract.hasPotentialInput) {
            const double* q = gradients[1].const_data_ptr<double>();
            charges.assign(q, q+potential.size());
        }
        return energy;
    }
    unique_ptr<Runner> runner;
    unique_ptr<PotentialNetwork> network;
    string owner, contractText;
    ModelContract contract;
    int numThreads = 1;
    TorchDevice device = TorchDevice("cpu", "");
};

} // namespace

extern "C" OPENMM_EXPORT_KSTEP KStepModel* openmmkstepLoadTorchModel(const string& data, const string& owner, bool allowNativeCode) {
    return new TorchModel(data, owner, allowNativeCode);
}
