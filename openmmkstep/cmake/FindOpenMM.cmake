# Finds OpenMM: the PyPI wheel of the Python interpreter in use, or an installation named by OPENMM_DIR (conda, source).
# Defines the target OpenMM::OpenMM and OPENMM_VERSION, OPENMM_PLUGIN_DIR.
set(OPENMM_DIR "" CACHE PATH "Folder with OpenMM's include/ and lib/; empty for the wheel of the Python interpreter")
if(OPENMM_DIR)
  set(_root "${OPENMM_DIR}")
else()
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.metadata as m, pathlib; d = m.distribution('openmm'); print(d.version); print(pathlib.Path(d.locate_file('OpenMM.libs')).as_posix())"
    OUTPUT_VARIABLE _output OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _result)
  if(NOT _result EQUAL 0)
    message(FATAL_ERROR "OpenMM was not found for ${Python_EXECUTABLE}. Run 'pip install openmm' or set OPENMM_DIR.")
  endif()
  string(REPLACE "\n" ";" _output "${_output}")
  list(GET _output 0 OPENMM_VERSION)
  list(GET _output 1 _root)
endif()
if(NOT OPENMM_VERSION)
  set(OPENMM_VERSION "unknown")
endif()
find_path(OPENMM_INCLUDE_DIR OpenMM.h PATHS "${_root}/include" NO_DEFAULT_PATH REQUIRED)
find_library(OPENMM_LIBRARY OpenMM PATHS "${_root}/lib" NO_DEFAULT_PATH REQUIRED)
set(OPENMM_PLUGIN_DIR "${_root}/lib/plugins")
add_library(OpenMM::OpenMM SHARED IMPORTED)
set_target_properties(OpenMM::OpenMM PROPERTIES
  IMPORTED_LOCATION "${OPENMM_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${OPENMM_INCLUDE_DIR}")
