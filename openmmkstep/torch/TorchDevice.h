#ifndef OPENMMKSTEP_TORCHDEVICE_H_
#define OPENMMKSTEP_TORCHDEVICE_H_

#include <string>
#include <torch/types.h>

namespace OpenMMKStep {

/** The device that a model runs on: the host's processors, or a GPU through CUDA. */
class TorchDevice {
public:
    /**
     * @param name   'cpu', 'cuda' or 'cuda:N'
     * @param owner  the class that error messages begin with
     * @throws OpenMMException if the name is another one or this torch finds no such device
     */
    TorchDevice(const std::string& name, const std::string& owner);
    const torch::Device& get() const {
        return device;
    }
    /**
     * Makes the CUDA context that torch uses, the device's primary one, current in this thread, where OpenMM's platform has a
     * context of its own; and brings back the one that was.
     */
    class Scope {
    public:
        explicit Scope(const TorchDevice& device);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
    private:
        bool isPushed;
    };
private:
    void findPrimaryContext(const std::string& owner);
    torch::Device device;
    void* primaryContext; // of a CUDA device
};

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_TORCHDEVICE_H_*/
