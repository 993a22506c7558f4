# The one entry for people and for CI: `make help` lists it.
PYTHON ?= python3.11
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-ci test-browser test-all test-ray coverage lint type docs ablations \
  bench tensorboard clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything in it, at the versions of constraints.txt

# One file says that the installation is whole and which versions it is of.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "no $(PYTHON) here: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## the main job on a small scale: compress a digits network to half its MACs
	$(BIN)/pfrl compress --model resnet8 --data digits --target macs=0.5 --reward latency \
	  --latency-exponent -0.5 --episode.fidelity reconstruct --agent ddpg --episodes 80 --seed 0 --out runs/demo

# A worker has one core: XLA and OpenMP (torch) would else start a thread for every core in each.
PYTEST := XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
  $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup  ## the tests that take seconds
	$(PYTEST)

test-ci: setup  ## the tests that CI runs besides: the same on more networks
	$(PYTEST) -m "ci and not slow"

test-browser: setup  ## what TensorBoard and the report show, in a headless Chromium
	$(BIN)/pytest -m browser tests/browser

test-all: setup  ## all tests, compiled as users' programs are
	PFRL_TESTS="as used" $(PYTEST) -m "slow or not slow"

test-ray: setup  ## the tests that start a Ray cluster of two nodes on this machine; installs Ray
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/pytest tests/launch/test_cluster.py -m "slow or not slow"

coverage: setup  ## the lines of the code that the tests of CI run
	$(PYTEST) -m "not slow" --cov=pfrl --cov=envs --cov=agents --cov=experiments --cov-report=term

lint: setup  ## style and formatting (ruff)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: setup  ## static types (pyright)
	$(BIN)/pyright

docs: $(VENV)/.docs  ## the site, from docs/ and the docstrings, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# In one process, for compiling takes longer than all else at this scale.
ablations: setup  ## every experiment at its smallest scale, anew
	rm -rf runs/smoke
	$(BIN)/pfrl ablate all --scale smoke --seeds 1 --workers 1 --out runs/smoke

bench: setup  ## seconds, memory and ratios of searches and trainings, as one table
	$(BIN)/python -m benchmarks.bench

tensorboard: setup  ## serve the curves of all runs at http://localhost:6006
	$(BIN)/tensorboard --logdir runs

clean:  ## remove .venv, caches and what was built; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find pfrl envs agents experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
