# The whole set-up, the main job and the tests: `make run`, `make test`. Everything lives in .venv of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test quick lint system clean

setup: $(STAMP) ## virtual environment and dependencies

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

system: ## Debian packages that tests and sandbox need
	@sh deploy/system-packages.sh

run: system setup ## a node with the quick built-in program
	$(BIN)/waggle start --program lm-mini

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

quick: setup ## the inner loop
	$(BIN)/python -m pytest -q -m 'not slow' -x tests/protocol tests/agent tests/trainer/test_program.py tests/trainer/test_frames.py

test: system setup
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2

clean:
	rm -rf $(VENV) build dist
