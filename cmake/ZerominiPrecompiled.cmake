# Headers of others that many files include, compiled once.

include_guard(GLOBAL)

# zeromini_precompiled(<name> <libraries>... HEADERS <headers>...)
#
# For files of executables and of zeromini_of_programs() libraries that link at
# least these libraries and compile with zeromini_flags: flags must agree.
function(zeromini_precompiled name)
  cmake_parse_arguments(arg "" "" "HEADERS" ${ARGN})
  set(empty ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  file(CONFIGURE OUTPUT ${empty} CONTENT "")
  add_library(${name} OBJECT ${empty})
  target_link_libraries(${name} PRIVATE zeromini_flags ${arg_UNPARSED_ARGUMENTS})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  zeromini_of_programs(${name})
endfunction()

# zeromini_of_programs(<library>): compiled as the files of an executable are.
function(zeromini_of_programs library)
  set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${library} PRIVATE ${CMAKE_CXX_COMPILE_OPTIONS_PIE})
endfunction()
