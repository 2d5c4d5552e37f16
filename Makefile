# Every target makes .venv and installs by itself. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PACKAGES := quant hw sim flow constraints
OUT ?= build/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1

demo: $(READY)
	$(BIN)/tercet demo --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Every proof, its counterexample when voter or checker is broken, and their table.
formal: $(READY)
	$(BIN)/python -m pytest tests/formal

check: lint types test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) links
	$(BIN)/mypy

# Folders are mapped to subpackages at import; type checkers need to see the tree itself.
links:
	@mkdir -p build/links/tercet
	@for p in $(PACKAGES); do ln -sfn ../../../$$p build/links/tercet/$$p; done

# networks.py is a module; netlist.py and zoo_rtl.py need a design or graphs of one's own.
TABLE := build/search_table
LATER := $(addprefix benchmarks/,networks.py netlist.py zoo_rtl.py search_table.py search_engines.py asi.py)

bench: $(READY)
	@set -e; for script in $(filter-out $(LATER),$(wildcard benchmarks/*.py)); do \
	    echo "== $$script"; $(BIN)/python $$script; done
	$(BIN)/python benchmarks/search_table.py -o $(TABLE)
	$(BIN)/python benchmarks/search_engines.py $(TABLE)/table.npz
	$(BIN)/python benchmarks/asi.py $(TABLE)/table.npz

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# torch that is already in .venv (a CPU build, say) stays. pip 25.1 knows dependency groups.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	touch $@

.DEFAULT_GOAL := demo
.PHONY: demo test slow formal check lint types links bench wheel
