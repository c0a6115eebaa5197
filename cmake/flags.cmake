# maskmm_flags: warnings and sanitizers, for our own targets only.
add_library(maskmm_flags INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlaps in std::string's operator+ (GCC bug 105651) and uninitialised values in its own AVX-512
  # intrinsics (GCC bug 105593); neither is there.
  target_compile_options(maskmm_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict -Wno-maybe-uninitialized>)
endif()
target_compile_options(
  maskmm_flags
  INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-psabi>
            $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${MASKMM_WERROR}>>:-Werror>)
if(MASKMM_SANITIZE)
  target_compile_options(maskmm_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MASKMM_SANITIZE}
                                                -fno-omit-frame-pointer -fno-sanitize-recover=all>)
  target_link_options(maskmm_flags INTERFACE -fsanitize=${MASKMM_SANITIZE})
endif()
