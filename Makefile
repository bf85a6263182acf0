# `make` builds bin/ctnas, `make demo` runs a search, `make test` runs the tests; `make help` lists the rest.
SHELL := /bin/sh
GO ?= go
FUZZTIME ?= 30s
LINT_VERSION := v2.15.0
LINT := build/bin/golangci-lint
SANITIZED := ./kernels/... ./trainer/data/...
# Without a usable git repository (a source archive, another owner's folder) Go must not look for a revision.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
# Optional libraries that are found become build tags, for every go command below.
TAGS := $(shell scripts/tags.sh)
export GOFLAGS := $(strip $(GOFLAGS) $(if $(TAGS),-tags=$(TAGS)))

.DEFAULT_GOAL := build
.PHONY: help build test demo lint race sanitize fuzz peers bench bench-peers ci clean tools

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 24

build: tools ## build bin/ctnas
	$(GO) build -trimpath -buildvcs=$(VCS) -o bin/ctnas ./cmd/ctnas

test: tools ## unit and property tests
	$(GO) test ./...

demo: build ## search NAS-Bench-101 with 423 labels
	@scripts/demo.sh

lint: tools $(LINT) ## gofmt and golangci-lint; hints of clang-format where it is installed
	$(LINT) run
	@scripts/clang-format.sh

# The stamp in the file's name makes a new version build anew.
$(LINT): build/bin/.golangci-lint-$(LINT_VERSION)
build/bin/.golangci-lint-$(LINT_VERSION):
	GOBIN="$(CURDIR)/build/bin" $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@rm -f build/bin/.golangci-lint-* && touch $@

race: tools ## tests under Go's race detector (the long ones shortened)
	$(GO) test -race -short ./...

sanitize: tools ## the C kernels' tests under AddressSanitizer, then UndefinedBehaviorSanitizer
	$(GO) test -short -asan $(SANITIZED)
	CGO_CFLAGS="-g -O1 -fsanitize=undefined -fno-sanitize-recover=all" CGO_LDFLAGS="-fsanitize=undefined" \
		$(GO) test -short $(SANITIZED)

fuzz: tools ## every fuzz target for FUZZTIME (30s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

peers: ## install PyTorch into build/peers (5.4 GB), for bench-peers
	python3 -m venv build/peers
	build/peers/bin/pip install --quiet -r scripts/peers/requirements.txt

bench: build ## speed of kernels and steps on this machine
	bin/ctnas bench

bench-peers: build ## the same work in PyTorch and here, side by side; writes build/peers.json
	@table=$$(scripts/data.sh nb101_run0.csv.gz); \
		python3 scripts/peers/run.py $${table:+--data "$$table"} $(PEERS_FLAGS)

ci: ## everything .ci/run checks
	.ci/run

clean: ## remove what was built (build/peers stays)
	rm -rf bin build/bin

tools:
	@GO="$(GO)" scripts/tools.sh
