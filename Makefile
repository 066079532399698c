# Taskvisor's commands; `make` alone lists them.

VENV := .venv/bin
GUEST := .cache/guest/guest.qcow2

# A file's tests stay together, longest first (tests/fixtures/turns.py). What needs no machine computes, the rest waits too.
AT_ONCE := -n 3 --dist loadfile
AT_ONCE_QUICK := -n 2 --dist loadfile

# Thousands of processes import what is tested, and pytest rewrites it: once is enough, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# How many runs, and from which seed; SEED=17 alone runs that one again, and tells all of it.
SEEDS ?= 200
FROM ?= 1

# How often each kind of death strikes.
DEATHS ?= 10

.PHONY: help setup guest demo static check test slow mutants simulate bench deaths docs lock clean

help:  ## list these targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup:  ## install what is missing: Debian packages, .venv
	@scripts/setup.sh

guest: setup  ## build the demo guest's disk image
	@scripts/build-guest-image.sh $(GUEST)

demo: setup guest  ## run Taskvisor with real guests on this machine
	@scripts/demo.sh

static: setup  ## style, types, layers
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports

check: static  ## static, and the tests that need no machine and take no time: two to four minutes
	$(VENV)/pytest -q tests -m "not real and not crash" $(AT_ONCE_QUICK)

test: guest static  ## everything: static, every moment of a death, real guests, links and workers
	$(VENV)/pytest -q tests -m "not slow" $(AT_ONCE)

slow: setup  ## what takes minutes each: a Debian with cloud-init, deaths on every kind of network
	$(VENV)/pytest -q tests -m slow

mutants: setup  ## break the engine on purpose, and show which tests notice
	@$(VENV)/python -m tests.mutants

simulate: setup  ## run a fleet in which everything goes wrong: SEEDS=200 FROM=1, or SEED=17
	@$(VENV)/python -u -m tests.simulate $(if $(SEED),--seed $(SEED) -v,--seeds $(SEEDS) --from $(FROM))

bench: setup guest  ## measure what a build costs, beside the same work by hand
	@$(VENV)/python -m tests.bench
	@$(VENV)/python -m tests.bench.tracker
	@$(VENV)/python -m tests.bench.client

deaths: setup guest  ## kill what can be killed, each kind DEATHS times (10), then measure how soon work goes on
	TASKVISOR_DEATHS=$(DEATHS) $(VENV)/pytest -q tests/deaths
	@$(VENV)/python -m tests.bench.recovery

docs: setup  ## make a site of docs/ in .cache/site; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/python -m mkdocs build --strict
	@echo "The site is made: .cache/site/index.html"

lock:  ## write requirements.lock anew from pyproject.toml
	@scripts/lock.sh

clean:  ## remove what was built; nothing of a running demo
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
