# The one place where the project is started, tested and locked. `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
# The Python to take; without it the newest from 3.11 to 3.14 that is there.
PYTHON ?=
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed-from-lock
PY := $(BIN)/python
SERVERS := bindfs bubblewrap chromium chromium-driver ceph-common ceph-mon ceph-osd curl iproute2 postgresql radosgw redis-server wget

# include/ is imported from the project root, plugins by their own names.
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins
# AIRFLOW_HOME: the user's if set, else .local/airflow (local/airflow/stack.py decides; tests always use a temporary one).

# The arguments of `make run` and `make sample` reach Python through the environment exactly as they were typed:
# make exports what its command line sets, and `value` keeps it from reading a $ as its own.
define verbatim
ifneq ($$(origin $(1)),undefined)
override $(1) := $$(value $(1))
export $(1)
endif
endef
$(foreach name,SOURCE OUTPUT DEST DATASET PARAMS SCALE ROWS ROUNDS RESULTS ARGS ARCFACE RELEASE STEPS TRAINER_PYTHON ID CLEANVISION,$(eval $(call verbatim,$(name))))

##@ Use
.PHONY: run
run: $(STAMP) ## Merge a drawn sample, or your data: SOURCE=/exports OUTPUT=/merged [DEST=s3://…/] [DATASET=…] [PARAMS='{"min_images": 3}']
	@exec $(PY) -m local.commands.run

.PHONY: up
up: $(STAMP) ## Airflow with its web UI and an S3 server, until Ctrl-C
	@exec $(PY) -m local.commands.up

.PHONY: airflow
airflow: $(STAMP) ## A command of Airflow's, for the one of `make up`: ARGS='backfill create --dag-id …'
	@exec $(PY) -m local.commands.airflow

.PHONY: releases
releases: $(STAMP) ## The releases that are kept of a dataset: [DATASET=…] [OUTPUT=/merged]
	@exec $(PY) -m local.commands.releases

.PHONY: why
why: $(STAMP) ## Where an identity, a file or some bytes went: ID=<identity, file, path or SHA-256> [DATASET=…] [OUTPUT=/merged]
	@exec $(PY) -m local.commands.why

.PHONY: sample
sample: $(STAMP) ## Draw a sample of faces into .local/sample (SCALE=1: as large as the reference run)
	@exec $(PY) -m local.sample.sample

##@ Check
# Side by side, as many as there are cores.
PYTEST := $(BIN)/pytest -n auto --dist worksteal
QUICK := -m 'quick or not long'
LONG := -m 'long and not quick'

.PHONY: test
ifdef T
test: $(STAMP) ## Everything quick, 8 minutes; T=tests/unit/… one file or test alone
	@$(BIN)/pytest $(T)
else
test: lint types unit dags steps system
endif

.PHONY: test-all
test-all: unit-long steps-long system-long pages s3-servers training-host celery ## What `make test` leaves out: the long matrices, all kills, all servers, a training host, Celery; 40 minutes

.PHONY: lint
lint: $(STAMP) ## ruff, and docker-compose.yaml against its schema
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

.PHONY: types
types: $(STAMP) ## mypy, strict; 20 seconds
	@$(BIN)/mypy

.PHONY: unit
unit: $(STAMP) ## Unit tests, a minute
	@$(PYTEST) $(QUICK) tests/unit

.PHONY: unit-long
unit-long: $(STAMP) ## The unit tests that are long: matrices, property tests, full disks; 8 minutes
	@$(PYTEST) $(LONG) tests/unit

.PHONY: steps
steps: $(STAMP) ## One kill of each kind, against a real S3 server; a minute
	@$(BIN)/pytest $(QUICK) tests/kills

.PHONY: steps-long
steps-long: $(STAMP) ## Tasks and runs that are killed at every step and at 20 random moments; 3 minutes
	@$(PYTEST) --dist loadfile $(LONG) tests/kills

.PHONY: dags
dags: $(STAMP) ## Tests of the DAGs as Airflow loads them; 20 seconds
	@$(PYTEST) tests/dags

.PHONY: system
system: $(STAMP) ## The real DAG, a real scheduler, a real S3 server: one run of each kind; 5 minutes
	@$(BIN)/pytest $(QUICK) tests/system

.PHONY: system-long
system-long: $(STAMP) ## All that is tried with a real scheduler; 20 minutes
	@$(BIN)/pytest $(LONG) tests/system

.PHONY: pages
pages: $(STAMP) ## The pages in Airflow, in a real browser (`make servers` first); 3 minutes; PICTURES=<folder> keeps what it sees
	@$(BIN)/pytest tests/pages -rs

.PHONY: s3-servers
s3-servers: $(STAMP) ## What is promised of every S3 server, put to SeaweedFS, LocalStack, moto and Ceph RGW (`make servers` first); 6 minutes
	@$(BIN)/pytest tests/servers -rs

.PHONY: training-host
training-host: $(STAMP) ## What a training host does with what was published, with its own tools; a minute
	@$(BIN)/pytest tests/training_host -rs

.PHONY: trainer
trainer: $(STAMP) ## The trainer's own code on a release: ARCFACE=<checkout>/recognition/arcface_torch [STEPS=20] [RELEASE=…]
	@exec $(PY) -m local.commands.trainer

.PHONY: kills
kills: export EVERY_STEP := 1
kills: $(STAMP) ## The same at every single call and 200 random moments, tasks and scheduler alike: [KILLS=200] [SEED=1]
	@KILLS=$${KILLS:-200} $(BIN)/pytest tests/kills --log-cli-level=INFO
	@KILLS=$$(( $${KILLS:-200} / 10 )) $(BIN)/pytest tests/system/test_kills.py --log-cli-level=INFO

.PHONY: properties
properties: $(STAMP) ## The stateful property test at length: [CASES=20000]
	@CASES=$${CASES:-20000} $(BIN)/pytest tests/unit/faceset/test_stateful.py

.PHONY: faults
faults: $(STAMP) ## Every S3 operation meets every fault, and 160 runs many of them: seven minutes
	@FAULTS=all $(BIN)/pytest tests/unit/s3_sync/test_fault_matrix.py

.PHONY: celery
celery: $(STAMP) ## docker-compose.yaml as processes of this machine, two workers, one is killed (root; `make servers` first); 3 minutes
	@$(BIN)/pytest tests/celery -rs

.PHONY: servers
servers: ## Install what `make celery`, `make s3-servers` and `make pages` start: Debian's Postgres, Redis, Ceph and Chromium, and what keeps them apart (root)
	@dpkg --verify $(SERVERS) 2> /dev/null || { \
	    apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(SERVERS); }

.PHONY: compose-test
compose-test: $(STAMP) ## docker-compose.yaml under Docker: up, the sample through it, down again
	@exec $(PY) -m local.commands.compose

.PHONY: increment
increment: $(STAMP) ## What a new part costs, next to a full run: [SCALE=0.05]
	@exec $(PY) -m local.commands.increment

.PHONY: bench
bench: $(STAMP) ## This project beside find, cp, s5cmd, rclone and the AWS CLI: [SCALE=1] [ROWS='scan copy'] [ROUNDS=3]
	@exec $(PY) -m bench

.PHONY: looks
looks: $(STAMP) ## How often the thresholds for pictures are wrong, on drawn faces: [CLEANVISION=<a Python with cleanvision 0.3.7>]
	@exec $(PY) -m bench.looks

##@ Maintain
.PHONY: format
format: $(STAMP) ## Let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(STAMP) ## Resolve requirements*.txt into requirements.lock (newest versions that fit)
	@$(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
	    --custom-compile-command 'make lock' --output-file requirements.lock \
	    requirements.txt requirements-cluster.txt requirements-dev.txt
	@for apart in servers/moto servers/localstack training_host/mxnet; do \
	    $(BIN)/uv pip compile --no-config --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
	        --custom-compile-command 'make lock' --output-file tests/$$apart.lock tests/$$apart.txt; \
	done

.PHONY: audit
audit: $(STAMP) ## Ask PyPI's advisories about every locked package (needs the internet)
	@$(BIN)/uv tool run --no-config --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes --requirement requirements.lock

.PHONY: schema
schema: $(STAMP) ## Publish the JSON schema of the dataset files
	@$(PY) -m include.faceset.declared.dataset > include/datasets/dataset.schema.json

.PHONY: picture
picture: $(STAMP) ## Draw the tasks of the DAG for the README
	@exec $(PY) -m local.commands.picture

.PHONY: venv
venv: $(STAMP) ## The virtual environment, exactly as in requirements.lock

# The old environment may be the active one, and is about to go: it must not make the new one.
$(STAMP): requirements.lock
	@PATH=$${PATH//"$(BIN):"/}; python=; \
	for one in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3; do \
	    if "$$one" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null; then python=$$one; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'make: this project needs Python 3.11 to 3.14 (Debian: apt-get install python3 python3-venv)' >&2; exit 2; \
	fi; \
	echo "Installing requirements.lock into $(VENV) (a minute or two, once) …"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo 'make: no virtual environment could be made (Debian: apt-get install python3-venv)' >&2; exit 2; }; \
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock
	@touch $@

.PHONY: clean
clean: ## Remove the virtual environment, all state and all caches (also the embedded S3 server's data)
	@rm -rf $(VENV) .local .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
	    /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
