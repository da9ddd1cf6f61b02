# Writes kernels/*.cc as strings into a C++ file.  Called as a script: cmake -D OUTPUT=... -D FILES=a;b -P EncodeKernels.cmake
set(text "#include \"CommonKStepKernelSources.h\"\n\nnamespace OpenMMKStep {\nnamespace KernelSources {\n\n")
foreach(file ${FILES})
  get_filename_component(name "${file}" NAME_WE)
  file(READ "${file}" source)
  string(APPEND text "const char* const ${name} = R\"kernel(${source})kernel\";\n\n")
endforeach()
string(APPEND text "} // namespace KernelSources\n} // namespace OpenMMKStep\n")
file(WRITE "${OUTPUT}" "${text}")
