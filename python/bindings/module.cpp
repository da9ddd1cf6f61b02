#include "exports.h"
#include "openmm_interop.h"
#include <openmm/OpenMMException.h>

namespace py = pybind11;

PYBIND11_MODULE(_openmmkstep, m) {
    m.doc() = "C++ side of openmmkstep; use the package openmmkstep.";
    m.attr("version") = OPENMMKSTEP_VERSION;
    m.attr("openmmVersion") = OPENMMKSTEP_OPENMM_VERSION;
    m.attr("torchVersion") = OPENMMKSTEP_TORCH_VERSION;
    OpenMMKStep::registerHandOverProxy();
    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p)
                std::rethrow_exception(p);
        }
        catch (const OpenMM::OpenMMException& e) {
            py::object type = py::module_::import("openmm").attr("OpenMMException");
            PyErr_SetString(type.ptr(), e.what());
        }
    });
    exportForces(m);
    exportKStepIntegrator(m);
}
