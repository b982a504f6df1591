# Everything a checkout needs is made here: `make run` to try Chatsite, `make test` and `make check` to change it.
# `make` alone lists the targets. Only make and Python 3.11 or newer with its venv module have to be there before.

HOST ?= 127.0.0.1
PORT ?= 8000
COLUMN ?= embedded scaled
VENV := .venv
PY := $(VENV)/bin/python
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run cluster install test chaos check bench bench-quick rows lint format lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

run: $(VENV)/.run ## Install what is missing, migrate, serve on http://127.0.0.1:8000 (PORT=8080 HOST=0.0.0.0 change that)
	$(PY) manage.py migrate --noinput
	@echo "Chatsite: http://$(HOST):$(PORT)/ (Ctrl-C ends it)"
	@exec $(PY) -m daphne -b $(HOST) -p $(PORT) chatsite.asgi:application

cluster: $(VENV)/.dev ## Run the site scaled out: PostgreSQL, Redis, two web processes, two workers (PORT=8080 takes 8080 and 8081)
	@PORT=$(PORT) exec $(PY) -m tests.cluster

install: $(VENV)/.run ## Only install what the site needs into .venv

test: SHELL := bash
test: $(VENV)/.dev ## Run every test on SQLite, then on PostgreSQL and Redis (COLUMN=scaled: only there; ARGS="-k stop -x" for pytest)
	@$(PY) -m tests.javascript
	@chrome="$$($(PY) -m tests.browsers)" || exit 1; set -o pipefail; failed=; \
	for column in $(COLUMN); do \
		echo "Column: $$column"; \
		COLUMN=$$column CHROME="$$chrome" $(PY) -m pytest -n 3 --no-loadscope-reorder $(ARGS) 2>&1 | tee $(VENV)/.$$column \
			|| failed="$$failed $(VENV)/.$$column"; \
	done; [ -z "$$failed" ] || { echo "What went wrong:"; grep -E "^(FAILED|ERROR|INTERNALERROR|!!!|===.* in )" $$failed; exit 1; }

chaos: $(VENV)/.dev ## Break everything at random and check the promises (RUNS=500 SEED= FAULT= SITES=2 MINUTES=90)
	@exec $(PY) -m tests.chaos

check: lint test ## What CI runs: lint, then test

bench: $(VENV)/.dev ## Measure this project beside its peers and write docs/benchmarks.md (an hour; keep the machine quiet)
	@$(PY) -m bench full $(ARGS)

bench-quick: $(VENV)/.dev ## The few figures that show within a minute what a change does to the speed
	@$(PY) -m bench quick $(ARGS)

rows: $(VENV)/.dev ## Time the pages with a log of ROWS=10000000 rows (an hour; in var/bench, or where ROWS_DATABASE_URL says)
	@$(PY) -m bench.rows $(or $(ROWS),10000000)

lint: $(VENV)/.dev ## Everything CI checks except the tests
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/bandit --quiet --severity-level medium -c pyproject.toml -r chatsite conversations streaming
	$(PY) -m tests.audit
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check

format: $(VENV)/.dev ## Format the code and mend what ruff can mend
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lock: ## Write constraints.txt again with the newest versions that pyproject.toml allows
	rm -rf var/lock
	$(PY) -m venv var/lock
	var/lock/bin/python -m pip install --quiet -e ".[dev]"
	{ head -1 constraints.txt; var/lock/bin/python -m pip freeze --exclude-editable; } > var/constraints.txt
	mv var/constraints.txt constraints.txt
	rm -rf var/lock

clean: ## Remove the virtual environment and all caches, never the database
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# The stamps are younger than what they were made from, so a second call installs nothing.
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Chatsite into $(VENV) (the first time takes a minute)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Chatsite and its tools into $(VENV) (the first time takes a minute or two)"
	@$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.run

# pip is the last thing a new environment gets: one that was cut off or lacks it is made again.
$(VENV)/bin/pip:
	@for python in $(PYTHONS); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		$$python -m venv --clear $(VENV) && exit 0; \
	done; \
	echo "Chatsite needs Python 3.11 or newer with its venv module, and found none that works." >&2; \
	echo "Debian, Ubuntu: apt-get install python3 python3-venv. Fedora: dnf install python3. macOS: brew install python." >&2; \
	echo "One elsewhere can be named: make run PYTHON=/path/to/python3" >&2; \
	exit 1
