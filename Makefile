# Ringway. `make` alone tells what there is.

CARGO ?= cargo
ARGS ?=
FUZZ_SECONDS ?= 1200

.DEFAULT_GOAL := help
.PHONY: help up test dashboard fuzz conformance faults openapi compare churn bench lint postgresql peers

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Build and start a whole gateway here (flags through ARGS="--listen 0.0.0.0:9080 ...")
	$(CARGO) build --release -p ringway -p ringway-controlplane -p ringway-dataplane
	@# make waits for this shell; exec makes Ctrl-C reach `ringway up` itself and nothing between.
	@exec target/release/ringway up $(ARGS)

test: postgresql ## Build everything and run all tests (installs PostgreSQL through apt if there is none)
	@# Every executable belongs to a package with tests, so that this builds them all.
	RINGWAY_TESTS_BUILT=1 $(CARGO) test --workspace

dashboard: postgresql ## Try the dashboard in a headless Chromium (installs it through apt if there is none); `make test` does where it is installed
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then \
		sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; fi; \
		$$sudo apt-get update -q && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends chromium; \
	fi
	$(CARGO) test -p ringway --test e2e dashboard

conformance: ## Check the gateway's HTTP/1.1 against the RFCs and published attacks (flags through ARGS="--peer nginx ...")
	$(CARGO) build -p ringway-dataplane -p ringway-controlplane -p ringway -p ringway-loadtest
	@target/debug/ringway-loadtest conformance $(ARGS)

faults: ## Break one part after the other under load; writes faults.html (flags through ARGS="--only backend-kill ...")
	@# Like `up`: optimised executables, because a debug build's delays are its own.
	$(CARGO) build --release -p ringway-dataplane -p ringway-controlplane -p ringway-loadtest
	@$(MAKE) --no-print-directory postgresql
	@exec target/release/ringway-loadtest fault --html faults.html $(ARGS)

openapi: ## Try the Admin API against its OpenAPI document with schemathesis (flags through ARGS="--seed 1 ...")
	$(CARGO) build -p ringway-dataplane -p ringway-controlplane -p ringway
	@controlplane/tests/openapi.sh $(ARGS)

compare: peers ## CPU and memory against nginx and HAProxy; writes compare.html (flags through ARGS="--short ...")
	$(CARGO) build --release -p ringway -p ringway-dataplane -p ringway-controlplane -p ringway-loadtest
	@exec target/release/ringway-loadtest compare --html compare.html $(ARGS)

churn: postgresql ## What 100 changes a second cost at 100,000 routes; writes churn.html (flags through ARGS="--rounds 3 ...")
	$(CARGO) build --release -p ringway-dataplane -p ringway-controlplane -p ringway-loadtest
	@exec target/release/ringway-loadtest churn --html churn.html $(ARGS)

fuzz: ## Fuzz heads, bodies and exchanges, FUZZ_SECONDS (1200) each (needs cargo-fuzz)
	cd dataplane/engine && for target in request response body exchange; do \
		mkdir -p ../../target/fuzz-corpus/$$target && \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer address $$target \
			../../target/fuzz-corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 || exit 1; \
	done

bench: ## Run the criterion benches and print one table of them (ARGS="--quick" for a first look)
	@mkdir -p target && touch target/bench-begun
	$(CARGO) bench -p ringway-bench --benches -- $(ARGS)
	@for table in route load change; do \
		$(CARGO) run --quiet --profile bench -p ringway-bench --example $${table}_figures 100000 || exit 1; \
	done
	@$(CARGO) run --quiet --profile bench -p ringway-bench --example bench_table -- target/criterion target/bench-begun

lint: ## Formatting, clippy, and where they are installed: cargo-deny, shellcheck
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; else echo "lint: no cargo-deny, left out"; fi
	@if command -v shellcheck >/dev/null; then \
		scripts=$$(grep -rlE '^#!.*(sh|bash)$$' .ci tuning 2>/dev/null || true); \
		for script in $$scripts; do shellcheck -x "$$script" || exit 1; done; \
	else echo "lint: no shellcheck, left out"; fi

peers:
	@missing=; \
	for peer in nginx haproxy; do \
		PATH=$$PATH:/usr/sbin command -v $$peer >/dev/null || missing="$$missing $$(echo $$peer | sed s/nginx/nginx-light/)"; \
	done; \
	if [ -n "$$missing" ]; then \
		if ! command -v apt-get >/dev/null; then echo "make compare: no apt-get: install$$missing" >&2; exit 1; fi; \
		sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; fi; \
		$$sudo apt-get update -q && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; \
	fi

postgresql:
	@if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
		if ! command -v apt-get >/dev/null; then \
			echo "make test: no initdb and no apt-get: install PostgreSQL 14 or later" >&2; exit 1; \
		fi; \
		sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; fi; \
		$$sudo apt-get update -q && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends postgresql; \
	fi
