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
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=

BIN := $(VENV)/bin
CONFIG := configs/i3d_r18_cgnl_movingdigits.py
RUN := work_dirs/$(basename $(notdir $(CONFIG)))

# The stamp's name tells what was installed from where: while it is there,
# nothing is asked of pip, so that a rerun starts at once and offline.
KEY := $(shell (pwd; cat setup.py requirements/constraints.txt) | cksum \
	| cut -d' ' -f1)
STAMP := $(VENV)/.cgnl_mm-$(KEY)

.PHONY: help demo test test-all mutants lint docs clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo      train I3D with a CGNL block on generated videos'
	@echo 'make test      run the fast tests'
	@echo 'make test-all  run all tests, as every night'
	@echo 'make mutants   put in faults, one at a time: do the tests see them?'
	@echo 'make lint      run ruff and mypy'
	@echo 'make docs      build the documentation in docs/_build'
	@echo 'make clean     remove work_dirs and caches (data and $(VENV) stay)'
	@echo 'All but clean first install the tested versions into $(VENV);'
	@echo 'options: PYTHON=python3.11 VENV=.venv JOBS=2'

demo: $(STAMP)
	$(BIN)/python tools/train.py $(CONFIG) --work-dir $(RUN)
	@$(BIN)/python tools/plot_curves.py $(RUN)

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

$(STAMP):
	@PYTHON='$(PYTHON)' VENV='$(VENV)' sh requirements/install.sh
	@rm -f $(VENV)/.cgnl_mm-*
	@touch $@
