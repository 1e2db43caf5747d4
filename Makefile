# Each target sets up all that it needs on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
NEWER ?= python3.13
BIN := $(VENV)/bin

.PHONY: help demo test test-all cases docs lint format bench bench-scale bench-annbatch bench-systems results clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/genevae: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/dev: $(BIN)/genevae
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(BIN)/genevae  ## Train on real data, and leave a page with a report, an explorer and pictures in demo/
	$(BIN)/genevae demo --out demo --force

test: $(VENV)/dev  ## Run the tests, in one process for each core
	$(BIN)/pytest -n auto --dist loadfile

test-all: $(VENV)/dev  ## Run the slow tests too
	$(BIN)/pytest -n auto --dist loadfile -m "slow or not slow"

cases: $(VENV)/dev  ## Run the scripts of what once went wrong, in ../shared/cases
	$(BIN)/python benchmarks/cases.py $(CASES)

$(VENV)/docs: $(BIN)/genevae
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/docs  ## Build the site in build/docs: warnings are errors, every code cell is run, no network is needed
	$(BIN)/python -m sphinx -W --keep-going -q -E -b html docs build/docs

lint: $(VENV)/dev  ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev  ## Format the code
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

$(VENV)-bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)-bench/ready  ## Measure agreement with SciPy and scvi-tools, and speed beside it and on two processes
	$(VENV)-bench/bin/python benchmarks/agreement.py
	$(VENV)-bench/bin/python benchmarks/throughput.py
	$(VENV)-bench/bin/python benchmarks/processes.py
	$(VENV)-bench/bin/python -m benchmarks.epochs

bench-scale: $(VENV)-bench/ready  ## Write an atlas of a million cells (12 GB in build/), and measure loading and streaming
	$(VENV)-bench/bin/python benchmarks/loading.py
	$(VENV)-bench/bin/python benchmarks/streaming.py
	@if $(NEWER) --version > /dev/null 2>&1; then $(MAKE) bench-annbatch; else echo 'no $(NEWER): annbatch is left out'; fi

bench-annbatch:  ## The same beside annbatch, in an environment of a newer Python (NEWER=python3.13)
	test -e $(VENV)-annbatch || $(NEWER) -m venv $(VENV)-annbatch
	$(VENV)-annbatch/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(VENV)-annbatch/bin/pip install --quiet --disable-pip-version-check --editable '.[annbatch]'
	$(VENV)-annbatch/bin/python benchmarks/loading.py --annbatch

bench-systems: $(VENV)-bench/ready  ## Measure the speed of recipes beside their plain forms, and effects of nested conditions
	$(VENV)-bench/bin/python benchmarks/convolution.py
	$(VENV)-bench/bin/python benchmarks/cycle.py
	$(VENV)-bench/bin/python benchmarks/nesting.py

results: $(VENV)-bench/ready  ## Train our recipes and others on real data, and write docs/results.md (an hour)
	$(VENV)-bench/bin/python -m benchmarks.results $(RESULTS)

clean:  ## Remove the virtual environments, the demo and all caches
	rm -rf $(VENV) $(VENV)-bench $(VENV)-annbatch demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
