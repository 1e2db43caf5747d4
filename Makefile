# Each target sets up all that it needs on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-all lint format bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/genevae: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(BIN)/genevae  ## Train on real data, and leave embeddings, pictures and a summary in demo/
	$(BIN)/genevae demo --out demo --force

test: $(BIN)/genevae  ## Run the tests
	$(BIN)/pytest

test-all: $(BIN)/genevae  ## Run the slow tests too
	$(BIN)/pytest -m "slow or not slow"

lint: $(BIN)/genevae  ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/genevae  ## Format the code
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

$(VENV)-bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)-bench/ready  ## Measure speed, fit and counterfactuals beside peers and baselines (half an hour)
	$(VENV)-bench/bin/python benchmarks/agreement.py
	$(VENV)-bench/bin/python benchmarks/throughput.py
	$(VENV)-bench/bin/python benchmarks/bound.py
	$(VENV)-bench/bin/python benchmarks/counterfactual.py

clean:  ## Remove the virtual environments, the demo and all caches
	rm -rf $(VENV) $(VENV)-bench demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
