# Each target sets up .venv by itself when pyproject.toml or constraints.txt has changed.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DOCS_STAMP := $(VENV)/.stamp-docs
TORCH := $(shell grep '^torch==' constraints.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# Idle OpenMP threads soon sleep instead of spinning: spinning ones hold up whatever else runs on the same cores. A short
# spin is as fast as an endless one on an idle machine; tests, which run several processes, do not spin at all.
quickstart: export GOMP_SPINCOUNT ?= 20000
# glibc keeps the memory of large tensors instead of returning it and faulting it in again: a tenth of a training step
# (benchmarks/quickstart_step.json).
quickstart: export MALLOC_MMAP_THRESHOLD_ ?= 33554432
quickstart: export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
test: export OMP_WAIT_POLICY ?= PASSIVE

# Tests run in JOBS processes of one thread each: their models are too small to gain from threads.
JOBS ?= 2
PYTEST_ARGS ?= -q
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help quickstart test test-system smoke check bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch goes first and by itself: only an exact, direct request finds the CPU build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) -e ".[dev]"
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(PIP) -e ".[dev,docs]"
	@touch $@

quickstart: $(STAMP) ## train the three arms on the shipped stories and print the table
	$(BIN)/memsinks quickstart

test: $(STAMP) ## all tests but the long ones and those that need a browser or a server
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS) -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long and not system"

test-system: $(STAMP) ## open the report page in a headless Chromium, remove text with a ledger on a PostgreSQL server
	@missing=""; \
	command -v chromium >/dev/null || missing="chromium"; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing $$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null \
			|| echo "could not be installed: $$missing"; \
	fi
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m system tests/system; status=$$?; \
	if [ $$status = 5 ]; then echo "there are no system tests to run"; else exit $$status; fi

smoke: export OMP_WAIT_POLICY ?= PASSIVE
smoke: $(STAMP) ## every experiment at its smallest scale: files and wiring, the figures mean nothing
	@mkdir -p runs
	$(ONE_THREAD) $(BIN)/memsinks reproduce all --scale smoke --output runs/smoke > runs/smoke.log 2>&1 \
		|| { tail -n 40 runs/smoke.log; exit 1; }
	@tail -n 1 runs/smoke.log

check: $(STAMP) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP) ## time and memory of the sink layer, training steps, preparation, removal, extraction, the stream, the estimate
	$(BIN)/python benchmarks/sink_layer.py
	$(BIN)/python benchmarks/quickstart_step.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/removal.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/estimate_peak.py

docs: $(DOCS_STAMP) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove .venv, caches and built pages
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
