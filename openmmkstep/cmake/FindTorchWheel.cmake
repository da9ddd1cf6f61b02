# Finds torch in the Python interpreter in use and defines the target Torch::Torch and TORCH_VERSION. Torch's own
# TorchConfig.cmake asks for CUDA and MKL; the headers and three libraries are all that is needed here.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
    "import importlib.metadata as m, pathlib; d = m.distribution('torch'); print(d.version.split('+')[0]); print(pathlib.Path(d.locate_file('torch')).as_posix())"
  OUTPUT_VARIABLE _output OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _result)
if(NOT _result EQUAL 0)
  message(FATAL_ERROR "torch was not found for ${Python_EXECUTABLE}. Run 'pip install torch==2.13.0'.")
endif()
string(REPLACE "\n" ";" _output "${_output}")
list(GET _output 0 TORCH_VERSION)
list(GET _output 1 _root)
add_library(Torch::Torch INTERFACE IMPORTED)
set_target_properties(Torch::Torch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${_root}/include;${_root}/include/torch/csrc/api/include"
  INTERFACE_LINK_LIBRARIES "${_root}/lib/libtorch.so;${_root}/lib/libtorch_cpu.so;${_root}/lib/libc10.so")
