# The clustering libraries with their headers, for programs outside of this tree: find_package(moextract), then
# target_link_libraries(... moextract::cluster). `cmake --install BUILD --component cluster` installs them alone.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/moextract")
set(_libraries options core comm cluster)
foreach(library IN LISTS _libraries)
  set_target_properties(moextract_${library} PROPERTIES EXPORT_NAME ${library})
  install(TARGETS moextract_${library} EXPORT moextract-libraries
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT cluster)
endforeach()
target_include_directories(moextract_options INTERFACE
  "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/moextract>")
install(EXPORT moextract-libraries NAMESPACE moextract:: DESTINATION "${_package}" COMPONENT cluster)

foreach(folder core comm cluster)
  install(DIRECTORY "${CMAKE_SOURCE_DIR}/pipeline/${folder}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/moextract"
    COMPONENT cluster FILES_MATCHING PATTERN "*.h"
    PATTERN "nccl*" EXCLUDE PATTERN "device_ranks.h" EXCLUDE)  # of libraries that are not installed
endforeach()

configure_package_config_file("${CMAKE_SOURCE_DIR}/cmake/moextractConfig.cmake.in"
  "${CMAKE_BINARY_DIR}/cmake/moextractConfig.cmake" INSTALL_DESTINATION "${_package}")
write_basic_package_version_file("${CMAKE_BINARY_DIR}/cmake/moextractConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/cmake/moextractConfig.cmake"
  "${CMAKE_BINARY_DIR}/cmake/moextractConfigVersion.cmake" "${CMAKE_SOURCE_DIR}/cmake/FindxxHash.cmake"
  DESTINATION "${_package}" COMPONENT cluster)
