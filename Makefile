# make demo                     the main job from nothing: generated data, three trained models, a table, pictures
# make test [STACK=openmmlab]   the tests, on the default or the classic distributions (or STACK=torch21)
# make test-fast                what catches most mistakes, in three minutes
# make check-long [STACK=...]   the tests marked long, whole: 10,000 configurations, 2,000 damaged files, runs killed
#                               at ten moments (an hour)
# make lint                     ruff, types of the public functions, the rules of the house (CONTRIBUTING.md)
# make zoo [STACK=openmmlab]    every config of mmdet and mmseg with a ConvNeXt in it, tried: docs/zoo.md
# make docs                     the documentation site: build/docs/index.html; a link that leads nowhere is an error
# make model-zoo                model-index.yml and docs/model_zoo.md, from the published numbers
# make wheel-check              the wheel in a fresh environment and an empty folder: every main job (seven minutes)
# make setup [STACK=...]        the environment alone
STACK ?= onedl
VENV_onedl := .venv
VENV_openmmlab := .venv-openmmlab
VENV_torch21 := .venv-torch21
PYTHON := $(VENV_$(STACK))/bin/python
PYTEST_ARGS ?=
# Of one thread each: the tests are many and small. A worker that crashes ends the run, which would wait for ever.
# Files are handed out in the order of tests/conftest.py; pytest-xdist's own leaves long files of few tests to the end.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
MINUTES_onedl := 17
MINUTES_openmmlab := 15
MINUTES_torch21 := 4
# The classic distributions are set up beside the torch of the default ones. What needs no toolbox is not tested there
# again: the stack torch21 has the classic mmengine.
LEFT_OUT_openmmlab := benchmarks/test_benchmarks.py benchmarks/test_model_zoo.py checkpoint/test_download.py \
	checkpoint/test_fit.py checkpoint/test_namings.py docs/test_project_files.py docs/test_site.py \
	docs/test_site_in_browser.py engine/hooks/test_checkpoint.py engine/runner/test_step_guard.py \
	engine/test_lock_holder.py evaluation/test_roadmap.py evaluation/test_robustness.py fuzz/test_arguments.py \
	fuzz/test_checkpoints.py models/ops models/test_export.py models/test_layers.py models/test_modernized_resnet.py \
	test_architecture.py test_package.py tools visualization/report/test_page_in_browser.py \
	visualization/test_charts.py visualization/test_roadmap.py
ZOO_onedl := docs/zoo.md
ZOO_openmmlab := work_dirs/zoo/openmmlab.md
OTHER_onedl := .venv-openmmlab/bin/python
OTHER_openmmlab := .venv/bin/python

# Where Python may not keep what it has compiled, each of hundreds of processes compiles torch and the toolboxes again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast check-long lint zoo docs model-zoo wheel-check setup clean

setup:
	@python3 tools/setup_env.py $(STACK)

demo: setup
	@$(PYTHON) tools/demo.py

test: setup
	@echo "all tests on the stack $(STACK): about $(MINUTES_$(STACK)) minutes on 2 cores"
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(WORKERS) $(addprefix --ignore=tests/,$(LEFT_OUT_$(STACK))) \
		$(PYTEST_ARGS) tests

test-fast: setup
	@echo "the fast tests on the stack $(STACK): about 3 minutes on 2 cores"
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(WORKERS) -m "not slow" $(PYTEST_ARGS) tests

# A test marked long asks the fixture `size` (tests/conftest.py) how much to do: little in `make test`, all of it here.
check-long: setup
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(WORKERS) -m long --long $(PYTEST_ARGS) tests

lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m tests.helpers.architecture

# Goes on where it was stopped. What does not run under one family of distributions is tried under the other, if that
# is set up.
zoo: setup
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.zoo --log work_dirs/zoo/$(STACK).jsonl --out $(ZOO_$(STACK)) \
		$(addprefix --other ,$(wildcard $(OTHER_$(STACK))))

# Needs neither torch nor mm.
docs:
	@python3 tools/setup_env.py docs
	@.venv-docs/bin/zensical build --strict --clean
	@.venv-docs/bin/python -m tests.helpers.links build/docs
	@echo "open build/docs/index.html"

model-zoo: setup
	@$(PYTHON) -m benchmarks.model_zoo

wheel-check: setup
	@.ci/wheel

clean:
	rm -rf .venv .venv-openmmlab .venv-torch21 .venv-docs .cache work_dirs build *.egg-info
