# Two commands do everything: `make compare` and `make test`. Options are passed in ARGS: make compare ARGS='--profile quick'
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
WHOLE := .venv/.whole

.DEFAULT_GOAL := help
.PHONY: help compare up up-celery load down status workers env check test chaos pythons matrix driver-tests lint lock docs reference release clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

compare: $(WHOLE)  ## compare both executors on real servers, and write a report: ARGS='--profile quick' for a short one
	@$(BIN)/rig compare $(ARGS)

up: $(WHOLE)  ## start the stack on LocalExecutor and leave it running
	@$(BIN)/rig up $(ARGS)

up-celery: $(WHOLE)  ## start the stack on CeleryExecutor, with Redis, a worker and Flower
	@$(BIN)/rig up --executor celery $(ARGS)

load: $(WHOLE)  ## run a load test with Locust's page, on the running stack or its own: ARGS='--headless --rate 0.2' for no page
	@$(BIN)/rig load $(ARGS)

down: $(WHOLE)  ## stop the stack
	@$(BIN)/rig down

workers: $(WHOLE)  ## show the shared driver of each pool process
	@$(BIN)/rig workers $(ARGS)

status: $(WHOLE)  ## show what runs, where it listens, and how to log in
	@$(BIN)/rig status $(ARGS)

env:  ## write .env with random secrets for the compose files; existing values are kept
	@$(PYTHON) -m rig.env_file

check: .venv/.test lint  ## check style and types, and run the tests that need no server: about three minutes
	$(BIN)/python -m tests.server_free -q -n 2 --dist loadfile $(ARGS)

# The tests that need no server go first, on both cores: most mistakes show there, within three minutes.
test: .venv/.test lint  ## run every check: style, types, and all tests, on real servers
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m tests.server_free -q -n 2 --dist loadfile
	$(BIN)/python -m tests.server
else
	$(BIN)/pytest $(ARGS)
endif

chaos: $(WHOLE)  ## cause faults during DAG runs, for several hours: ARGS='--short' for ten minutes, '--bugs', '--survival 10'
	@$(BIN)/python -m chaos $(ARGS)

pythons: .venv/.test  ## run worker_init's tests on every Python found here, including old patch releases
	$(BIN)/python -m tests.pythons $(ARGS)

matrix: .venv/.test  ## test the package with many versions, and write the results into docs/versions.md: half an hour
	$(BIN)/python -m tests.matrix $(ARGS)

driver-tests: .venv/.test  ## run the Neo4j driver's own integration tests through the relay: CHECKOUT=a checkout of the driver
	WORKER_INIT_TEST_DRIVER_CHECKOUT="$(CHECKOUT)" $(BIN)/pytest tests/worker_init/test_driver_suite.py $(ARGS)

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 worker_init

# Not the folders of this repository: they are installed from here.
LOCKED := --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
    --no-emit-package neo4j-worker-init --no-emit-package neo4j-connection-patterns
COMPILE := uv pip compile -q pyproject.toml --python-version 3.11 $(LOCKED)
lock: $(WHOLE)  ## resolve the requirements again (needs uv)
	$(COMPILE) --extra rig --extra build -o requirements/rig.txt $(ARGS)
	$(COMPILE) --extra rig --extra build --extra test -c requirements/rig.txt -o requirements/test.txt $(ARGS)
	$(COMPILE) --extra docs -o requirements/docs.txt $(ARGS)
	$(COMPILE) --extra release -o requirements/release.txt $(ARGS)
	$(COMPILE) --extra loadtest -c requirements/rig.txt -o requirements/loadtest.txt $(ARGS)
	uv pip compile -q worker_init/pyproject.toml --group worker_init/pyproject.toml:test --python-version 3.10 $(LOCKED) \
	    -c requirements/rig.txt -o requirements/pythons.txt $(ARGS)
	uv pip compile -q worker_init/pyproject.toml --group worker_init/pyproject.toml:neomodel --python-version 3.11 \
	    $(LOCKED) -o requirements/neomodel.txt $(ARGS)

# What a page of the site loads from elsewhere: nothing.
FOREIGN := <(script|link|img|iframe)[^>]+(src|href)="?https?://
docs: .venv/.docs/.made  ## build the documentation as a site, and check its links: results/site/index.html
	@NO_MKDOCS_2_WARNING=1 .venv/.docs/bin/mkdocs build --quiet --strict --clean
	@! grep -rlE '$(FOREIGN)' --include='*.html' results/site || { \
	    echo "These pages load something from elsewhere." >&2; exit 1; }
	@echo "The site: results/site/index.html; with its search: $(PYTHON) -m http.server --bind 127.0.0.1 --directory results/site"

reference: .venv/.test  ## write the reference pages from the code
	@$(BIN)/python -m testing.reference_pages

.venv/.docs/.made: requirements/docs.txt
	@rm -rf .venv/.docs; $(PYTHON) -m venv .venv/.docs
	@.venv/.docs/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/docs.txt
	@touch $@

release: .venv/.release/.made  ## build and check wheels, sdists and lists of their contents in dist/; publish nothing
	@.venv/.release/bin/python -m testing.release

.venv/.release/.made: requirements/release.txt
	@rm -rf .venv/.release; $(PYTHON) -m venv .venv/.release
	@.venv/.release/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	    -r requirements/release.txt
	@touch $@

clean: down  ## stop the stack, and remove the environment and all generated files except results
	rm -rf .venv results/.stack results/.cache .mypy_cache .ruff_cache .pytest_cache

# Made again when a requirement changes; a half-made one, as after Ctrl-C, is never taken for whole. The root goes first:
# an earlier one had the command worker-driver, and takes it along when it is replaced.
.venv: $(WHOLE)
$(WHOLE): requirements/rig.txt pyproject.toml worker_init/pyproject.toml patterns/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv)" >&2; exit 2; }
	@echo "Installing what is needed into .venv (once, about a minute) …"
	@test -e $@ || test -e $(BIN)/worker-driver || rm -rf .venv
	@rm -f $@ .venv/.test; $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/rig.txt && \
	    $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	    $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	        -e ./worker_init -e ./patterns || \
	    { rm -rf .venv; echo "The packages could not be installed: see above. Is the network there?" >&2; exit 1; }
	@touch $@

.venv/.test: $(WHOLE) requirements/test.txt
	@echo "Installing what the tests need …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/test.txt
	@touch .venv/.test
