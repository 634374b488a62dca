# Every target is one command; what it needs is checked first by .ci/prepare, which on Debian installs what is missing.
# Variables given here or in the environment reach the lab: QEMU, KERNEL_TREE, KERNEL, MODULES, KDIR, BUSYBOX.

# What an old compiler cannot build is left out; tests that build the program themselves are told as well.
export SDMORPH_CARGO_FLAGS := $(shell .ci/cargo-flags)
# Property tests take the same inputs each time, so that a change is judged by what it does. New inputs: `make soak`.
export PROPTEST_RNG_SEED ?= 2024
# The same build as the tests': an optimised one would cost minutes and make no guest faster.
SDMORPH := cargo run --locked $(SDMORPH_CARGO_FLAGS) --bin sdmorph --

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all bench check soak fuzz slurm docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  QEMU=path       a qemu-system-x86_64 of your own (10.1.1 or newer)'
	@echo '  KERNEL=path     a kernel image of your own, MODULES=dir its modules'
	@echo '  KERNEL_TREE=dir a kernel tree of your own, which is built first'
	@echo '  KDIR=dir        the build tree that the guest module is compiled against'
	@echo '  BUSYBOX=path    a static busybox for the guest'

setup: ## fetch and build what the lab needs (QEMU, a Debian kernel, busybox), into the cache
	@.ci/prepare build
	$(SDMORPH) lab setup

demo: ## reproduce the page fault on a stock kernel, then the clean run with the fix, which ends with an NVMe drive
	@.ci/prepare build
	$(SDMORPH) lab demo

test: ## unit, property and wire tests, then those with stock QEMU, then the guest tests under it
	@.ci/prepare build
	cargo test --locked $(SDMORPH_CARGO_FLAGS) --workspace
	$(SDMORPH) lab setup
	cargo test --locked $(SDMORPH_CARGO_FLAGS) --workspace --test qemu -- --ignored
	$(SDMORPH) lab test

TEST_ALL_KERNELS := 6.1 backports
test-all: test ## all that `make test` does, and then every scenario on Debian's 6.1 and newest kernel: hours
	status=0; for kernel in $(TEST_ALL_KERNELS); do \
		$(SDMORPH) lab test --all --kernel $$kernel --out target/lab/test-all/$$kernel || status=1; \
	done; exit $$status

bench: ## how fast server, reader and a guest's disk are, next to others; ARGS=--quick for a first impression
	@.ci/prepare build
	cargo build --locked $(SDMORPH_CARGO_FLAGS) --release -p sdmorph
	cargo run --locked $(SDMORPH_CARGO_FLAGS) --release -p sdmorph-bench -- $(ARGS)

soak: ## unit, property and wire tests again and again, each time with new inputs, until one fails; for TIME seconds (600)
	@.ci/prepare build
	@.ci/soak $(or $(TIME),600)

fuzz: ## malformed messages for the vfio-user server, to its codec and over connections; TIME=seconds each (60)
	@.ci/prepare build
	@device/fuzz/run $(or $(TIME),60)

SLURM_CAMPAIGN := --kernels 6.1-none,6.1-diff-2 --scenarios sd7-idle-race --repeat 1
slurm: ## a small campaign through a Slurm of its own (Debian's slurmd, slurmctld, slurm-client, munge); ARGS=options of verdicts
	@.ci/prepare build
	cargo build --locked $(SDMORPH_CARGO_FLAGS) --bin sdmorph
	rm -rf target/lab/slurm
	guest-tests/tools/slurm-here.sh target/lab/slurm $(or $(ARGS),$(SLURM_CAMPAIGN))

check: ## formatting, lints, licences, spelling, shell scripts, files for engines of campaigns, documentation
	@.ci/prepare check
	@.ci/check

docs: ## build the book into target/book and the crates' documentation into target/doc
	@.ci/prepare check
	@.ci/check book rustdoc

clean: ## remove what was built here; the cache of the lab and the tools stays
	rm -rf target
