# servecast: `make demo` and `make test` need only Python 3.11+ and make; each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two worker processes halve the suite on two cores; `make test WORKERS=0` runs it in one, for a debugger.
WORKERS ?= 2

.PHONY: demo test check clean

demo: $(VENV)/.run-ready
	@$(BIN)/servecast demo --force

test: check
	@$(BIN)/python -m pytest -q -n $(WORKERS)

check: $(VENV)/.dev-ready
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check sim workloads hwprofiles experiments tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "servecast needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then uv venv -q --python $(PYTHON) $(VENV); \
	else $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv module; on Debian or Ubuntu: apt install python3-venv"; exit 1; }; fi

# Running needs the core dependencies alone, so the first demo does not wait for the test tools.
$(VENV)/.run-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing servecast into $(VENV) (once) ..."
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e .; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .; \
	fi
	@touch $@

# `pip install --group` needs pip 25.1, hence the upgrade (to the pinned version).
$(VENV)/.dev-ready: $(VENV)/.run-ready
	@echo "installing the test tools into $(VENV) (once) ..."
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e . --group dev; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --upgrade -c constraints.txt pip && \
	  $(BIN)/python -m pip install -q -c constraints.txt -e . --group dev; \
	fi
	@touch $@
