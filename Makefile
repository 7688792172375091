# make demo                     the main job from nothing: generated data, two trained models, a table, pictures
# make test [STACK=openmmlab]   the tests, on the default or the classic distributions (or STACK=torch21)
# make test-fast                what catches most mistakes, in three minutes
# make check-long [STACK=...]   the tests marked long, whole: 10,000 configurations, 2,000 damaged files, runs killed
#                               at ten moments (an hour)
# make lint                     ruff, types of the public functions, the rules of the house (CONTRIBUTING.md)
# make zoo [STACK=openmmlab]    every config of mmdet and mmseg with a ConvNeXt in it, tried: docs/zoo.md
# make setup [STACK=...]        the environment alone
STACK ?= onedl
VENV_onedl := .venv
VENV_openmmlab := .venv-openmmlab
VENV_torch21 := .venv-torch21
PYTHON := $(VENV_$(STACK))/bin/python
PYTEST_ARGS ?=
MINUTES_onedl := 14
MINUTES_openmmlab := 14
MINUTES_torch21 := 4
ZOO_onedl := docs/zoo.md
ZOO_openmmlab := work_dirs/zoo/openmmlab.md
OTHER_onedl := .venv-openmmlab/bin/python
OTHER_openmmlab := .venv/bin/python

.PHONY: demo test test-fast check-long lint zoo setup clean

setup:
	@python3 tools/setup_env.py $(STACK)

demo: setup
	@$(PYTHON) tools/demo.py

# Two workers of one thread each: the tests are many and small.
test: setup
	@echo "all tests on the stack $(STACK): about $(MINUTES_$(STACK)) minutes on 2 cores"
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 --dist loadfile $(PYTEST_ARGS) tests

test-fast: setup
	@echo "the fast tests on the stack $(STACK): about 3 minutes on 2 cores"
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not slow" $(PYTEST_ARGS) tests

# A test marked long asks the fixture `size` (tests/conftest.py) how much to do: little in `make test`, all of it here.
check-long: setup
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 --dist loadfile -m long --long $(PYTEST_ARGS) tests

lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m tests.helpers.architecture

# Goes on where it was stopped. What does not run under one family of distributions is tried under the other, if that
# is set up.
zoo: setup
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.zoo --log work_dirs/zoo/$(STACK).jsonl --out $(ZOO_$(STACK)) \
		$(addprefix --other ,$(wildcard $(OTHER_$(STACK))))

clean:
	rm -rf .venv .venv-openmmlab .venv-torch21 work_dirs build *.egg-info
