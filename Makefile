# `make` builds bin/ctnas, `make demo` shows all of it, `make test` runs the tests; `make help` lists the rest.
SHELL := /bin/sh
GO ?= go
# Go's own ten minutes a package are too few for the longest of them on a machine with other work. Whatever hangs still ends,
# and shows where. vet is what `make lint` runs, whole.
TEST = $(GO) test -vet=off -timeout 60m
# First what takes longest, so that no processor is left with it alone at the end.
EVERY = ./trainer ./cmd/ctnas ./search/method/ctnas ./...
# Collecting garbage was a fifth of what the tests of searches cost, and a seventh of compiling a large package.
build gpu test test-all test-gpu test-gpu-fake race sanitize lint fuzz gpu-report: export GOGC ?= 400
FUZZTIME ?= 30s
SANITIZED := ./kernels/... ./trainer/data/...
# Without a usable git repository (a source archive, another owner's folder) Go must not look for a revision.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
BUILD = -buildvcs=$(VCS) -o bin/ctnas
GPU_TESTED := ./kernels/... ./gcn ./search/controller ./trainer
PROFILED := -run OnAGPU ./cmd/ctnas/bench
# Optional libraries that are found become build tags, for every go command below.
TAGS := $(shell scripts/tags.sh)
comma := ,
GPU_TAGS := cuda$(if $(TAGS),$(comma)$(TAGS))
# With -trimpath everywhere, what one target has compiled serves the others: the kernels take minutes.
export GOFLAGS := $(strip -trimpath $(GOFLAGS) $(if $(TAGS),-tags=$(TAGS)))

.DEFAULT_GOAL := build
.PHONY: help build gpu fatbins gpu-report docs test test-all test-gpu test-gpu-fake test-farm demo demo-train demo-table demo-supernet lint race sanitize fuzz peers bench bench-peers settings licenses image image-gpu wheel test-python release test-slurm test-k8s dist ci clean tools

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 24

build: tools ## build bin/ctnas, with GPU support where there is a CUDA compiler
	@if home=$$(scripts/cuda/toolkit.sh find) && [ -x "$$home/bin/nvcc" ]; then \
		$(MAKE) --no-print-directory gpu; \
	else \
		GO="$(GO)" scripts/build.sh $(BUILD) ./cmd/ctnas; \
	fi

gpu: tools fatbins ## build bin/ctnas with GPU support; installs the CUDA compiler into build/ where there is none (270 MB)
	GO="$(GO)" scripts/cuda/with.sh scripts/build.sh -tags $(GPU_TAGS) $(BUILD) ./cmd/ctnas

fatbins: tools # compile the kernels; CTNAS_CUDA_ARCHS="80 90" restricts what for
	@CTNAS_CUDA_ARCHS="$(CTNAS_CUDA_ARCHS)" scripts/cuda/fatbins.sh

gpu-report: fatbins ## registers and spills of every kernel; main loops, launches and modelled time of training steps
	@scripts/cuda/resources.sh
	@GO="$(GO)" scripts/cuda/report.sh

test: tools ## unit and property tests
	$(TEST) $(EVERY)

# The same with what takes long and seldom says anything new: the whole of NAS-Bench-101, every order of a GPU's threads, and where there is no
# AVX-512 its code lowered to AVX2.
X16 := $(shell scripts/x16.sh)
test-all: export CGO_CFLAGS ?= -g -O2 $(X16)
test-all: tools ## the same tests with every case of theirs
	CTNAS_TEST=all $(TEST) $(EVERY)

test-gpu: fatbins ## the GPU code's tests on this machine's GPU
	scripts/cuda/with.sh $(TEST) -count 1 -tags $(GPU_TAGS) ./cuda/... $(GPU_TESTED)
	scripts/cuda/with.sh $(TEST) -count 1 -tags $(GPU_TAGS) $(PROFILED)

# Package cuda's tests on the fake driver, and as on a machine without one; then what runs kernels, on a fake driver whose kernels are the
# simulator's: graphs, memory and arguments go the way they go on a GPU. Go's cache knows of no driver.
test-gpu-fake: tools ## the GPU code's tests without a GPU, on a fake driver
	driver=$$(scripts/cuda/fake.sh) && LD_LIBRARY_PATH="$$driver" scripts/cuda/with.sh $(TEST) -count 1 -tags $(GPU_TAGS) ./cuda/... ./kernels/fatbin
	scripts/cuda/with.sh $(TEST) -count 1 -tags $(GPU_TAGS) ./cuda/... ./kernels/fatbin
	driver=$$(scripts/cuda/fake.sh kernels) && CTNAS_TEST_DEVICE=cuda:0 LD_LIBRARY_PATH="$$driver" scripts/cuda/with.sh $(TEST) -short -count 1 -tags $(GPU_TAGS) $(GPU_TESTED)
	driver=$$(scripts/cuda/fake.sh kernels) && LD_LIBRARY_PATH="$$driver" scripts/cuda/with.sh $(TEST) -count 1 -tags $(GPU_TAGS) $(PROFILED)
	scripts/dist/test.sh

# How long runs are begun, of which there are at most ten; each ends by itself.
FARMTIME ?= 60s
test-farm: tools ## kill, stop and cut off the processes of a farm for FARMTIME (60s), and compare what it found with one process
	$(TEST) -v -count 1 -run '^(TestChaos|TestPartition)$$' ./search/farm -chaos $(FARMTIME)

demo demo-train: build ## train cells, learn to compare them, search, train the pick: all of it, in 5 minutes, nothing downloaded
	@scripts/demo.sh

demo-supernet: build ## train a supernet, search among its sub-networks, fine-tune the pick: 5 minutes, nothing downloaded
	@scripts/demo-supernet.sh

demo-table: build ## search NAS-Bench-101 with 423 labels of a table
	@scripts/demo-table.sh

lint: tools ## gofmt, go vet, staticcheck and more (scripts/lint); hints of clang-format where it is installed
	@GO="$(GO)" scripts/lint/run.sh
	@scripts/clang-format.sh

# Go code alone can race, and of it what starts goroutines or holds locks: the packages that do, and one test or story each of the others where
# several of them work side by side. The rest would run ten times as long and show nothing.
RACED = $$(git grep -lE 'sync\.[A-Z]|errgroup|atomic\.|^\s*go [a-z]' -- '*.go' ':!*_test.go' ':!*test/*' ':!scripts' | xargs -n 1 dirname | \
	grep -vE '^(cmd/ctnas|search/method/ctnas|search/space|trainer)$$' | sort -u | sed 's,^,./,')
SIDE_BY_SIDE := ^TestSideBySide$$|^TestAllReportsAndStops$$|^TestTrain$$|^Test(Supernet|Mixture)?RanksSkip$$|^TestJudgedTogether$$|^TestNodesSkip$$|^TestAnInterruptedSearchEndsInTheSameBytes$$|^TestScripts$$/^(search|search_trains|table_train|compare|train)$$|^TestKillAndResume$$/^(search|train)$$
# For the race detector all is compiled once more, and tests are linked without what debuggers read: it need not be made.
NO_DWARF := -gcflags=all=-dwarf=false
race: tools ## tests of what has goroutines under Go's race detector (the long ones shortened)
	$(TEST) -race $(NO_DWARF) -short -run '$(SIDE_BY_SIDE)' ./cmd/ctnas ./trainer ./search/method/ctnas ./search/space
	$(TEST) -race $(NO_DWARF) -short $(RACED)

# Both in one build. -asan gives C the flags of AddressSanitizer, those for C++ are the simulator's. Go would strip the symbols that reports need.
# The kernels leave their -O3 out with -asan: their checks would be compiled for five times as long.
# What is compiled of Go is not watched: it keeps its own bounds, and the references would take half of the time.
UBSAN := -fsanitize=undefined -fno-sanitize-recover=undefined
sanitize: tools ## the kernels' tests, in C and simulated, under AddressSanitizer and UndefinedBehaviorSanitizer
	CGO_CFLAGS="-g1 -O1 $(X16) $(UBSAN)" CGO_CXXFLAGS="-g1 -O1 -fsanitize=address $(UBSAN) -fno-omit-frame-pointer" CGO_LDFLAGS="-fsanitize=undefined" \
		$(TEST) -short -asan -gcflags=all=-asan=false -ldflags='-s=false -w=false' $(SANITIZED)

fuzz: tools ## every fuzz target for FUZZTIME (30s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

peers: ## install PyTorch into build/peers (5.4 GB), for bench-peers
	python3 -m venv build/peers
	build/peers/bin/pip install --quiet --require-hashes -r scripts/peers/requirements-zoo.txt

bench: build ## speed of kernels and steps on this machine
	bin/ctnas bench

bench-peers: build ## the same work in PyTorch and here, side by side; writes build/peers.json
	@table=$$(scripts/data.sh nb101_run0.csv.gz); photographs=$$(scripts/data.sh imagenet_sample/labels.csv); \
		python3 scripts/peers/run.py $${table:+--data "$$table"} $${photographs:+--images "$${photographs%/*}"} $(PEERS_FLAGS)

settings: tools ## write docs/settings.md anew from the program's lists of settings
	$(GO) test -count 1 -run TestSettingsPage ./cmd/ctnas -update

docs: ## the pages as a site in build/docs/site, with every link checked (installs Sphinx into build/)
	scripts/docs/build.sh

licenses: tools ## write the licences of what is linked into the program to cmd/ctnas/THIRD_PARTY_LICENSES
	scripts/licenses.sh

# An image holds what was built here, with the libraries that it is linked to; a GPU's driver is mounted by the runtime.
image: tools ## the program in an image of containers, without Docker: build/image/ctnas-cpu.tar (OCI)
	$(GO) build -buildvcs=$(VCS) -o build/image/ctnas ./cmd/ctnas
	$(GO) run ./scripts/image -program build/image/ctnas -version "$$(build/image/ctnas --version)" -out build/image/ctnas-cpu.tar
	scripts/image/test.sh build/image/ctnas-cpu.tar

image-gpu: gpu ## the same with the kernels for GPUs: build/image/ctnas-cuda.tar
	$(GO) run ./scripts/image -gpu -program bin/ctnas -version "$$(bin/ctnas --version)" -out build/image/ctnas-cuda.tar
	scripts/image/test.sh build/image/ctnas-cuda.tar

# Without optional libraries, so that it runs on other machines too, and without what only a debugger reads.
wheel: tools ## the program as a package for Python: build/wheel/ctnas-*.whl
	@rm -rf build/wheel && mkdir -p build/wheel
	GO="$(GO)" scripts/build.sh -tags none -ldflags='-s -w' -buildvcs=$(VCS) -o build/wheel/ctnas ./cmd/ctnas
	python3 scripts/python/wheel.py build/wheel/ctnas build/wheel

test-python: wheel ## the tests of that package, in an environment of its own (skipped without python3)
	scripts/python/test.sh build/wheel/ctnas-*.whl

release: tools ## archives, packages, wheel, image, list of modules, checksums: build/release, of the version that git's tags say
	@GO="$(GO)" scripts/release/release.sh

test-slurm: build ## what ctnas launch slurm prints, on a Slurm of its own on loopback (skipped without its packages)
	scripts/launch/slurm.sh

test-k8s: ## the examples for Kubernetes against its schemas, offline (installs kubernetes-validate into build/)
	scripts/launch/kubernetes.sh

dist: tools fatbins ## everything to test and measure on a GPU machine without Go: build/dist/ctnas-gpu.tar.xz, then ./run.sh PART there
	@scripts/dist/make.sh

ci: ## everything .ci/run checks
	.ci/run

clean: ## remove what was built (build/peers and the CUDA compiler stay)
	rm -rf bin build/bin build/cuda/kernels build/cuda/fake build/cuda/glue-* kernels/fatbin/bin/*.fatbin

tools:
	@GO="$(GO)" scripts/tools.sh
