# The C++ package: headers, libmaskmm and what find_package(maskmm) reads. Component "cpp"; the Python extension is
# component "python", so that a wheel holds nothing of this.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/maskmm)

install(TARGETS maskmm_core EXPORT maskmm
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp)
install(DIRECTORY include/maskmm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT cpp)
install(EXPORT maskmm NAMESPACE maskmm:: DESTINATION ${package_dir} FILE maskmmTargets.cmake COMPONENT cpp)
configure_package_config_file(cmake/maskmmConfig.cmake.in maskmmConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(maskmmConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/maskmmConfig.cmake ${PROJECT_BINARY_DIR}/maskmmConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT cpp)
