# add_platform_tests(PREFIX HEADER "Platform precision;..." definitions...)
# Makes a program of each test body in tests/ for the platform whose loadPlugins() is in HEADER, and a test of it for each
# platform (and precision) that a library serves.
set(PLATFORM_TESTS Barostat Context DeepMollification Errors Impulse IntegratorSuite Langevin Metropolis Mollified Precision
  QMRegion Recovery Regions Resonance Restart Reweight)
# Only GPU platforms sort their particles.
set(GPU_TESTS Reordering)

# The same for one test, whose name follows the prefix.
function(add_platform_test prefix test header configurations)
  set(target Test${prefix}KStep${test})
  set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "#include \"${header}\"
#include \"TestKStep${test}.h\"

int main(int argc, char* argv[]) {
    return KStepTests::runOnPlatform(argc, argv, loadPlugins, runTests);
}
")
  add_executable(${target} "${source}")
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE OpenMMKStep)
  target_compile_options(${target} PRIVATE -Wall)
  target_compile_definitions(${target} PRIVATE KSTEP_REFERENCE_PLUGIN="$<TARGET_FILE:OpenMMKStepReference>" ${ARGN})
  add_dependencies(${target} OpenMMKStepReference OpenMMKStep${prefix})
  foreach(configuration ${configurations})
    string(REPLACE " " "_" name "TestKStep${test}_${configuration}")
    string(REPLACE " " ";" arguments "${configuration}")
    add_test(NAME ${name} COMMAND ${target} ${arguments})
    # Programs return 77 where OpenMM has no such platform or no device for it.
    set_tests_properties(${name} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 LABELS ${prefix})
  endforeach()
endfunction()

function(add_platform_tests prefix header configurations)
  set(tests ${PLATFORM_TESTS})
  if(NOT prefix STREQUAL "Reference")
    list(APPEND tests ${GPU_TESTS})
  endif()
  foreach(test ${tests})
    add_platform_test(${prefix} ${test} ${header} "${configurations}" ${ARGN})
  endforeach()
endfunction()
