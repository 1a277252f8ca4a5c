# The project's commands. `make demo` and `make test` each set a fresh machine up by themselves: a C compiler and the
# stable Rust of rustup are all they ask for.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# One set of flags for every build: another one would compile the whole tree again.
FLAGS := --workspace --all-features
# What `make build` makes. With "--bins --tests" it is the very build that the tests use, for who runs both.
TARGETS := --bins

.PHONY: help
help: ## what can be made
	@printf 'make demo       gateway and scripted backend, two requests through, what was metered (BACKEND=http://host/v1 for your own)\n'
	@printf 'make demo-llm   the same on a small real model: llama.cpp and SmolLM2-135M, from PyPI\n'
	@printf 'make test       every test that needs no service running\n'
	@printf 'make lint       format, clippy and rustdoc, each warning an error\n'
	@printf 'make bench      CPU a request and latency, side by side with a bare proxy\n'

.PHONY: prerequisites
prerequisites:
	@bash tests/demo/prerequisites.sh

.PHONY: build
build: prerequisites
	$(CARGO) build $(FLAGS) $(TARGETS)

# BACKEND, BACKEND_KEY, MODEL and DEMO_ONCE may stand on the command line or in the environment.
export BACKEND BACKEND_KEY MODEL DEMO_ONCE

.PHONY: demo
demo: build
	@bash tests/demo/demo.sh

.PHONY: demo-llm
demo-llm: build
	@bash tests/demo/demo_llm.sh

.PHONY: test
test: prerequisites
	@for service in POSTGRES REDIS; do \
	    name=TOLLGATE_TEST_$${service}_URL; \
	    if [ -z "$${!name:-}" ]; then echo "make test: $$name is not set: tests that want it are skipped"; fi; \
	done
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    set -x; $(CARGO) nextest run $(FLAGS); $(CARGO) test $(FLAGS) --doc; \
	else \
	    echo "make test: cargo-nextest is not installed: cargo test runs the same tests"; \
	    set -x; $(CARGO) test $(FLAGS); \
	fi

.PHONY: lint
lint: prerequisites
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps

.PHONY: bench
bench: prerequisites
	$(CARGO) bench --bench proxy
