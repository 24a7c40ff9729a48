# The only place where compiler flags are spelled.

add_library(zeromini_flags INTERFACE)
target_compile_features(zeromini_flags INTERFACE cxx_std_20)
target_compile_options(zeromini_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor>
  # The same bits on every machine: no fused multiply-add behind our back.
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${ZEROMINI_WERROR}>>:-Werror>)

# A failed test needs its lines; types would be a third of the compile time.
add_library(zeromini_test_flags INTERFACE)
target_link_libraries(zeromini_test_flags INTERFACE zeromini_flags)
target_compile_options(zeromini_test_flags INTERFACE
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:RelWithDebInfo>>:-g1>)

# zeromini_leaf(<folder> <sources>...): a leaf sees include/ and itself.
function(zeromini_leaf name)
  add_library(zeromini_${name} OBJECT ${ARGN})
  target_include_directories(zeromini_${name}
    PRIVATE ${PROJECT_SOURCE_DIR}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  target_link_libraries(zeromini_${name}
    PUBLIC absl::status absl::statusor absl::span absl::time
    PRIVATE zeromini_flags absl::strings absl::str_format)
endfunction()

# zeromini_unit_test(<path> <leaves>...): tests one leaf through its own headers.
function(zeromini_unit_test path)
  string(REPLACE "/" "." name ${path})
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${path}.cc)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(leaf ${ARGN})
    target_link_libraries(${name} PRIVATE zeromini_${leaf})
  endforeach()
  target_link_libraries(${name} PRIVATE
    zeromini_test_flags absl::strings absl::str_format GTest::gmock_main)
  target_precompile_headers(${name} REUSE_FROM zeromini_test_headers)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

# zeromini_api_test(<path> [PRECOMPILED <target>] [libraries]...): links the library
# and sees only what users see.
function(zeromini_api_test path)
  cmake_parse_arguments(arg "" PRECOMPILED "" ${ARGN})
  if(NOT arg_PRECOMPILED)
    set(arg_PRECOMPILED zeromini_test_headers)
  endif()
  string(REPLACE "/" "." name ${path})
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${path}.cc)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE
    zeromini_test_device zeromini::zeromini zeromini_test_flags absl::strings
    GTest::gmock_main ${arg_UNPARSED_ARGUMENTS})
  target_precompile_headers(${name} REUSE_FROM ${arg_PRECOMPILED})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ranks TIMEOUT 300)
endfunction()

# zeromini_device_test(<path> [libraries]...): the same binary runs on the host
# and, by ZEROMINI_TEST_DEVICE, on the fake device of tests/support.
function(zeromini_device_test path)
  string(REPLACE "/" "." name ${path})
  zeromini_api_test(${path} ${ARGN})
  add_test(NAME ${name}_on_the_fake_device COMMAND ${name})
  set_tests_properties(${name}_on_the_fake_device PROPERTIES
    LABELS ranks TIMEOUT 600 ENVIRONMENT "ZEROMINI_TEST_DEVICE=fake")
endfunction()
