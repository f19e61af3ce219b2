# make demo   builds, starts a node in a sandbox, runs the main job on a real PostgreSQL, cleans up
# make demo-cluster  three managers and two workers: deploys, kills the leader while a client writes, prints what happened
# make test   builds and runs every check and test
# make bench  measures, and prints ratios to what the machine itself does and to Docker Swarm; FIGURES='failover agents' alone
# make deb    builds a Debian package; make install copies the same files below DESTDIR

TARGET ?= $(or $(CARGO_TARGET_DIR),target)
POSTGRES := $(TARGET)/images/postgres.tar
KERNEL := $(TARGET)/kernel
DESTDIR ?=
PREFIX ?= /usr

.PHONY: build demo demo-cluster test bench deb install check clean

build:
	@tests/prepare.sh build
	cargo build --locked --release --bins

$(POSTGRES): tests/images/postgres/build.sh tests/images/postgres/entrypoint.sh
	@tests/prepare.sh demo
	rm -f $@
	tests/images/postgres/build.sh $@

demo: build $(POSTGRES)
	tests/demo.sh $(TARGET)/release $(POSTGRES)

demo-cluster: build
	@tests/prepare.sh test
	tests/demo-cluster.sh $(TARGET)/release

check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items

test: $(POSTGRES)
	@tests/prepare.sh test
	tests/kernel.sh $(KERNEL)
	$(MAKE) check
	cargo build --locked --workspace --bins
	POSTGRES_TAR=$(abspath $(POSTGRES)) KERNEL=$(abspath $(KERNEL)) cargo test --locked --workspace

bench: build
	@tests/prepare.sh test
	tests/peer.sh $(TARGET)/peer || echo 'bench: Docker cannot be had: what was measured elsewhere stands in its place' >&2
	cargo build --locked --release --package secretd-agent --example idle # apart: its fakes must not reach the binaries
	$(TARGET)/release/bench $(TARGET)/peer $(FIGURES)

install:
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" secretd/packaging/install.sh $(TARGET)/release

deb: build
	secretd/packaging/deb.sh $(TARGET)/release

clean:
	cargo clean
