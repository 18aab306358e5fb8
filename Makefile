# The front door. `make up` runs Plaza, `make test` tests it; both install what is missing first.

VENV ?= .venv
# The first Python that is new enough, runs, and can make virtual environments.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$candidate -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$candidate && break; done)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
PYTEST = $(VENV)/bin/python -m pytest
ARGS ?=

.PHONY: help up full install install-dev check test fault bench clean

help:
	@echo 'make up      run Plaza on this machine (make full: with Kafka and OpenSearch)'
	@echo 'make test    all tests; the full tier where a Java 21 or later is found'
	@echo 'make check   format, lint, types, imports and the fast tests, in under a minute'
	@echo 'make fault   kill, drop, repeat and delay, then compare with the oracle'
	@echo 'make bench   each benchmark beside its probe'
	@echo 'make clean   remove the virtual environment and caches (data stays)'

up: install
	@exec $(VENV)/bin/plaza up $(ARGS)

full: install
	@exec $(VENV)/bin/plaza up --full $(ARGS)

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

check: install-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTEST) -q -n 2 -m 'not (full or servers or slow or thorough)' tests/unit tests/contract tests/architecture

# A file's tests run one after another, two files at a time: much of their time is waiting.
test: install-dev
	$(PYTEST) -n 2 --dist loadfile $(ARGS)

fault: install-dev
	$(PYTEST) tests/fault --all-faults $(ARGS)

bench: install-dev
	$(VENV)/bin/plaza bench $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'Plaza needs Python 3.11 or later with venv' \
		'(Debian: apt-get install python3 python3-venv)' >&2; exit 1; }
	@echo 'making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: requirements.txt requirements-build.txt pyproject.toml | $(VENV)/bin/python
	@echo 'installing packages'
	@$(PIP) install --require-hashes -r requirements-build.txt -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo 'installing packages for the tests'
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
