# find_package(zeromini) and pkg-config, for programs of others.
include(CMakePackageConfigHelpers)

set(zeromini_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/zeromini)

# Components: `library` (with headers), `programs` (tools/), and `debug`.
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME library)
install(DIRECTORY include/zeromini DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
install(TARGETS zeromini EXPORT zerominiTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT zerominiTargets NAMESPACE zeromini::
  DESTINATION ${zeromini_package_dir})
# The build tree is a package, too: CMake looks there when its bin is on the
# PATH, as tools/env.sh puts it.
export(EXPORT zerominiTargets NAMESPACE zeromini::
  FILE ${CMAKE_CURRENT_BINARY_DIR}/zerominiTargets.cmake)

# Nine tenths of the library is debug information, which has a place of its own.
install(FILES $<TARGET_FILE:zeromini>
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/debug COMPONENT debug EXCLUDE_FROM_ALL)
if(CMAKE_STRIP)
  set(zeromini_strip_folder ${CMAKE_INSTALL_LIBDIR})
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    string(PREPEND zeromini_strip_folder "\${CMAKE_INSTALL_PREFIX}/")
  endif()
  install(CODE "execute_process(COMMAND ${CMAKE_STRIP} --strip-debug
    \"\$ENV{DESTDIR}${zeromini_strip_folder}/$<TARGET_FILE_NAME:zeromini>\"
    COMMAND_ERROR_IS_FATAL ANY)")
endif()

configure_package_config_file(cmake/zerominiConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/zerominiConfig.cmake
  INSTALL_DESTINATION ${zeromini_package_dir})
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/zerominiConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/zerominiConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/zerominiConfigVersion.cmake
  DESTINATION ${zeromini_package_dir})

# A C program links a C++ archive, so pkg-config has to name the C++ library.
set(zeromini_pc_requires "absl_status absl_statusor absl_strings absl_str_format absl_span absl_time")
set(zeromini_pc_libs_private "-lstdc++ -lm -lpthread")
if(ZEROMINI_HAS_MPI)
  # By file: the C library alone, whatever else an MPI wrapper would add.
  list(JOIN MPI_C_LIBRARIES " " zeromini_mpi_libraries)
  string(APPEND zeromini_pc_libs_private " ${zeromini_mpi_libraries}")
endif()
# Relative to the file itself: an installed tree may be moved.
file(RELATIVE_PATH zeromini_pc_to_prefix
  /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/zeromini.pc.in ${CMAKE_CURRENT_BINARY_DIR}/zeromini.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/zeromini.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libzeromini-dev)
set(CPACK_PACKAGE_VENDOR zeromini)
set(CPACK_PACKAGE_CONTACT "zeromini maintainers")
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "zeromini maintainers")
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libabsl-dev")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
include(CPack)
