# What people type; `make` alone lists it. Needs make and a Python from 3.11 on with its venv module.
#
#   PYTHON  the interpreter that a new environment is made with
#   VENV    the environment; name another one to try another Python: make test PYTHON=python3.13 VENV=.venv-3.13
#   ARGS    more words for what run, test and bench start: make run ARGS='--bind 127.0.0.1:8080'

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
PIP := $(BIN)/python -m pip --disable-pip-version-check
UV := $(BIN)/uv --no-python-downloads
EXPORT := $(UV) export --offline --frozen --python $(BIN)/python --format requirements-txt --no-header --quiet --no-emit-project
# What the tests need beside Python: command=Debian package. Only what is missing is installed, because a Node.js from
# elsewhere brings its own npm and conflicts with Debian's.
TOOLS := chromium=chromium curl=curl openssl=openssl node=nodejs npm=npm strace=strace tesseract=tesseract-ocr \
	nginx=nginx-light wget=wget /usr/lib/postgresql/15/bin/postgres=postgresql-15
TOOLS_OF_FULL := go=golang-go java=default-jdk-headless
TOOLS_OF_BENCH := chromium=chromium gcc=build-essential node=nodejs npm=npm nginx=nginx-light openssl=openssl \
	strace=strace
# The tests wait for servers, browsers and time limits more than they compute: one process more than there are processors.
PROCESSES := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n < 4 ? n + 1 : 4 )))
FONTS := fonts-dejavu-core tesseract-ocr-eng
MISSING = $(foreach tool,$(TOOLS),$(if $(shell command -v $(firstword $(subst =, ,$(tool)))),,$(lastword $(subst =, ,$(tool)))))
NODE_MODULES := frontend/node_modules/.package-lock.json

# Containers often set this. Without bytecode each process that the tests start, and they start thousands, would compile
# the source again, and pytest would rewrite every test module.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test-setup test test-js test-python coverage faults soak catalogue check audit fix bench bench-setup screenshots assets lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with the dropmill command in it

run: install ## Install, then serve on http://127.0.0.1:8000
	@$(BIN)/dropmill serve $(ARGS)

# $(call install_missing,what is left out without them,packages that come with them)
define install_missing
	@missing='$(strip $(MISSING))'; if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		.ci/install-packages $$missing $(2); \
	else echo "Some $(1). To run them, too: sudo apt-get install $$missing $(2)"; fi
endef

test-setup: $(DEVELOPED) ## Install what the tests need, Chromium included
	$(call install_missing,tests are skipped,$(FONTS))
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE_MODULES); fi

test: test-js test-python ## Run every test, browser tests included

test-js: test-setup
	@if command -v node >/dev/null; then \
		LC_ALL=en_US.UTF-8 node --import ./tests/js/as-modules.mjs --test --test-reporter=spec tests/js/*/*.test.js; \
	else echo "The unit tests of the browser code need node; run: sudo apt-get install nodejs"; [ -z "$$CI" ]; fi

test-python: test-setup
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=worksteal --durations=20 $(ARGS)

coverage: test-setup ## Run the tests and print which branches of the source none of them took
	rm -rf .coverage
	-$(BIN)/coverage run -m pytest --numprocesses=$(PROCESSES) --dist=worksteal $(ARGS)
	-$(BIN)/coverage combine --quiet # what a killed process left may be of no use
	$(BIN)/coverage report

faults: TOOLS += $(TOOLS_OF_FULL)
faults: export SEED ?= new
faults: test-js ## Run the fault tests in full size: kills, cuts, bad scripts, floods of output, clients in Go and Java
	$(BIN)/python -m pytest tests/system/faults tests/system/clients tests/system/browser/test_polling.py --full -o faulthandler_timeout=0 $(ARGS)

soak: $(DEVELOPED) ## Put a server under mixed load for ten minutes and see that nothing grows: make soak ARGS='--minutes 1'
	$(BIN)/python -m tests.system.soak $(ARGS)

catalogue: $(DEVELOPED) ## Play bad inputs against a server of its own: make catalogue FILE=bad_inputs.jsonl
	$(BIN)/python -m tests.system.catalogue.run $(FILE) $(ARGS)

check: $(DEVELOPED) ## Lint, formatting, types, floors, and whether the locked requirements are up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE_MODULES) && npm --prefix frontend run --silent types; \
	else echo "The types of the browser code are not checked without npm."; fi
	$(UV) lock --check --offline --quiet --python $(BIN)/python
	@for name in $(REQUIREMENTS); do $(MAKE) --no-print-directory export-$$name | diff $$name - \
		|| { echo "$$name is not what uv.lock says; run: make lock"; exit 1; }; done

audit: $(DEVELOPED) $(NODE_MODULES) ## Compare the locked packages with known vulnerabilities; needs the network
	$(UV) audit --frozen
	npm --prefix frontend audit

fix: $(DEVELOPED) ## Fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-setup: TOOLS = $(TOOLS_OF_BENCH)
bench-setup: $(DEVELOPED) ## Install what the measurements need: the servers beside which Dropmill is measured, and tools
	$(call install_missing,measurements are left out)
	$(BIN)/python -m benchmarks.peers.environment

bench: bench-setup ## Print the measurements; in two minutes, with little work: make bench ARGS=--quick
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: test-setup ## Save pictures of every page, in both themes and three widths, in build/screenshots; some: ARGS='job history'
	$(BIN)/python -m tests.system.screenshots $(ARGS)

assets: $(NODE_MODULES) ## Build what browsers are sent, static/dist and static/vendor, anew; needs node and npm
	npm --prefix frontend run --silent build

clean: ## Remove the environment, caches and built files; data stays
	rm -rf $(VENV) frontend/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Locked requirements. uv.lock is the source; what pip installs is exported from it, for every Python and platform,
# with hashes. Addresses are cut out of the lock: where packages come from is the business of each machine's own pip.

REQUIREMENTS := requirements.txt requirements-build.txt requirements-dev.txt
LOCK_HEAD := \# Made by `make lock`. Addresses are cut out; CONTRIBUTING.md says how uv can still install from it.
CUT_ADDRESSES := -e '/^\#/d' -e 's/, size = [0-9]+//' -e 's|url = "[^"]*/([^/"]+)"|path = "\1"|' -e 's|registry = "https?:[^"]*"|registry = "wheelhouse"|'

lock: $(DEVELOPED) ## Renew uv.lock and the requirements; with ARGS=--upgrade to the newest versions
	$(UV) lock --python $(BIN)/python $(ARGS)
	@{ printf '%s\n' '$(LOCK_HEAD)'; sed -E $(CUT_ADDRESSES) uv.lock; } > uv.lock.new && mv uv.lock.new uv.lock
	@for name in $(REQUIREMENTS); do $(MAKE) --no-print-directory export-$$name > $$name.new && mv $$name.new $$name || exit 1; done

export-requirements.txt:
	@printf '# Made by `make lock`: what dropmill needs to run.\n' && $(EXPORT) --no-dev
export-requirements-build.txt:
	@printf '# Made by `make lock`: what building dropmill needs.\n' && $(EXPORT) --only-group build
export-requirements-dev.txt:
	@printf '# Made by `make lock`: all of it, with what tests and checks need.\n' && $(EXPORT) --all-groups

# Environments. The stamps are made last, so that an interrupted installation is taken up again.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dropmill needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml requirements.txt requirements-build.txt | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements-build.txt -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPED): $(INSTALLED) requirements-dev.txt
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

$(NODE_MODULES): frontend/package.json frontend/package-lock.json
	npm --prefix frontend ci --loglevel=error
	@touch $@
