# `make demo` and `make test` work as the first command on a fresh clone: each target that needs the
# environment depends on $(READY), which is rebuilt only when the lock or pyproject.toml changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
BENCH  := $(firstword $(wildcard $(BIN)/python) $(PYTHON))
TORCH  := torch==2.13.0
# Two processes of one thread each. What starts Ray mostly waits: all of it runs in one of them, from the beginning,
# and the other does the rest meanwhile (tests/conftest.py divides them).
TWO    := -n 2 --dist loadfile --no-loadscope-reorder
QUICK  := -q -m "not slow and not gpu" $(TWO)
export PYTHONUNBUFFERED = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu bench-gpu bench-peers check lock docs clean setup

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)  ## the virtual environment, from the hashed lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps $(TORCH)
	# Without isolation, so that an sdist builds with the locked setuptools and the torch just installed.
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-build.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $(READY)

demo: $(READY)   ## the whole way: label, sweep, train, publish, deploy, check
	@exec $(BIN)/equi demo --with-parent $(ARGS)

check: $(READY)  ## format, lint, types, contracts, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest tests/unit tests/equivariance tests/golden $(QUICK)

test: $(READY)   ## unit and integration tests, with coverage
	$(BIN)/pytest tests/integration tests/distributed tests/unit tests/equivariance tests/golden $(QUICK) --cov --cov-report=term:skip-covered $(ARGS)

test-slow: $(READY)  ## fault, kill and soak tests
	$(BIN)/pytest tests/e2e tests -m "slow and not gpu" $(TWO) $(ARGS)

# Without $(READY): a machine with CUDA brings its own torch, and needs no Ray. PYTHON=... where there is no $(VENV).
test-gpu:        ## what needs an NVIDIA GPU, and no Ray
	$(BENCH) -m pytest tests/equivariance -q -m gpu $(ARGS)

bench-gpu:       ## benchmarks on CUDA, under torchrun without Ray
	$(BENCH) benchmarks/fused_kernel.py --out benchmarks/results/gpu $(ARGS)
	$(BENCH) benchmarks/strategies.py --device cuda --out benchmarks/results/gpu $(ARGS)
	$(BENCH) benchmarks/two_phase.py --device cuda --out benchmarks/results/gpu $(ARGS)
	$(BENCH) benchmarks/service_overhead.py --device cuda --out benchmarks/results/gpu $(ARGS)

# Peers that pin conflicting versions: an environment each, outside the project's. torch first, so that the build that
# is at hand is taken, and no peer brings another.
bench-peers: $(foreach peer,mace nequip cuequivariance,build/environments/$(peer)/ready)  ## an environment for each peer of the benchmarks

build/environments/%/ready: benchmarks/peers/requirements-%.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(TORCH)
	$(@D)/bin/python -m pip install --quiet $(TORCH) -r $<
	$(@D)/bin/python -m pip check
	touch $@

docs: $(READY)   ## the documentation, strictly, into site/
	$(BIN)/mkdocs build --strict

lock:            ## resolve every dependency but torch again, with hashes
	$(BIN)/python infra/lock.py

clean:           ## everything that was made here, the environment included
	rm -rf $(VENV) site build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
