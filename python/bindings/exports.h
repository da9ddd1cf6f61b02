#ifndef OPENMMKSTEP_EXPORTS_H_
#define OPENMMKSTEP_EXPORTS_H_

#include <pybind11/pybind11.h>

// One function for each file that adds functions to the module.  They are named Class_method and take the Python
// object first; the classes themselves are written in Python, on top of OpenMM's.
void exportForces(pybind11::module_& m);
void exportKStepIntegrator(pybind11::module_& m);

#endif /*OPENMMKSTEP_EXPORTS_H_*/
