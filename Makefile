# Two commands: `make demo` runs the main job, `make test` passes the tests. Both set up what they need in .venv.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
BUILD  := build
SOURCES := $(shell find openmmkstep platforms serialization python tests -type f \( -name '*.cpp' -o -name '*.cc' -o -name '*.h' -o -name '*.cmake' -o -name CMakeLists.txt -o -path 'python/openmmkstep/*.py' \)) CMakeLists.txt pyproject.toml

# The CPU build of torch that this project is pinned to; all other packages are those of pyproject's extra 'dev'.
TORCH := torch==2.13.0
PACKAGES := openmm==8.6.1 "h5py>=3.10,<4" "dask[distributed]>=2024.8" "pydantic>=2.5,<3" xtb==22.1 "tblite>=0.8,<0.9" "numpy>=1.26" "pybind11>=2.13" "scikit-build-core>=0.10" "ninja>=1.11" "cmake>=3.25" "pytest>=8" "ruff>=0.6" "matplotlib>=3.8" "tqdm>=4.66" "physical_validation>=1.0.5,<2" "scipy>=1.11" "mdtraj>=1.10,<2" "ase>=3.23,<4" "openmmml>=1.8,<2"
# Only its data files are used (examples/qmmm_systems), so nothing that it depends on is installed.
DATA_PACKAGES := openmmtools==0.27.0

# openmm-torch needs another torch (docs/openmm-torch.md): an environment and a build of its own, of 7 GB.
OPENMM_TORCH_VENV := .venv-openmm-torch
OPENMM_TORCH_BUILD := build-openmm-torch
OPENMM_TORCH_PACKAGES := torch==2.9.1 openmmtorch==1.5 openmm==8.6.1 xtb==22.1 "numpy>=1.26" "tqdm>=4.66" "scipy>=1.11" "pybind11>=2.13" "scikit-build-core>=0.10" "ninja>=1.11" "cmake>=3.25" "pytest>=8"

.PHONY: all demo model test ctest pytest lint test-opencl test-cuda memcheck-opencl test-openmm-torch clean
all: $(BUILD)/.installed

$(VENV)/.packages: Makefile
	@echo "== Setting up $(VENV) (downloads some 500 MB the first time)"
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -c "import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else 'Python 3.11 is needed (libxtb has no wheels for newer ones); call make PYTHON=/path/to/python3.11')"
	$(BIN)/pip install --progress-bar on $(TORCH)
	$(BIN)/pip install --progress-bar on $(PACKAGES)
	$(BIN)/pip install --progress-bar on --no-deps $(DATA_PACKAGES)
	@touch $@

$(BUILD)/.installed: $(VENV)/.packages $(SOURCES)
	@echo "== Building and installing openmmkstep"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --no-build-isolation --no-deps -v --config-settings=build-dir=$(BUILD) --config-settings=cmake.define.BUILD_TESTING=ON . > $(VENV)/build.log 2>&1 || { tail -n 60 $(VENV)/build.log; exit 1; }
	@touch $@

demo: $(BUILD)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python examples/01_alanine_dipeptide_in_water.py

# Makes a model of the demo's system (45 minutes) in the folder retrain/; the shipped one stays.
model: $(BUILD)/.installed
	$(BIN)/kstep model examples/alanine_dipeptide/system.py --folder retrain

test: lint ctest pytest

ctest: $(BUILD)/.installed
	@echo "== C++ tests"
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure --progress --parallel 2

pytest: $(BUILD)/.installed
	@echo "== Python tests"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Both fail where the platform or a device for it is missing; `make test` skips the tests then.
test-opencl: $(BUILD)/.installed
	@echo "== Tests on OpenCL"
	OPENMMKSTEP_REQUIRE=OpenCL $(BIN)/ctest --test-dir $(BUILD) --output-on-failure --progress --no-tests=error -L OpenCL
	OPENMMKSTEP_REQUIRE=OpenCL OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/python/test_gpu_platforms.py -k OpenCL

test-cuda: $(BUILD)/.installed
	@echo "== Tests on CUDA"
	OPENMMKSTEP_REQUIRE=CUDA $(BIN)/ctest --test-dir $(BUILD) --output-on-failure --progress --no-tests=error -L CUDA
	OPENMMKSTEP_REQUIRE=CUDA OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/python/test_gpu_platforms.py -k CUDA

# Host code and kernels under valgrind, which must be installed (20 minutes): PoCL's kernels run in the process.
memcheck-opencl: $(BUILD)/.installed
	@echo "== Memory checks on OpenCL"
	for test in QMRegion Mollified DeviceFailure; do echo $$test; OPENMMKSTEP_REQUIRE=OpenCL valgrind --quiet --error-exitcode=1 --suppressions=tests/valgrind.supp $(BUILD)/tests/opencl/TestOpenCLKStep$$test OpenCL mixed || exit 1; done

lint: $(VENV)/.packages
	@echo "== Lint"
	$(BIN)/ruff check python tests examples benchmarks

$(OPENMM_TORCH_VENV)/.packages:
	@echo "== Setting up $(OPENMM_TORCH_VENV) (downloads 3.6 GB the first time)"
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(OPENMM_TORCH_VENV) || python3 -m venv $(OPENMM_TORCH_VENV)
	$(OPENMM_TORCH_VENV)/bin/pip install --progress-bar on $(OPENMM_TORCH_PACKAGES)
	@touch $@

$(OPENMM_TORCH_BUILD)/.installed: $(OPENMM_TORCH_VENV)/.packages $(SOURCES)
	@echo "== Building openmmkstep for the torch of openmm-torch"
	PATH="$(abspath $(OPENMM_TORCH_VENV)/bin):$$PATH" $(OPENMM_TORCH_VENV)/bin/pip install --no-build-isolation --no-deps -v --config-settings=build-dir=$(OPENMM_TORCH_BUILD) . > $(OPENMM_TORCH_VENV)/build.log 2>&1 || { tail -n 60 $(OPENMM_TORCH_VENV)/build.log; exit 1; }
	@touch $@

# Writes tests/openmm_torch/result.json.
test-openmm-torch: $(OPENMM_TORCH_BUILD)/.installed
	@echo "== Tests with openmm-torch"
	OMP_NUM_THREADS=1 $(OPENMM_TORCH_VENV)/bin/python -m pytest tests/openmm_torch

clean:
	rm -rf $(BUILD) $(VENV) $(OPENMM_TORCH_BUILD) $(OPENMM_TORCH_VENV)
