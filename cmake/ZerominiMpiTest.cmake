# zeromini_mpi_test(<path> <ranks>... [OWN_MAIN] [LEAVES <leaf>...])
#
# Builds tests/<path>.cc, unless OWN_MAIN with tests/support/mpi_test_main.cc,
# which runs every test on all ranks at once, and registers one ctest entry per
# number of ranks.
# Links the library, or the named leaves. Skips visibly without MPI.

include_guard(GLOBAL)

# What tools/env.sh sets: root may run it, with more ranks than cores.
set(ZEROMINI_MPI_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
  OMPI_MCA_hwloc_base_binding_policy=none)

function(zeromini_mpi_test path)
  cmake_parse_arguments(arg "OWN_MAIN" "" "LEAVES" ${ARGN})
  string(REPLACE "/" "." name ${path})
  if(NOT ZEROMINI_HAS_MPI OR NOT MPIEXEC_EXECUTABLE)
    add_test(NAME ${name}
      COMMAND ${CMAKE_COMMAND} -E echo "skipped: there is no MPI here")
    set_tests_properties(${name} PROPERTIES
      LABELS mpi SKIP_REGULAR_EXPRESSION "^skipped:")
    return()
  endif()
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${path}.cc)
  if(NOT arg_OWN_MAIN)
    target_sources(${name} PRIVATE
      ${PROJECT_SOURCE_DIR}/tests/support/mpi_test_main.cc)
  endif()
  target_include_directories(${name}
    PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  if(arg_LEAVES)
    list(TRANSFORM arg_LEAVES PREPEND zeromini_)
    target_link_libraries(${name} PRIVATE ${arg_LEAVES})
  else()
    target_link_libraries(${name} PRIVATE
      zeromini_test_device zeromini::zeromini)
  endif()
  target_link_libraries(${name} PRIVATE
    zeromini_test_flags absl::strings absl::str_format GTest::gmock MPI::MPI_C)
  target_compile_definitions(${name}
    PRIVATE OMPI_SKIP_MPICXX=1 MPICH_SKIP_MPICXX=1)
  target_precompile_headers(${name} REUSE_FROM zeromini_test_headers)
  foreach(ranks ${arg_UNPARSED_ARGUMENTS})
    add_test(NAME ${name}.${ranks} COMMAND
      ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.${ranks} PROPERTIES
      LABELS mpi TIMEOUT 300 PROCESSORS 2
      ENVIRONMENT "${ZEROMINI_MPI_ENVIRONMENT}")
  endforeach()
endfunction()
