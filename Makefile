# Every command of the project. Those that need Python packages make .venv from requirements.lock first.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run demo test test-fast soak lint migrate revision lock secrets up-native down-native bench clean venv

PY := .venv/bin/python
WORKERS ?= 3

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: venv ## run everything on this machine (HALLPASS_PORT, HALLPASS_HOST, HALLPASS_DATA); Ctrl-C stops it
	@exec $(PY) -m deploy run

demo: venv ## play a day through a running installation and tell it as a story
	@$(PY) -m deploy.demo

# Whatever the environment says, Python keeps what it compiled: each of a run's processes would compile the project anew.
test test-fast soak: export PYTHONDONTWRITEBYTECODE =

test: venv ## run all tests
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup

test-fast: venv ## run the tests of each service and of what they share, without races, faults, fuzzing and whole installations
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup tests/common tests/contracts tests/catalog tests/booking tests/notify tests/admin

soak: venv ## prove scarcity, jobs, events and reminders at length (hours): 20,000 examples of 50 steps, 10,000 requests over 500 kills, 100,000 events
	HALLPASS_TEST_MODEL_EXAMPLES=20000 HALLPASS_TEST_MODEL_STEPS=50 HALLPASS_TEST_KILLS_REQUESTS=10000 HALLPASS_TEST_KILLS=500 HALLPASS_TEST_EXPORTS=100 \
		HALLPASS_TEST_IMPORTS=100 HALLPASS_TEST_FLOOD=100000 HALLPASS_TEST_SENDER_KILLS=200 HALLPASS_TEST_REMINDERS=20000 \
		$(PY) -m pytest -n $(WORKERS) --dist loadgroup tests/concurrency tests/faults/test_failpoints.py tests/faults/test_kills.py \
			tests/faults/test_export_kills.py tests/faults/test_import_kills.py tests/faults/test_event_flood.py \
			tests/faults/test_sender_kills.py tests/faults/test_reminder_kills.py

lint: venv ## check style, types, the direction of imports, and that no file names a package registry
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.ci/no_registry_hosts

migrate: venv ## prepare the database that the environment names (distributed run)
	@$(PY) -m deploy migrate

revision: venv ## write a migration from the models: make revision SERVICE=booking MESSAGE="add a column"
	@test -n "$(SERVICE)" && test -n "$(MESSAGE)" || { echo 'Say which and what: make revision SERVICE=booking MESSAGE="add a column"' >&2; exit 2; }
	@$(PY) -m deploy.revision "$(SERVICE)" "$(MESSAGE)"

lock: venv ## write requirements.lock anew from pyproject.toml
	.venv/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml -o requirements.lock

secrets: venv ## write the secrets of the distributed run to secrets/, never over existing ones
	@$(PY) -m deploy secrets

up-native: venv ## start the distributed run on this machine, without containers
	@$(PY) -m deploy.native up

down-native: venv ## stop what up-native started
	@$(PY) -m deploy.native down

bench: venv ## measure speed, side by side with its limits
	@$(PY) -m bench

clean: ## remove the virtual environment and caches; data and secrets stay
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

venv:
	@sh deploy/venv.sh
