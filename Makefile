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

.PHONY: test/alone
test/alone: ## each module builds and vets without the workspace
	@for m in $(MODULES); do echo "alone: $$m"; (cd $$m && GOWORK=off go build ./... && GOWORK=off go vet ./...); done

.PHONY: test-integration
test-integration: export NATS_SERVER_BIN := $(NATS_SERVER_BIN)
test-integration: export NATS_CLI_BIN := $(NATS_CLI_BIN)
test-integration: export MINIO_BIN := $(MINIO_BIN)
test-integration: export MILLRACE_BIN := $(CURDIR)/bin
test-integration: build $(NATS_SERVER_BIN) $(NATS_CLI_BIN) $(MINIO_BIN) ## tests against real servers, built from their modules
	cd shared && go test -tags integration -count=1 -timeout $(TEST_TIMEOUT) ./store/... ./storetest/...
	cd deploy/millrace && go test -tags integration -count=1 -timeout 20m ./...

.PHONY: test-compose
test-compose: build image/files $(NATS_SERVER_BIN) $(MINIO_BIN) ## docker-compose.yml with one document through it (needs a Docker engine)
	NATS_SERVER_BIN=$(NATS_SERVER_BIN) MINIO_BIN=$(MINIO_BIN) .ci/engine .ci/compose

# ---- checks ----

.PHONY: check
check: ## what CI asks for, except the integration and compose tests
	@.ci/steps fmt/check lint lint/selftest sync/check workspace/check image/check test/race test/alone vuln

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
