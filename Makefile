# The whole set-up, the main job and the tests: `make setup`, `make run`, `make test`. The environment is .venv here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup run test quick lint clean

setup: $(INSTALLED) ## environment, dependencies and the built-in programs' data
	@$(BIN)/waggle program data lm-mini

$(INSTALLED): pyproject.toml constraints.txt
	@sh deploy/system-packages.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: setup ## a node with the quick built-in program
	$(BIN)/waggle start --program lm-mini

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

quick: $(INSTALLED) ## the inner loop, under a minute
	$(BIN)/python -m pytest -q -n 2 -m 'not slow' -x tests/protocol tests/agent tests/contract tests/node tests/test_imports.py

test: setup lint ## everything
	@sh deploy/system-packages.sh --all
	$(BIN)/python -m pytest -q -n 2

clean:
	rm -rf $(VENV) build dist
