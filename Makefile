# The two commands: `make run` starts the camera, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where the processor has AMX, resolving a symbol inside a signal handler needs more than the small
# stack handlers run on; torch's workers and pytest together met that. Resolve at load instead.
test nightly: export LD_BIND_NOW := 1

.PHONY: run test nightly lint types clean

run: $(VENV)/.run
	$(BIN)/vcam start --foreground --page

# Torch and the desktop's libraries do not share a process in the program either. Training's tests
# and the virtual machine's wait for nobody and nobody waits for them: they take what time the
# others leave.
TORCH := $(wildcard tests/segmentation/test_cuda*.py) tests/segmentation/test_bisenet.py
BESIDE := $(VENV)/tests-beside.log
test: $(VENV)/.test
	@OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m pytest tests/train tests/vm >$(BESIDE) 2>&1 & \
	beside=$$!; trap 'kill $$beside; exit 1' INT TERM; failed=0; \
	$(BIN)/python -m pytest $(TORCH) || failed=1; \
	$(BIN)/python -m pytest tests $(patsubst %,--ignore=%,$(TORCH) tests/train tests/vm) || failed=1; \
	echo "Tests of training and in the virtual machine, which ran beside the others:"; \
	wait $$beside || failed=1; cat $(BESIDE); exit $$failed

# What takes minutes: ten thousand requests, hundreds of calls in a real kernel, two hundred thousand
# frames, two thousand scenes in dim rooms, a soak.
nightly: $(VENV)/.test $(if $(wildcard ../shared/prototypes/gpu_stub),.venv-gpu/.made)
	VCAM_VM=1 VCAM_TEST_INSTALL=1 $(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.faults --frames 200000
	$(BIN)/python -m tests.faults.dim --cases 2000
	$(BIN)/python -m tests.soak --minutes 30
	$(BIN)/python -m tests.faults.known_room --frames 10000

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "VBG Camera needs Python 3.10 or newer: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ echo "venv is missing: sudo apt install python3-venv"; rm -rf $(VENV); exit 1; }

# Where an NVIDIA driver has a card, torch comes too, some gigabytes; if it does not, the processor
# does the work.
CUDA := $(if $(wildcard /proc/driver/nvidia/gpus/* /usr/lib/wsl/lib/libcuda.so.1),[cuda])
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.run: $(BIN)/python pyproject.toml
	$(PIP) -e '.$(CUDA)' || $(PIP) -e .
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.run

# torch for CUDA, 5 GB, which runs on a stub of the driver; without +cpu, whichever is offered first.
.venv-gpu/.made: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check 'torch===2.13.0' -e '.[cuda]'
	touch $@

clean:
	rm -rf $(VENV) .venv-gpu build dist *.egg-info
