# Millrace: build, test, run. `make help` lists the targets.
#
# Only Go, make and git are needed, and a C compiler for the race detector. Tools are
# built from pinned modules into .cache/tools; nothing else is downloaded.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# ---- settings ----

STAGES   := ingest validate enrich standardize route scrape aggregate archive
BINARIES := $(STAGES) millrace
# The order matters to sync: a module comes after those it requires.
MODULES  := deploy/config shared schemas $(STAGES:%=stages/%) deploy/millrace
PATTERNS := $(MODULES:%=./%/...)

# Static binaries without paths of the machine that built them.
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w'

CACHE ?= $(CURDIR)/.cache
TOOLS ?= $(CACHE)/tools
GOLANGCI_LINT := $(TOOLS)/dev/golangci-lint
GOVULNCHECK   := $(TOOLS)/dev/govulncheck

# Programs that the integration and compose tests talk to. A version is a folder, so that
# a new version is built and an old one is not taken for it.
NATS_SERVER_VERSION := v2.15.2
NATS_CLI_VERSION    := v0.5.1
MINIO_VERSION       := v0.0.0-20260212201848-7aac2a2c5b7c
NATS_SERVER_BIN ?= $(TOOLS)/nats-server-$(NATS_SERVER_VERSION)/nats-server
NATS_CLI_BIN    ?= $(TOOLS)/nats-$(NATS_CLI_VERSION)/nats
MINIO_BIN       ?= $(TOOLS)/minio-$(MINIO_VERSION)/minio

# The race detector is linked with a C compiler; without one the tests run without it.
CC_FOUND := $(shell command -v $$(go env CC) 2>/dev/null)
RACE     ?= $(if $(CC_FOUND),-race)
GOTEST   := CGO_ENABLED=$(if $(RACE),1,0) go test $(RACE)

# The longest time for the tests of one package.
TEST_TIMEOUT ?= 8m

# ---- build and run ----

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z\/-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## all binaries into bin/
	$(GOBUILD) -o bin/ $(foreach s,$(STAGES),./stages/$(s)/cmd/$(s)) ./deploy/millrace

.PHONY: run
run: build ## build, start everything in one process, feed the samples, stay up
	bin/millrace up --data .millrace --sample

.PHONY: cluster
cluster: $(NATS_SERVER_BIN) ## three brokers that keep three copies, on this machine, until Ctrl-C
	NATS_SERVER_BIN=$(NATS_SERVER_BIN) deploy/nats/cluster/start

.PHONY: clean
clean: ## remove what was built (bin/, .cache/), not the data in .millrace/
	rm -rf bin .cache

# ---- tests ----

.PHONY: test
test: ## tests that need only Go; with the race detector where a C compiler is found
	@$(if $(RACE),,echo "no C compiler found: the race detector is off" >&2)
	$(GOTEST) -timeout $(TEST_TIMEOUT) work

# The seeds of a simulation: SIM_SEEDS of them from SIM_FROM on. SIM_TRACE=1 tells all that
# happened in a seed that failed, SIM_LOG=1 logs as the stages do.
SIM_SEEDS ?= 10000
SIM_FROM  ?= 0

.PHONY: sim
sim: ## the line in virtual time with faults that follow from a seed (SIM_SEEDS=10000 SIM_FROM=0)
	cd deploy/millrace && SIM_SEEDS=$(SIM_SEEDS) SIM_FROM=$(SIM_FROM) go test -count=1 -timeout 2h -run TestNothingIsLostWhateverHappens ./sim

# `make test` runs the first seeds with the race detector; these are more, without it.
.PHONY: sim/check
sim/check:
	@$(MAKE) sim SIM_SEEDS=1000 SIM_FROM=0

.PHONY: test/alone
test/alone: ## each module builds and vets without the workspace
	@for m in $(MODULES); do echo "alone: $$m"; (cd $$m && GOWORK=off go build ./... && GOWORK=off go vet ./...); done

.PHONY: test-integration
test-integration: export NATS_SERVER_BIN := $(NATS_SERVER_BIN)
test-integration: export NATS_CLI_BIN := $(NATS_CLI_BIN)
test-integration: export MINIO_BIN := $(MINIO_BIN)
test-integration: export MILLRACE_BIN := $(CURDIR)/bin
test-integration: export CHAOS_BIN := $(CACHE)/chaos
test-integration: build build/chaos $(NATS_SERVER_BIN) $(NATS_CLI_BIN) $(MINIO_BIN) ## tests against real servers, built from their modules
	cd shared && go test -tags integration -count=1 -timeout $(TEST_TIMEOUT) ./store/... ./storetest/...
	cd deploy/millrace && go test -tags integration -count=1 -timeout 20m ./...

# How long, with which seed (a new one where it is empty), at how many documents a second,
# in which topology (stages or up), and only which faults (all where it is empty).
CHAOS_FOR      ?= 1h
CHAOS_SEED     ?=
CHAOS_RATE     ?= 20
CHAOS_TOPOLOGY ?= stages
CHAOS_ONLY     ?=
CHAOS_GAP      ?= 10s
CHAOS_KEEP     ?=

# The release before: the last tag, or BEFORE_COMMITS back where there is none.
BEFORE         := $(CACHE)/before
BEFORE_COMMITS ?= 50

.PHONY: chaos
chaos: export NATS_SERVER_BIN := $(NATS_SERVER_BIN)
chaos: export MINIO_BIN := $(MINIO_BIN)
chaos: export CHAOS_BIN := $(CACHE)/chaos
chaos: export CHAOS_BEFORE := $(BEFORE)/bin
chaos: export CHAOS_SEEDS := $(CACHE)
chaos: build/chaos build/before $(NATS_SERVER_BIN) $(MINIO_BIN) ## the line under load and faults for CHAOS_FOR=1h (CHAOS_SEED, CHAOS_RATE, CHAOS_TOPOLOGY, …)
	cd deploy/millrace && CHAOS_FOR=$(CHAOS_FOR) CHAOS_SEED=$(CHAOS_SEED) CHAOS_RATE=$(CHAOS_RATE) CHAOS_TOPOLOGY=$(CHAOS_TOPOLOGY) \
		CHAOS_ONLY='$(CHAOS_ONLY)' CHAOS_GAP=$(CHAOS_GAP) CHAOS_KEEP=$(CHAOS_KEEP) \
		go test -tags integration -count=1 -timeout 0 -v -run '^TestChaos$$' ./chaos

.PHONY: chaos/guards
chaos/guards: export NATS_SERVER_BIN := $(NATS_SERVER_BIN)
chaos/guards: export MINIO_BIN := $(MINIO_BIN)
chaos/guards: export CHAOS_BIN := $(CACHE)/chaos
chaos/guards: build/chaos $(NATS_SERVER_BIN) $(MINIO_BIN) ## prove that the fault suite sees when a guard is taken away
	cd deploy/millrace && CHAOS_GUARDS=1 go test -tags integration -count=1 -timeout 40m -parallel 3 -v -run '^Test(TheWitnessSees|TheRecorderSees|AFlippedBit)' ./chaos

# How long the store is away, and under how many documents a second.
OUTAGE_FOR  ?= 5m
OUTAGE_RATE ?= 50

.PHONY: chaos/outage
chaos/outage: export NATS_SERVER_BIN := $(NATS_SERVER_BIN)
chaos/outage: export MINIO_BIN := $(MINIO_BIN)
chaos/outage: export CHAOS_BIN := $(CACHE)/chaos
chaos/outage: build/chaos $(NATS_SERVER_BIN) $(MINIO_BIN) ## the store away under load: no dead letters, all done in the same time (OUTAGE_FOR=5m OUTAGE_RATE=50)
	cd deploy/millrace && OUTAGE_FOR=$(OUTAGE_FOR) OUTAGE_RATE=$(OUTAGE_RATE) \
		go test -tags integration -count=1 -timeout 0 -v -run '^TestAnOutageOfTheStoreCostsNothing$$' ./chaos

.PHONY: build/before
build/before: # the stages of the release before, where git knows one
	@ref=$$(git describe --tags --abbrev=0 2>/dev/null || git rev-list --first-parent --skip=$(BEFORE_COMMITS) --max-count=1 HEAD 2>/dev/null || true); \
	rm -rf $(BEFORE) && mkdir -p $(BEFORE)/src; \
	if [ -z "$$ref" ]; then echo "SKIPPED: git knows no release before, so none runs beside this one" >&2; exit 0; fi; \
	echo "the release before is $$(git log -1 --format='%h of %cs' "$$ref")"; \
	git archive "$$ref" | tar -x -C $(BEFORE)/src; \
	cd $(BEFORE)/src && $(GOBUILD) -o $(BEFORE)/bin/ $(foreach s,$(STAGES),./stages/$(s)/cmd/$(s))

.PHONY: build/chaos
build/chaos: # the binaries with what only the fault suite may have
	$(GOBUILD) -tags chaos -o $(CACHE)/chaos/ $(foreach s,$(STAGES),./stages/$(s)/cmd/$(s)) ./deploy/millrace

.PHONY: test-compose
test-compose: build image/files $(NATS_SERVER_BIN) $(MINIO_BIN) ## docker-compose.yml with one document through it (needs a Docker engine)
	NATS_SERVER_BIN=$(NATS_SERVER_BIN) MINIO_BIN=$(MINIO_BIN) .ci/engine .ci/compose

# ---- checks ----

.PHONY: check
check: ## what CI asks for, except the integration and compose tests
	@.ci/steps fmt/check lint lint/selftest sync/check workspace/check image/check test/race sim/check test/alone vuln

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## format all Go files
	$(GOLANGCI_LINT) fmt $(MODULES)

.PHONY: fmt/check
fmt/check: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) fmt --diff $(MODULES)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## lint all modules (LINTFLAGS adds flags)
	$(GOLANGCI_LINT) run $(LINTFLAGS) $(PATTERNS)

.PHONY: lint/selftest
lint/selftest: $(GOLANGCI_LINT) ## prove that a fault in any module is found by lint
	GOLANGCI_LINT=$(GOLANGCI_LINT) .ci/lint-selftest $(MODULES)

.PHONY: sync
sync: ## bring go.work, go.mod and go.sum in line
	go work sync
	@for m in $(MODULES) .tools .tools/deploy; do echo "tidy: $$m"; (cd $$m && GOWORK=off go mod tidy); done

.PHONY: sync/check
sync/check:
	@.ci/unchanged $(MAKE) sync

.PHONY: workspace/check
workspace/check:
	@.ci/workspace

# Not cached: the files that these tests read are outside their module, so Go does not see a change.
.PHONY: image/check
image/check:
	GOWORK=off go -C .tools/deploy test -count=1 ./...

.PHONY: test/race
test/race:
	@$(if $(CC_FOUND),,echo "the race detector needs a C compiler, and $$(go env CC) is not there" >&2; exit 1)
	@$(MAKE) test RACE=-race

.PHONY: vuln
vuln: $(GOVULNCHECK) ## known vulnerabilities, per module (VULNDB=DIR for a local database)
	@GOVULNCHECK=$(GOVULNCHECK) .ci/vuln $(MODULES)

# ---- containers ----

.PHONY: image/files
image/files:
	@.ci/image-files $(CACHE)/image

.PHONY: image
image: build image/files ## the container image millrace:dev from bin/
	DOCKER_BUILDKIT=0 docker build -f deploy/Dockerfile --target prebuilt -t millrace:dev .

.PHONY: secrets
secrets: ## random S3 keys for docker-compose.yml, once, in deploy/secrets/
	@.ci/secrets deploy/secrets

# ---- tools ----

.PHONY: tools
tools: $(GOLANGCI_LINT) $(GOVULNCHECK) $(NATS_SERVER_BIN) $(NATS_CLI_BIN) $(MINIO_BIN) ## build every tool that the targets above use

$(GOLANGCI_LINT) $(GOVULNCHECK) &: .tools/go.mod .tools/go.sum
	mkdir -p $(TOOLS)/dev
	GOWORK=off go -C .tools build -o $(TOOLS)/dev/ tool
	touch $(GOLANGCI_LINT) $(GOVULNCHECK)

# install_tool MODULE@VERSION builds a program without its module becoming one of ours.
install_tool = GOWORK=off CGO_ENABLED=0 GOBIN=$(@D) go install -trimpath -ldflags '-s -w' $(1)

$(TOOLS)/nats-server-$(NATS_SERVER_VERSION)/nats-server:
	$(call install_tool,github.com/nats-io/nats-server/v2@$(NATS_SERVER_VERSION))

$(TOOLS)/nats-$(NATS_CLI_VERSION)/nats:
	$(call install_tool,github.com/nats-io/natscli/nats@$(NATS_CLI_VERSION))

$(TOOLS)/minio-$(MINIO_VERSION)/minio:
	$(call install_tool,github.com/minio/minio@$(MINIO_VERSION))
