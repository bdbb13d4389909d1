# Needs Rust (rustup reads rust-toolchain.toml), make, bash, a network; Python 3 for interop, helm and image; npm once to
# fetch Node and packages.
# Everything else is installed under .tools/ by the targets that need it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help run test check unit conformance interop battery bench sim sim-defects drills loadtest helm image docs audit fmt

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN := $(TARGET)/debug/enfilade
RELEASE := $(TARGET)/release
NODE := .tools/node/node_modules/.bin/node
# Arguments of `make run`, for example: make run ARGS="--config my.yaml"
ARGS ?=
BENCH_ARGS ?=
DRILLS_ARGS ?=
# Nodes of the gateway in `make conformance` and `make interop`; several stand behind a balancer without stickiness.
NODES ?= 1
# Streams of `make loadtest`, and how long they are held.
# Without SCENARIO the default one runs: 100,000 streams for 6 minutes.
SCENARIO ?=
ifeq ($(SCENARIO),)
CONNECTIONS ?= 100000
HOLD ?= 6m
endif
LOADTEST_ARGS ?=
LOADTEST_RUN = $(addprefix --scenario ,$(SCENARIO)) $(addprefix --connections ,$(CONNECTIONS)) $(addprefix --hold ,$(HOLD)) $(LOADTEST_ARGS)
# How many seeds `make sim` runs.
SEEDS ?= 200

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-12s %s\n", $$1, $$2 }'

run: ## Start three nodes with demo upstreams (ARGS="--nodes 1", ARGS="--config FILE" for your own)
	$(CARGO) build --locked -p enfilade
	exec $(BIN) up $(ARGS)

test: check unit conformance ## Everything that a change must pass

check: ## Formatting, lints as errors, dependency rules
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	if $(CARGO) deny --version >/dev/null 2>&1; then
		$(CARGO) deny --locked check bans licenses sources
	else
		echo "cargo-deny is not installed: licences and sources are not checked (cargo install --locked cargo-deny)"
	fi

unit: ## All tests of the workspace
	if $(CARGO) nextest --version >/dev/null 2>&1; then
		$(CARGO) nextest run --locked --workspace
		$(CARGO) test --locked --workspace --doc --quiet
	else
		$(CARGO) test --locked --workspace
	fi

conformance: ## The official MCP conformance suite, both legs, both revisions (NODES=3: through three nodes)
	$(CARGO) build --locked -p enfilade
	conformance/install.sh
	ENFILADE_NODES=$(NODES) $(NODE) conformance/run.mjs $(BIN)

interop: ## Real clients and real servers through one gateway (NODES=3: through three nodes)
	$(call need,python3)
	interop/install.sh
	$(CARGO) build --locked -p enfilade -p interop-rmcp-client
	python3 interop/run.py --nodes $(NODES) --gateway $(BIN) --rmcp-client $(TARGET)/debug/interop-rmcp-client

battery: ## Messages of the largest size, and far beyond it; prints what they add to the memory
	$(CARGO) build --locked -p enfilade --examples
	$(CARGO) test --locked -p enfilade --test battery -- --nocapture

bench: ## CPU per call beside nginx (needs nginx), of a forwarded call, from 1 to 6 nodes, the registry's rate; fails above its limits
	$(call need,nginx)
	$(CARGO) build --locked --release -p enfilade -p enfilade-bench
	$(CARGO) build --locked --release -p enfilade-raft --example rate
	failed=0
	$(RELEASE)/enfilade-bench run --gateway $(RELEASE)/enfilade --ratio-max 3.0 $(BENCH_ARGS) || failed=1
	$(RELEASE)/examples/rate || failed=1
	$(RELEASE)/enfilade-bench sessions --gateway $(RELEASE)/enfilade --rate-min 5000 --bytes-max 1024 || failed=1
	$(RELEASE)/enfilade-bench forwarded --gateway $(RELEASE)/enfilade --ratio-max 1.5 || failed=1
	timeout 420 $(RELEASE)/enfilade-bench scale --gateway $(RELEASE)/enfilade --flat-max 0.10 || failed=1
	exit $$failed

sim: ## The cluster in a deterministic world: SEEDS=n seeds, invariants after every step
	$(CARGO) build --locked --release -p enfilade-sim
	$(RELEASE)/enfilade-sim run --seeds $(SEEDS)

sim-defects: ## The simulation finds each seeded defect; shows the seed that does
	$(CARGO) build --locked --release -p enfilade-sim
	$(RELEASE)/enfilade-sim defects

drills: ## Real processes under load: kills, partitions, scaling; prints what was lost (DRILLS_ARGS="--full")
	$(CARGO) build --locked --release -p enfilade -p enfilade-drills
	$(RELEASE)/enfilade-drills --gateway $(RELEASE)/enfilade all $(DRILLS_ARGS)

loadtest: ## CONNECTIONS=100000 streams at nodes of this machine, HOLD=6m, with faults; or SCENARIO=loadtest/scenarios/overload.toml, …
	$(CARGO) build --locked --release -p enfilade-loadtest
	$(RELEASE)/enfilade-loadtest local $(LOADTEST_RUN) --check
	$(CARGO) build --locked --release -p enfilade
	$(RELEASE)/enfilade-loadtest local $(LOADTEST_RUN)

helm: ## The chart: rendered, linted, validated, bad values refused, and run as processes of this machine
	$(call need,python3)
	helm/install.sh
	$(CARGO) build --locked -p enfilade -p enfilade-loadtest
	python3 helm/make_schema.py $(BIN)
	.tools/helm/venv/bin/python helm/check $(BIN) $(TARGET)/debug/enfilade-loadtest

image: ## The container image without a daemon: built twice with equal bytes, and started
	$(call need,python3)
	$(CARGO) build --locked --release -p enfilade -p enfilade-loadtest
	python3 deploy/image.py $(RELEASE) $(TARGET)/enfilade-image.tar
	python3 deploy/image.py $(RELEASE) $(TARGET)/enfilade-image-again.tar
	cmp $(TARGET)/enfilade-image.tar $(TARGET)/enfilade-image-again.tar
	rm $(TARGET)/enfilade-image-again.tar
	python3 deploy/check.py $(TARGET)/enfilade-image.tar

docs: ## Write the generated pages again, and the schema of the chart's values
	$(call need,python3)
	$(CARGO) build --locked -p enfilade
	trap 'rm -f docs/CONFIG.md.new docs/METRICS.md.new' EXIT
	$(BIN) schema --markdown > docs/CONFIG.md.new
	mv docs/CONFIG.md.new docs/CONFIG.md
	$(BIN) metrics > docs/METRICS.md.new
	mv docs/METRICS.md.new docs/METRICS.md
	python3 helm/make_schema.py $(BIN) --write

audit: ## Known vulnerabilities of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check advisories

fmt: ## Format the code
	$(CARGO) fmt --all

# nginx often lies where only root looks.
define need
	PATH="$$PATH:/usr/sbin" command -v $(1) >/dev/null || { echo "make $@: $(1) is needed and not installed" >&2; exit 69; }
endef
