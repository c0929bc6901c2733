# make demo | test | test-all | mutants | lint | docs | clean | help
# (see README.md)
#
# PYTHON  interpreter that creates the environment     make PYTHON=python3.12
# VENV    the environment, created when absent         make VENV=$VIRTUAL_ENV
#         An existing one is changed to the tested versions, but a compiled
#         mmcv in it is left alone.
# JOBS    processes that run the tests                 make test JOBS=8
# ARGS    options of pytest                            make test ARGS='-k nl'
#         or names of faults                           make mutants ARGS=apply
# VERBOSE 1 shows what the trainings print             make demo VERBOSE=1
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=
VERBOSE ?=

BIN := $(VENV)/bin

# A stamp's name tells what was installed from where: while it is there,
# nothing is asked of pip, so that a rerun starts at once and offline. The demo
# needs a part of it.
KEY := $(shell (pwd; cat setup.py requirements/constraints.txt) | cksum \
	| cut -d' ' -f1)
STAMP := $(VENV)/.cgnl_mm-$(KEY)-all
PART := $(VENV)/.cgnl_mm-$(KEY)-part

.PHONY: help demo test test-all mutants lint docs clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo      a task that a network needs the block for: 7 minutes'
	@echo 'make test      run the fast tests'
	@echo 'make test-all  run all tests, as every night'
	@echo 'make mutants   put in faults, one at a time: do the tests see them?'
	@echo 'make lint      run ruff and mypy'
	@echo 'make docs      build the documentation in docs/_build'
	@echo 'make clean     remove work_dirs and caches (data and $(VENV) stay)'
	@echo 'All but clean first install what they need into $(VENV), as tested;'
	@echo 'options: PYTHON=python3.11 VENV=.venv JOBS=2'

demo: $(or $(wildcard $(STAMP)),$(PART))
	@$(BIN)/python tools/demo.py $(if $(VERBOSE),--verbose)

# one thread per process: two processes share the work better than threads
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-all:
	$(MAKE) test ARGS='--all $(ARGS)'

# each in a copy of the checkout, JOBS of them at a time
mutants: $(STAMP)
	$(BIN)/python tests/mutants.py --jobs $(JOBS) $(ARGS)

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build

clean:
	rm -rf docs/_build work_dirs build dist *.egg-info .mypy_cache .pytest_cache \
		.ruff_cache
	find cgnl_mm configs tests tools -name __pycache__ -prune \
		-exec rm -rf {} +

$(STAMP): EXTRAS := all,test
$(PART): EXTRAS := action
$(STAMP) $(PART):
	@PYTHON='$(PYTHON)' VENV='$(VENV)' EXTRAS='$(EXTRAS)' \
		sh requirements/install.sh
	@rm -f $(filter-out $(STAMP) $(PART),$(wildcard $(VENV)/.cgnl_mm-*))
	@touch $@
