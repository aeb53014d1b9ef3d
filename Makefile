# make demo | make test | make check | make coverage | make bench | make gpu | make docs: each sets itself up in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
export NUMBA_NUM_THREADS ?= 2
# threads that wait give their core to others
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install demo test check coverage bench gpu faults docs clean

# pinned versions: one file for Python 3.10, one for later ones
CONSTRAINTS := $(if $(filter 3.10,$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')),constraints-3.10.txt,constraints.txt)

install: $(VENV)/.installed

# torch first and pinned: any range may bring a CUDA build of several GB
$(VENV)/.installed: setup.cfg setup.py pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

# what users install, without the tools of developers
$(VENV)/.for-users: setup.cfg setup.py pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --no-compile -c $(CONSTRAINTS) -e .
	touch $@

demo: $(if $(wildcard $(VENV)/.installed),install,$(VENV)/.for-users)
	$(BIN)/python examples/demo.py demo --n-jobs $(JOBS)

# one thread per process: small tensors gain nothing from more, and waiting threads take the cores from the others
test: install
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

# the tests of `make test` with their branches counted; ends with an error below the limit in setup.cfg
coverage: install
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow and not gpu" --cov --cov-report term

# what it counts is printed at the end and goes to build/faults/, with what safety costs
faults: install
	$(BIN)/python -m pytest -m slow --figures build/faults/counted.json
	$(BIN)/bmdkit simulate build/faults/cohort --patients 2
	$(BIN)/python benchmarks/faults.py build/faults/cohort --figures build/faults/counted.json --json build/faults/faults.json

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# what a processor can measure in half an hour, beside the figures that are kept
bench: install
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python benchmarks/bench.py

# all that a graphics card has to show, in 12 minutes; with a CUDA build of torch in .venv
gpu: install
	$(BIN)/python benchmarks/gpu.py --minutes 12 --json benchmarks/results/gpu.json

# the site, in build/site; any warning is an error
docs: install
	$(BIN)/python -m pip install --quiet --no-compile -c $(CONSTRAINTS) -e ".[docs]"
	$(BIN)/python -m bmdkit.errors > docs/errors.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) demo build *.egg-info
