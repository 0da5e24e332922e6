# Every target bootstraps .venv by itself; all it needs is Python 3.11 or newer with its venv module.

PYTHON ?= python3
ARGS ?=
PYTEST_ARGS ?=
MINUTES ?= 30
SEEDS ?= 1000
ROUNDS ?= 100
LOCK_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check install --quiet
COMPILE := $(RUN) uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-config --system-certs --custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml constraints/build.in

# A stamp says what .venv holds. `dev` holds all that `serve` does, so there is one environment for both.
VENV_READY := $(VENV)/.created
SERVE_READY := $(VENV)/.serve-installed
DEV_READY := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test lint format bench soak simulate crash jepsen lock clean

help: ## Show this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

serve: $(SERVE_READY) ## Run a node; flags go in ARGS, as in: make serve ARGS='--port 0'
	@exec $(VENV)/bin/waystation serve $(ARGS)

test: $(DEV_READY) ## Run the tests; PYTEST_ARGS picks some, as in: make test PYTEST_ARGS='tests/cli -x'
	@$(RUN) pytest --numprocesses 2 --dist loadfile --max-worker-restart 0 $(PYTEST_ARGS)

lint: $(DEV_READY) ## Check style, format and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

format: $(DEV_READY) ## Mend what a machine can mend of style and format
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: $(DEV_READY) ## Measure speed against limits; flags go in ARGS
	@$(VENV)/bin/python bench/run.py $(ARGS)

soak: $(DEV_READY) ## Does anything grow? MINUTES of steady mixed load; page and plots go to bench/results/
	@$(VENV)/bin/python bench/soak.py --minutes $(MINUTES) $(ARGS)

simulate: $(DEV_READY) ## Run SEEDS random histories in virtual time, with crashes and all that fails, and judge them
	@$(RUN) tests.simulation --seeds $(SEEDS) $(ARGS)

crash: $(DEV_READY) ## Let ROUNDS things happen to a loaded server: kills, bad disks, losses of power; a second each
	@$(RUN) tests.crash.run --rounds $(ROUNDS) $(ARGS)

jepsen: ROUNDS = 3
jepsen: $(DEV_READY) ## Let every fault happen ROUNDS times to a cluster of real processes; Linux, as root; 30 s each
	@$(RUN) tests.jepsen.run --rounds $(ROUNDS) $(ARGS)

lock: $(DEV_READY) ## Write constraints/ anew after pyproject.toml changed; LOCK_ARGS=--upgrade takes new releases
	@$(COMPILE) --extra dev --output-file constraints/dev.txt
	@$(COMPILE) --constraint constraints/dev.txt --output-file constraints/serve.txt

clean: ## Remove the environment, caches and builds, never data
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; name one, as in: make PYTHON=/usr/bin/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(SERVE_READY): constraints/serve.txt pyproject.toml | $(VENV_READY)
	@echo "installing what waystation needs to run into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r constraints/serve.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_READY): constraints/dev.txt constraints/serve.txt pyproject.toml | $(VENV_READY)
	@echo "installing what tests and checks need into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r constraints/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(SERVE_READY) $@
