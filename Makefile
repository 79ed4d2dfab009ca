# Thin: each target is a line or two over cargo and the scripts in deploy/. `make` lists the targets.
BROKERS ?= embedded
DURATION ?= 20s
FUZZ_SECONDS ?= 30
BROKER ?= embedded
CHAOS_BROKERS ?= embedded kafka redis rabbitmq
MINUTES ?= 2
SEED ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo demo-embedded demo-kafka demo-redis demo-rabbitmq demo-mixed test chaos chaos-full bench lint fuzz services-up services-down packages clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: demo-$(BROKERS) ## two regions under load: BROKERS=embedded|kafka|redis|rabbitmq|mixed DURATION=20s

demo-embedded: packages
	cargo build --release --locked -p meridian-cli --bin meridian
	$(TARGET_DIR)/release/meridian dev --demo --duration $(DURATION)

demo-kafka demo-redis demo-rabbitmq demo-mixed: demo-%: packages
	cargo build --release --locked -p meridian-cli --bin meridian
	DURATION=$(DURATION) CARGO_TARGET_DIR=$(TARGET_DIR) deploy/local/demo-brokers $*

test: ## every test, against real brokers that it starts and stops
	deploy/test

chaos: ## blows on every process under load, judged: BROKER=embedded|kafka|redis|rabbitmq MINUTES=2 SEED=n
	deploy/chaos --broker $(BROKER) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

chaos-full: ## ten minutes of it on each broker, and the long form of every test of a fault
	for broker in $(CHAOS_BROKERS); do deploy/chaos --broker $$broker --minutes 10 || exit 1; done
	MERIDIAN_FULL=1 deploy/test

bench: packages services-up ## the tables of docs/performance.md; leaves the clusters running
	cargo build --release --locked -p meridian-cli --bin meridian
	cargo run --release --locked -p meridian-bench -- all

lint: ## format, clippy, docs, dependencies and wire contracts
	deploy/lint

fuzz: ## each fuzz target for FUZZ_SECONDS (30)
	deploy/fuzz $(FUZZ_SECONDS)

services-up: packages ## start the local brokers, two of each kind, and etcd
	deploy/local/services-up

services-down: ## stop them; their records stay
	deploy/local/services-down

packages:
	@deploy/local/install-packages

clean: services-down ## remove what was built, fetched and recorded
	cargo clean
	rm -rf $(or $(MERIDIAN_BUILD_DIR),build)
