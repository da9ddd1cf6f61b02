#ifndef OPENMMKSTEP_OPENMM_INTEROP_H_
#define OPENMMKSTEP_OPENMM_INTEROP_H_

// The only code that moves C++ objects between this module (pybind11) and OpenMM's own Python classes (SWIG).
//
// To Python: an object is parked under a one-time token; XmlSerializer.deserialize() of a node of type
// HAND_OVER_TYPE with that token returns it as a SWIG object that owns it.
// From Python: int(obj.this) of a SWIG object is the pointer to the C++ base class.

#include <openmm/Context.h>
#include <openmm/Force.h>
#include <openmm/Integrator.h>
#include <pybind11/pybind11.h>
#include <string>
#include <type_traits>
#include <utility>

namespace OpenMMKStep {

/** Register the serialization proxy that unparks objects. */
void registerHandOverProxy();
/** Park an object and return the XML that unparks it, once, when deserialized by XmlSerializer. */
std::string park(OpenMM::Force* force);
std::string park(OpenMM::Integrator* integrator);

namespace detail {

template <class T>
T* addressOf(pybind11::handle object) {
    return reinterpret_cast<T*>(pybind11::cast<std::size_t>(pybind11::int_(object.attr("this"))));
}

} // namespace detail

/** The C++ Context behind an openmm.Context. */
inline OpenMM::Context& contextOf(pybind11::handle object) {
    return *detail::addressOf<OpenMM::Context>(object);
}

/**
 * The C++ object of class T behind an openmm.Force or openmm.Integrator, or NULL if it is of another class.
 */
template <class T>
T* tryUnwrap(pybind11::handle object) {
    typedef std::conditional_t<std::is_base_of_v<OpenMM::Integrator, T>, OpenMM::Integrator, OpenMM::Force> Base;
    return dynamic_cast<T*>(detail::addressOf<Base>(object));
}

template <class T>
T& unwrap(pybind11::handle object) {
    T* pointer = tryUnwrap<T>(object);
    if (pointer == NULL)
        throw pybind11::type_error("the object is of another class than the method called");
    return *pointer;
}

/** Make a function of a Python object from a member function of the C++ class behind it. */
template <class T, class Class, class Result, class... Args>
auto method(Result (Class::*member)(Args...)) {
    return [member](pybind11::object self, Args... args) -> Result {
        return (unwrap<T>(self).*member)(std::forward<Args>(args)...);
    };
}

template <class T, class Class, class Result, class... Args>
auto method(Result (Class::*member)(Args...) const) {
    return [member](pybind11::object self, Args... args) -> std::decay_t<Result> {
        return (unwrap<T>(self).*member)(std::forward<Args>(args)...);
    };
}

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_OPENMM_INTEROP_H_*/
