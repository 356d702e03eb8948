# Holdfast: `make help` lists what can be made. Every target installs what it needs and can be repeated.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

OUT ?= out
PORT ?= 8080
SECONDS ?= 60
TARGET := x86_64-unknown-linux-gnu
CARGO_TARGET_DIR ?= $(CURDIR)/target
IMAGE_BUILD := $(CARGO_TARGET_DIR)/$(TARGET)/release/image-build
PROGRAMS := agent containerd-shim ctl image-build init

# What building takes: a C compiler and libraries for the container runtime, and mkfs.ext4.
BUILD_PACKAGES := e2fsprogs gcc libc6-dev libelf-dev make pkg-config zlib1g-dev
# What booting takes.
RUN_PACKAGES := ovmf qemu-system-x86
# What making a kernel of our own takes, beside a C compiler.
KERNEL_PACKAGES := bc bison flex gcc libc6-dev libelf-dev libssl-dev lz4 make
# The kernel of the demo and of the tests: debian-cloud, debian, vm or metal (docs/kernel.md).
KERNEL ?= debian-cloud
# The kernel of our own that is made and published.
FLAVOUR ?= vm
# What only tests take: other people's tools that read what we write, and servers for guests to talk to.
TEST_PACKAGES := chrony cpio cryptsetup-bin dnsmasq-base dosfstools erofs-utils genisoimage iproute2 openssh-client tcpdump
# What fuzzing takes: libFuzzer is C++.
FUZZ_PACKAGES := g++

# Artifacts carry the time of the last commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
export CARGO_TARGET_DIR

.PHONY: help deps release build kernel dist run test check fuzz bench reproducible clean

help: ## Say what can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

deps: ## Install what building, booting and testing take
	@.ci/packages $(BUILD_PACKAGES) $(KERNEL_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)

# Binaries carry no path of the machine that built them: neither Rust's nor C's.
release:
	@.ci/packages $(BUILD_PACKAGES)
	flags=(-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs)
	for prefix in $(CURDIR)=/holdfast "$${CARGO_HOME:-$$HOME/.cargo}=/cargo" "$$(rustc --print sysroot)=/rust"; do
		flags+=("--remap-path-prefix=$$prefix")
		CFLAGS="$${CFLAGS:-} -ffile-prefix-map=$$prefix"
	done
	export CFLAGS CARGO_ENCODED_RUSTFLAGS="$$(IFS=$$'\x1f'; echo "$${flags[*]}")"
	cargo build --release --locked $(addprefix -p ,$(PROGRAMS))

build: release ## Build the demo into out/: a disk image with nginx baked in, and its companions
	@$(IMAGE_BUILD) image examples/images/nginx.toml --out $(OUT)/images/nginx
	$(IMAGE_BUILD) build --out $(OUT) --kernel $(KERNEL) --image nginx=$(OUT)/images/nginx

kernel: release ## Make the lean kernel for virtual machines (FLAVOUR=metal for real ones); kept in cache/
	@.ci/packages $(KERNEL_PACKAGES)
	$(IMAGE_BUILD) kernel --flavour $(FLAVOUR)

dist: kernel ## Build what is published into out/: an empty Holdfast on the lean kernel
	@$(IMAGE_BUILD) build --out $(OUT) --kernel $(FLAVOUR)

run: build ## Boot the demo in QEMU: nginx on http://127.0.0.1:8080/ (PORT=N for another port)
	@.ci/packages $(RUN_PACKAGES)
	echo "Booting: when 'service web running' is on the console, try  curl http://127.0.0.1:$(PORT)/"
	echo "ctrl-a x ends the machine."
	$(IMAGE_BUILD) run --disk --out $(OUT) --user-data examples/web.yaml --port $(PORT):80

test: release ## Run all tests, those in virtual machines included
	@.ci/packages $(RUN_PACKAGES) $(TEST_PACKAGES)
	HOLDFAST_TEST_KERNEL=$(KERNEL) cargo test --workspace --locked

check: ## Check format, lints, documentation and the rules of the house
	@.ci/packages $(BUILD_PACKAGES)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	cargo test --locked -p vm-tests --test rules

fuzz: ## Fuzz what reads outside data, each target for a minute (SECONDS=N for another time)
	@.ci/packages $(BUILD_PACKAGES) $(FUZZ_PACKAGES)
	SECONDS_EACH=$(SECONDS) .ci/fuzz

bench: release ## Measure boot, memory and sizes
	@.ci/packages $(RUN_PACKAGES) erofs-utils python3 zstd
	bench/run --kernel $(KERNEL)

reproducible: ## Build twice from clones at two paths, and compare
	@tmp=$$(mktemp -d)
	trap 'rm -rf "$$tmp"' EXIT
	for name in first the-second; do
		git clone -q . "$$tmp/$$name"
		env -u CARGO_TARGET_DIR $(MAKE) -C "$$tmp/$$name" build
	done
	diff "$$tmp/first/out/manifest.json" "$$tmp/the-second/out/manifest.json"
	echo "Both builds have the same hashes."

clean: ## Remove everything that was built
	rm -rf out target
