# Two words to remember: `make demo` shows everything, `make test` proves it. `make` alone lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
SET_UP := .venv/.set-up
READY := .venv/.compiled

##@ See it
demo: $(READY) ## From nothing to changes arriving in every target, with parity and latency
	@$(BIN)/tongbu demo
up: $(READY) ## Start the stack: databases, Kafka, Connect, registry, processor, sink writers
	@$(BIN)/tongbu up
apply: $(READY) ## Make topics, schemas, connectors, tables and declarations true
	@$(BIN)/tongbu apply
status: $(READY) ## Show how each service is, and why it last died
	@$(BIN)/tongbu status
down: $(READY) ## Stop what `make up` or `make demo` has started
	@$(BIN)/tongbu down
purge: $(READY) ## The same, and remove the instance's folder with all data
	@$(BIN)/tongbu down --purge

##@ Try it hard
bench: $(READY) ## FULL=1: side by side with Debezium's JDBC sink: latency, backlog, CPU, memory
	@$(BIN)/python -m bench run $(if $(FULL),--full)
faults: $(READY) ## ROUNDS=n SEED=n: harm to processes, networks, disks, clocks and data under load; then every row and effect compared
	@$(BIN)/python -m bench faults $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))
soak: $(READY) ## HOURS=n: business for hours; memory, handles, state and topics over time
	@$(BIN)/python -m bench soak $(if $(HOURS),--hours $(HOURS))

##@ Record and replay
record: $(READY) ## FILE=F: write the lane logs to a file
	@$(BIN)/tongbu record "$(FILE)"
replay: $(READY) ## FILE=F or SINCE=T, DECLARATIONS=DIR: run a log through a pipeline of its own
	@$(BIN)/tongbu replay $(if $(FILE),"$(FILE)") $(if $(SINCE),--since "$(SINCE)") $(if $(DECLARATIONS),--declarations "$(DECLARATIONS)")

##@ Work on it
setup: $(READY) ## Make .venv, compile what setup.py names; find or install Java and Maven (done by every other target too)
lint: $(READY) ## Style, types, the arrows between packages, and schemas that others rely on
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m schemas check
format: $(READY) ## Write code the way lint wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
check: lint ## lint and the tests that need no service: what to run while working
	@$(BIN)/pytest -m "not integration"
test: lint ## lint and all tests, on a stack of their own
	@$(BIN)/pytest
lock: $(READY) ## After a change of pyproject.toml: pin again (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(SET_UP): requirements.lock requirements-jdk.lock pyproject.toml docker/native/bootstrap
	@docker/native/bootstrap
	@touch $(SET_UP) $(READY)
$(READY): $(SET_UP) setup.py $(wildcard schemas/*.pyx schemas/lane_offset.py streams/*.py streams/stages/*.py streams/stages/*.pyx)
	@echo compiling
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

.PHONY: demo up apply status down purge bench faults soak record replay setup lint format check test lock help
