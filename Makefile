# On a machine with Python 3.11+ and make, every target sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OPS    := .venv-ops
# Two workers a core: most of what takes long waits for a process or a clock.
PYTEST  = $(BIN)/python -m pytest --dist=worksteal \
  --numprocesses=$(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')

.PHONY: help run test fast test-ops tools lint types docs bench lock clean

help: ## Show what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "radgateway needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## Serve the reference app on 127.0.0.1:8090 with embedded defaults
	@$(BIN)/radgateway serve

test: $(READY) tools ## Run the whole test suite
	@$(PYTEST) -m "not ops"

fast: $(READY) tools ## Run all but the slowest tests, in under two minutes
	@$(PYTEST) -m "not slow and not ops"

test-ops: $(READY) $(OPS)/.ready tools ## Build the image, check what is deployed, judge a canary, rehearse an incident
	@.ci/tools image
	@$(PYTEST) -m ops

$(OPS)/.ready: .ci/ops-requirements.txt
	@test -x $(OPS)/bin/python || $(PYTHON) -m venv $(OPS)
	@echo "Installing the tools for operations into $(OPS) (about a minute, once) ..."
	@$(OPS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

tools: ## Install Prometheus, Alertmanager and Node.js, which the tests run, where they are missing
	@.ci/tools

lint: $(READY) ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## Check types
	@$(BIN)/mypy

docs: $(READY) ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet

bench: $(READY) ## Measure the gateway against nginx on this machine
	@$(BIN)/python -m benchmarks

lock: $(READY) ## Pin the dependencies anew (needs uv on the PATH)
	uv pip compile --quiet pyproject.toml --group dev --extra server --extra ledger --extra redis --extra postgres --extra otlp --extra jwt --extra prices --extra secrets \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade -o constraints.txt
	uv pip compile --quiet pyproject.toml --extra server --extra redis --extra postgres --extra otlp --extra jwt --extra prices --extra secrets \
	  --constraint constraints.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o .ci/image-requirements.txt
	uv pip compile --quiet .ci/ops-requirements.in \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade -o .ci/ops-requirements.txt

clean: ## Remove what was built
	rm -rf $(VENV) $(OPS) site dist .mypy_cache .ruff_cache .pytest_cache
