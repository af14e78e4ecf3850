# The commands of this project; CI runs the same ones. `make help` lists them.
#
# PYTHON   the interpreter to make the environment with   (python3, or a newer one where that is too old)
# VENV     where the environment is                       (.venv)
# ARGS     more arguments for pytest, census or benchmarks (make test ARGS="-k router")
# DIST     where `make build` puts what it builds         (dist)

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV ?= .venv
DIST ?= dist
ARGS ?=
PYTHON ?= python3
ifeq ($(origin PYTHON),file)
FALLBACKS := python3.13 python3.12 python3.11
endif

BIN := $(VENV)/bin
DOCUMENTS = $(wildcard README.md CONTRIBUTING.md docs)

.PHONY: help
help: ## list what can be done here
	@echo "make COMMAND, where COMMAND is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(VENV)/.ready-examples ## take a census of the Python standard library, as an example of real work
	$(BIN)/python examples/census/census.py $(ARGS)

.PHONY: test
test: $(VENV)/.ready-test ## run all tests, on all cores (ARGS="-k router" for some)
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: lint
lint: $(VENV)/.ready-lint ## check the style and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

.PHONY: format
format: $(VENV)/.ready-lint ## put the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.ready-types ## check the types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: docs
docs: $(VENV)/.ready-test ## run the examples of the README and of docs/
	$(BIN)/python -m pytest -n auto --dist loadfile $(DOCUMENTS) $(ARGS)

.PHONY: bench
bench: $(VENV)/.ready-examples ## measure Cascade, its floors and other tools, and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks --write $(ARGS)

.PHONY: bench-quick
bench-quick: $(VENV)/.ready-examples ## compare the cost of a task with the ratios that are kept, in half a minute
	$(BIN)/python -m benchmarks --quick $(ARGS)

.PHONY: build
build: $(VENV)/.ready-build ## build the source archive and the wheel into dist/
	$(BIN)/python -m build --outdir $(DIST) .

.PHONY: clean
clean: ## remove the environment and everything that was built
	rm -rf .venv dist census-report benchmarks/.environments .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp a purpose, so that each command waits only for what it needs and a change of pyproject.toml is noticed.
.PHONY: environment
environment: $(foreach purpose,test lint types build examples,$(VENV)/.ready-$(purpose)) ## install all that the commands need

$(VENV)/.made:
	@python=$$(.ci/find-python $(PYTHON) $(FALLBACKS)) && set -x && "$$python" -m venv --clear $(VENV)
	@touch $@

# Types are checked with everything installed that the package can use.
$(VENV)/.ready-test $(VENV)/.ready-types: EXTRAS = all,servers,
$(VENV)/.ready-%: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)$*]'
	@touch $@
