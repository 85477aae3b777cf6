# Two commands: `make run` and `make test`. Everything else is for developers.
#   make run ARGS="--model gpt2-124m"      pass options to the program
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu     the small CPU build of torch (Linux without a GPU)

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH_INDEX ?=
WORKERS ?= 2
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
export PIP_NO_WARN_SCRIPT_LOCATION = 1

.PHONY: run test bench sweep lint format clean

run: $(VENV)/.ready
	@$(BIN)/cyclograph $(ARGS)

# Tests of one file stay together: they share fixtures, and one process has one engine at a time.
test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

bench: $(VENV)/.ready-test
	@for name in startup frame loop overhead observer commands recording replay; do $(BIN)/python -m tests.benchmarks.$$name $(ARGS) || exit 1; done

sweep: $(VENV)/.ready-test
	@$(BIN)/python -m tests.sweep $(ARGS)

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.ready-test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Cyclograph needs Python 3.11 or newer, and none was found: install it, then run make again."; exit 1; }
	@sh resources/setup/make_venv.sh "$(PYTHON)" "$(VENV)"

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once; torch is large)"
	@$(PIP) install $(INDEX) -c constraints.txt -e .
	@$(BIN)/python resources/setup/system_packages.py
	@touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) with the test tools (once; torch is large)"
	@$(PIP) install $(INDEX) -c constraints.txt -e ".[test]"
	@$(BIN)/python resources/setup/system_packages.py --tests
	@touch $@ $(VENV)/.ready

clean:
	@rm -rf $(VENV) .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
