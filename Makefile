# Everything sets itself up: `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS_INSTALLED := $(VENV)/.peers-installed
DOCS_INSTALLED := $(VENV)/.docs-installed
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: demo test test-all check format docs docs-serve docs-tables bench clean
.DEFAULT_GOAL := test

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("mtvision needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(INSTALLED)  ## train on generated shapes: table, curves and a panel of predictions in runs/demo
	$(BIN)/python examples/quickstart.py --run-dir runs/demo

# many tests start processes: with compiled modules each of them starts sooner
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=auto

test: $(INSTALLED)  ## all tests but the slow ones
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)  ## all tests
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --project tests/typing --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

docs: $(DOCS_INSTALLED)  ## build the site into runs/site; a warning fails it (not with --quiet, which hides them from --strict too)
	$(MKDOCS) build

docs-serve: $(DOCS_INSTALLED)  ## show the site on http://127.0.0.1:8000 and build anew what is changed
	$(MKDOCS) serve --watch src

docs-tables: $(INSTALLED)  ## write docs/components.md from the registries, and the diagrams of the concept pages
	$(BIN)/python docs/write_components.py
	$(BIN)/python docs/write_diagrams.py

$(PEERS_INSTALLED): benchmarks/requirements.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	touch $@

bench: $(PEERS_INSTALLED)  ## measure against peers and limits into runs/bench; BENCH_OPTIONS="--quick" or "--only data metrics"
	$(BIN)/python benchmarks/run_all.py $(BENCH_OPTIONS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
