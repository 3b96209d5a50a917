# SPDX-License-Identifier: BSL-1.0
# What keel's headers include from others: threads, Boost (CRC, Interprocess; headers only) and tl::expected.
# Sets keel_dependencies to the targets, or keel_missing to a sentence that says which one there is not.
# libzstd, liblz4 and xxHash belong to one header of keel each. A program that includes such a header links the library itself.
set(keel_missing "")
set(keel_dependencies Threads::Threads Boost::headers tl::expected)

if(POLICY CMP0167)
    cmake_policy(SET CMP0167 NEW) # Boost's own package file, where CMake has no FindBoost any more
endif()
find_package(Threads QUIET)
if(NOT TARGET Boost::headers)
    find_package(Boost 1.74 QUIET)
endif()
if(NOT TARGET tl::expected)
    find_package(tl-expected QUIET CONFIG)
endif()
if(NOT TARGET tl::expected) # the header alone, as it is often copied
    find_path(KEEL_EXPECTED_INCLUDE_DIR tl/expected.hpp)
    if(KEEL_EXPECTED_INCLUDE_DIR)
        add_library(tl::expected INTERFACE IMPORTED)
        set_target_properties(tl::expected PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${KEEL_EXPECTED_INCLUDE_DIR}")
    endif()
endif()

if(NOT TARGET Threads::Threads)
    set(keel_missing "keel needs threads, and the C or C++ compiler of this project gives none")
elseif(NOT TARGET Boost::headers)
    set(keel_missing "keel needs the headers of Boost 1.74 or newer (Debian: libboost-dev); set Boost_ROOT to where they are")
elseif(NOT TARGET tl::expected)
    set(keel_missing "keel needs tl/expected.hpp (Debian: libexpected-dev); set KEEL_EXPECTED_INCLUDE_DIR to the folder that has tl/")
endif()
