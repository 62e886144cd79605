# Every target installs its requirements into .venv, and is quick when nothing changed: the stamp files below record
# which requirements are installed.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
MAKEFLAGS += --no-builtin-rules
# The tests start some hundred processes, each of which would compile all of its modules again.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# One lock for every platform and Python version, with hashes and without the address of an index.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml

# Options for the command behind a target: make serve ARGS="--bind 0.0.0.0:8000", make test ARGS="-k chat -x"
ARGS ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the environment -------------------------------------------------------------------------------------------

$(VENV)/.created: scripts/create_venv.sh
	@PYTHON="$(PYTHON)" sh scripts/create_venv.sh $(VENV)
	@touch $@

# Install the project itself without dependencies and without build isolation: the lock holds all of them.
$(VENV)/.server-installed: $(VENV)/.created requirements/server.txt pyproject.toml
	@echo "Installing requirements/server.txt"
	@$(PIP) --require-hashes --requirement requirements/server.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# dev.txt holds all of server.txt, in the same versions: either stamp suffices for serving.
$(VENV)/.dev-installed: $(VENV)/.created requirements/dev.txt requirements/server.txt pyproject.toml
	@echo "Installing requirements/dev.txt"
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.server-installed $@

# The peers' packages; bench.txt and server.txt agree in the versions of shared packages.
$(VENV)/.bench-installed: $(VENV)/.server-installed requirements/bench.txt
	@echo "Installing requirements/bench.txt"
	@$(PIP) --require-hashes --requirement requirements/bench.txt
	@touch $@

.PHONY: install
install: $(VENV)/.dev-installed ## Install the packages for serving, testing and linting into .venv

# --- the targets -----------------------------------------------------------------------------------------------

.PHONY: serve
serve: $(VENV)/.server-installed ## Serve on this machine; options in ARGS="…", listed by ARGS=--help
	@exec $(BIN)/messaging serve $(ARGS)

.PHONY: test
test: $(VENV)/.dev-installed ## Run the tests, two at a time, and the coverage rule; pytest's options in ARGS="…"
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(or $(strip $(ARGS)),--numprocesses 2 --dist loadfile)
	@$(BIN)/coverage combine --quiet
ifeq ($(strip $(ARGS)),)
	@$(BIN)/coverage report --include='adapters/*'
	@$(BIN)/coverage report --include='messaging_core/*' --fail-under=100
endif

# Tests without a server and a database: the rules, their runtime, and the simulation of several processes.
QUICK := tests/core tests/runtime tests/security tests/storage/test_commit_policy.py \
	tests/storage/test_storage_contract_memory.py tests/bus/test_signals.py tests/bus/test_relay.py \
	tests/bus/test_relay_of_members.py tests/bus/test_relay_of_sessions.py \
	tests/bus/test_simulation.py tests/bus/test_bus_contract_memory.py tests/http_api \
	tests/listener/machines

.PHONY: quick
quick: $(VENV)/.dev-installed ## Run the tests that need no server and no database, in half a minute
	@$(BIN)/pytest --quiet $(QUICK) $(ARGS)

.PHONY: mutants
mutants: $(VENV)/.dev-installed ## Plant faults and name those that no test notices, an hour; ARGS=--help
	@$(BIN)/python -m tests.mutants $(ARGS)

.PHONY: browser
browser: $(VENV)/.dev-installed ## Test the reference client in Chromium, and its modules in Node.js
	@command -v node >/dev/null || { echo "error: Node.js is needed to test the client's modules" >&2; exit 1; }
	@node --test --test-reporter=dot tests/client/
	@$(BIN)/pytest -m browser --numprocesses 2 --dist loadfile tests/client $(ARGS)

.PHONY: screenshots
screenshots: $(VENV)/.dev-installed ## Take the pictures in docs/screenshots again
	@SCREENSHOTS=docs/screenshots $(BIN)/pytest -m browser tests/client/test_screenshots.py $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev-installed ## Check style, formatting and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.dev-installed ## Apply the formatting and the safe fixes that lint requires
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

.PHONY: types
types: $(VENV)/.dev-installed ## Check the types, strictly
	@$(BIN)/mypy

.PHONY: statements
statements: $(VENV)/.server-installed ## Compile the statements for SQLite, after a change of them or of SQLAlchemy
	@$(BIN)/python -m adapters.storage_sql.sqlite.dialect

.PHONY: scenario
scenario: $(VENV)/.server-installed node_modules/.package-lock.json ## Play the two-user scenario with curl and wscat against a server of its own
	@bash scripts/with_server.sh $(BIN)/messaging bash scripts/two_user_scenario.sh

node_modules/.package-lock.json: package.json package-lock.json .npmrc
	@command -v npm >/dev/null || { echo "error: npm is needed to install wscat (Node.js 18 or newer)" >&2; exit 1; }
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: bench
bench: $(VENV)/.bench-installed benchmarks/peers/node/node_modules/.built ## Compare with five peers on this machine, 25 minutes; a smoke run: ARGS=--quick
	@exec $(BIN)/python -m benchmarks.compare $(ARGS)

# Runs no install scripts of packages except the one that compiles SQLite's binding: about a minute.
benchmarks/peers/node/node_modules/.built: benchmarks/peers/node/package.json benchmarks/peers/node/package-lock.json
	@command -v npm >/dev/null || { echo "error: npm is needed for one of the peers (Node.js 20.12 or newer)" >&2; exit 1; }
	@cd benchmarks/peers/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@home=$$(node -p 'require("path").resolve(process.execPath, "../..")'); \
	if [ -f "$$home/include/node/node.h" ]; then \
		export npm_config_nodedir="$$home" npm_config_build_from_source=true; \
	fi; \
	cd benchmarks/peers/node && npm rebuild better-sqlite3 --loglevel=error
	@touch $@

.PHONY: lock
lock: $(VENV)/.dev-installed ## Write the lock files from pyproject.toml; ARGS=--upgrade selects newer versions
	@$(LOCK) --extra server --extra sql --extra postgresql --extra nats --group build --output-file requirements/server.txt $(ARGS)
	@$(LOCK) --extra server --extra sql --extra postgresql --extra nats --group dev --constraint requirements/server.txt \
		--output-file requirements/dev.txt $(ARGS)
	@$(LOCK) --extra server --extra sql --extra postgresql --extra nats --group bench --constraint requirements/dev.txt \
		--output-file requirements/bench.txt $(ARGS)
