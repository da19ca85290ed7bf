# Everything is done from here: `make demo` shows the product, `make check` runs what CI runs.
# A bare Debian or Ubuntu with Python 3.11+, make and git is enough; a second `make` does no work twice.

SHELL    := /bin/bash
VENV     := .venv
BIN      := $(VENV)/bin
DEMO     := demo
ACCOUNTS := 200
MONTHS   := 3

# The distribution's own Python first, which is compiled with profile-guided optimization: small runs take 0.93 to 0.95 of
# the CPU time of one that pyenv compiled without. It must be new enough and able to make environments; `make PYTHON=/path/to/python ...` chooses another.
NEW_ENOUGH := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for needed in 'import ensurepip, venv' ''; do \
	for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
	$$candidate -c '$(NEW_ENOUGH)' 2>/dev/null && $$candidate -c "$$needed" 2>/dev/null && { echo $$candidate; exit; }; done; done)

# What the pages need (WeasyPrint draws with Pango), and what the tests look at PDFs with.
LIBRARIES      := libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz0b libharfbuzz-subset0
TEST_PACKAGES  := poppler-utils
# On a machine of CI the tests may also start a browser, a database server and a proxy, and read units; nobody else gets those installed unasked.
CI_PACKAGES    := chromium postgresql rabbitmq-server systemd nginx-light openssl exim4-daemon-light

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo ui test test-long check lint format types docs messages bench mutation lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# --- set-up ---------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 found. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); .ci/system-packages python3-venv; $(PYTHON) -m venv $(VENV); } || { \
	  rm -rf $(VENV); \
	  $(PYTHON) -m virtualenv -q $(VENV) 2>/dev/null || uv venv -q --seed --python $(PYTHON) $(VENV) 2>/dev/null || { \
	  rm -rf $(VENV); \
	  echo "This Python cannot make virtual environments. Install python3-venv (Debian, Ubuntu: apt-get install python3-venv)," >&2; \
	  echo "or virtualenv or uv, and run make again." >&2; exit 1; }; }

# The lock carries the build back end too, so that the second step needs neither isolation nor network.
$(VENV)/.installed: requirements.lock pyproject.toml billing/__init__.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled here and not on first use: some machines forbid Python to write bytecode, and then every start compiles anew.
$(VENV)/.compiled: $(VENV)/.installed $(shell find billing assets pipeline invoice_templates -name '*.py' 2>/dev/null)
	@$(BIN)/python -m compileall -q billing assets pipeline invoice_templates
	@touch $@

$(VENV)/.libraries: $(VENV)/.compiled .ci/system-packages
	@$(BIN)/python -c 'import weasyprint; from ctypes import CDLL; CDLL("libharfbuzz-subset.so.0")' >/dev/null 2>&1 \
	  || .ci/system-packages $(LIBRARIES) \
	  || $(BIN)/python -c 'import weasyprint' >/dev/null 2>&1 \
	  || { echo "Pango and HarfBuzz are missing, and without them no PDF can be drawn: install $(LIBRARIES)" >&2; exit 1; }
	@touch $@

$(VENV)/.test-packages: $(VENV)/.libraries
	@command -v pdftotext >/dev/null || .ci/system-packages $(TEST_PACKAGES) \
	  || echo "poppler-utils is missing: tests that read PDFs are skipped" >&2
ifeq ($(CI),true)
	@for package in $(CI_PACKAGES); do .ci/system-packages $$package || echo "$$package is missing: its tests are skipped" >&2; done
endif
	@touch $@

# --- what people run ------------------------------------------------------------------------------------------------

demo: $(VENV)/.libraries  ## a made-up business of 200 accounts, billed for three months, into demo/
	@rm -rf $(DEMO)
	$(BIN)/overage sample $(DEMO) --accounts $(ACCOUNTS) --months $(MONTHS)
	@set -e; \
	for months in $$(seq 1 $(MONTHS)); do \
	  read -r month as_of < <($(BIN)/python -c "from billing.sample import billing_hint; print(*billing_hint($$months))"); \
	  echo "$(BIN)/overage bill $$month --as-of $$as_of --home $(DEMO)"; \
	  $(BIN)/overage bill $$month --as-of $$as_of --home $(DEMO); \
	  $(BIN)/overage sample $(DEMO) --payments; \
	done; \
	$(BIN)/overage bill $$month --as-of $$as_of --home $(DEMO); \
	example=$$($(BIN)/overage show lines --month $$month --home $(DEMO) --format csv 2>/dev/null | grep ,overage,emails, | cut -d , -f 1 | head -n 1 || true); \
	echo; \
	echo "The business is billed up to $$as_of. What to look at next:"; \
	echo; \
	echo "  $(DEMO)/documents/$$month/$$example.pdf    an invoice with overages, and why it differs from the last one"; \
	echo "  $(DEMO)/profiles/index.html                     every account: package, usage so far, next charge"; \
	echo; \
	echo "  $(BIN)/overage show documents --month $$month --home $(DEMO)    what was issued"; \
	echo "  $(BIN)/overage show decisions --month $$month --home $(DEMO)    who was upgraded or refused, and why"; \
	echo "  $(BIN)/overage show balances --home $(DEMO)                     who owes what: paid, failed, refunded, disputed"; \
	echo "  $(BIN)/overage show rejects --month $$month --home $(DEMO)      rows that were set aside, and why"; \
	echo "  $(BIN)/overage verify --home $(DEMO)                            does everything still agree?"; \
	echo; \
	echo "  make ui    the same business in the Dagster UI"

ui: $(VENV)/.libraries  ## the Dagster UI on the demo's home
	@test -d $(DEMO) || $(MAKE) demo
	$(BIN)/overage ui --home $(DEMO)

# --- what developers run --------------------------------------------------------------------------------------------

# Frames of a few rows: a second thread of Polars costs a sixth and helps nobody; a third process fills what the others wait.
test: $(VENV)/.test-packages  ## the tests
	POLARS_MAX_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.test-packages  ## the tests, searching as long as it takes: every kill, many seeds (hours)
	$(BIN)/python -m pytest --long -n 2 --dist load

check: lint types test  ## everything that CI runs: lint, format, types, tests

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.installed  ## let ruff fix and format what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.installed
	$(BIN)/mypy

docs: $(VENV)/.installed  ## write docs/tables.md, the schema of catalogue.yaml and the empty databases again
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/catalogue_schema.py
	$(BIN)/python docs/dagster_databases.py
	$(BIN)/python docs/register_tables.py

messages: $(VENV)/.installed  ## collect the texts of documents and mails into every language's catalogue
	$(BIN)/python docs/messages.py

$(VENV)/.bench: benchmarks/requirements.lock $(VENV)/.libraries
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	@touch $@

bench: $(VENV)/.bench  ## the benchmarks, against other tools (hours; keep the machine quiet)
	$(BIN)/python -m benchmarks

$(VENV)/.mutation: tests/mutation/requirements.lock $(VENV)/.test-packages
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/mutation/requirements.lock
	@touch $@

mutation: $(VENV)/.mutation  ## would the tests notice small changes of the rules? (an hour)
	$(BIN)/python -m tests.mutation

lock:  ## pin every dependency again, with hashes, for Python 3.11 to 3.14 (needs uv)
	@command -v uv >/dev/null || test -x $(BIN)/uv || { echo "make lock needs uv: $(BIN)/python -m pip install uv" >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile pyproject.toml --extra production --extra cluster --group build --group tests --group typing --group lint \
	  --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --quiet $(UPGRADE) --output-file requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --group bench --constraints requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --quiet $(UPGRADE) --output-file benchmarks/requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --group mutation --constraints requirements.lock \
	  --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --quiet $(UPGRADE) --output-file tests/mutation/requirements.lock

clean:  ## remove the environment, the caches and the demo
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
