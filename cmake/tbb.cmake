# Finds oneTBB: first where CMake looks by itself, then in the tbb-devel wheel of the Python that builds.
find_package(TBB CONFIG QUIET)
if(NOT TBB_FOUND)
  find_package(Python 3.11 QUIET COMPONENTS Interpreter)
  if(Python_Interpreter_FOUND)
    execute_process(
      COMMAND
        "${Python_EXECUTABLE}" -c
        "from importlib.metadata import distribution as d; w = d('tbb-devel'); \
print(next(w.locate_file(f).resolve().parent for f in w.files if f.name == 'TBBConfig.cmake').as_posix())"
      OUTPUT_VARIABLE wheel_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(wheel_dir)
      find_package(TBB CONFIG QUIET PATHS "${wheel_dir}" NO_DEFAULT_PATH)
    endif()
  endif()
endif()
if(NOT TBB_FOUND)
  message(FATAL_ERROR "oneTBB is missing. Install it (pip install tbb-devel, or apt-get install libtbb-dev) and, where it "
                      "is in an unusual place, point CMAKE_PREFIX_PATH at it.")
endif()
