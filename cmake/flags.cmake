# maskmm_flags: warnings and sanitizers, for our own targets only.
add_library(maskmm_flags INTERFACE)
target_compile_options(
  maskmm_flags
  INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-psabi>
            $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${MASKMM_WERROR}>>:-Werror>)
if(MASKMM_SANITIZE)
  target_compile_options(maskmm_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MASKMM_SANITIZE}
                                                -fno-omit-frame-pointer -fno-sanitize-recover=all>)
  target_link_options(maskmm_flags INTERFACE -fsanitize=${MASKMM_SANITIZE})
endif()
