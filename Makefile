# Two commands: `make demo` runs the whole flow on real digits, `make test` the whole test suite.
# Both create .venv on their first run. Needed: Python 3.11+, g++, make and perl.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo test slow soak proofs lint docs clean

demo: $(VENV)/demo.installed
	$(BIN)/nupes demo

# One thread for each worker: more of them than cores wait for one another.
test slow soak: export OMP_NUM_THREADS = 1

# Bytecode is kept: the tests start hundreds of processes, and each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

# Neighbours share simulators: a worker takes them in one run, and one that is done takes over others'.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/dev.installed
	$(PYTEST) -m "not slow"

# What takes longest is listed, so that this tier stays within the hour.
slow: $(VENV)/dev.installed
	$(PYTEST) -m slow --durations=30

# Tens of thousands of random networks, stalls and resets through the RTL: hours.
soak: export HYPOTHESIS_PROFILE = soak
soak: $(VENV)/dev.installed
	$(PYTEST) tests/test_equivalence.py tests/test_cells.py \
		tests/sim/test_accelerator.py

# What the blocks of the hardware compute, for all inputs: docs/proofs.md.
proofs: $(VENV)/dev.installed
	$(BIN)/python -m proofs

lint: $(VENV)/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# Material for MkDocs says on every build that MkDocs 2 is not for it; pyproject.toml keeps it away.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/dev.installed
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build dist out site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make environments: on Debian, apt-get install python3-venv"; exit 1; }

$(VENV)/demo.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing nupes and what the demo and the report need in $(VENV) (once, some minutes)"
	$(INSTALL) -e ".[demo,report]"
	@touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing nupes and what the tests need in $(VENV) (once, some minutes)"
	$(INSTALL) -e ".[dev]"
	@touch $@
