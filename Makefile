# What a target needs beside Python 3.11 or later, git and make goes into .venv and .bed; a browser, Redis, RabbitMQ and
# strace are installed by apt if root runs it, and asked for otherwise.
SHELL := /bin/sh
VENV := .venv
BED := .bed
PYTHONS := 3.11 3.12 3.13 3.14 3.15
PY := $(VENV)/bin/python
# Compiling the tests and their assertions takes each process seconds, unless it finds what another one has kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env demo test shake coverage test-rest test-all unit engines pythons integration chaos fuzz mutation bed lint format bench docs man release audit clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.runtime: setup.py pyproject.toml
	@tools/make-env $(VENV) runtime
$(VENV)/.development: $(VENV)/.runtime requirements-dev.txt
	@tools/make-env $(VENV) development

$(VENV)/.benchmarks: $(VENV)/.development tests/benchmarks/requirements.txt
	@tools/make-env $(VENV) benchmarks

$(VENV)/.browser: $(VENV)/.development tools/make-browser
	@tools/make-browser
	@touch $@

# The old services run on Python 3.11.
$(BED)/.bed: tests/integration/bed/requirements.txt
	@PYTHON="$${PYTHON:-python3.11 python3}" tools/make-env $(BED) bed

env: $(VENV)/.development  ## create the private environment .venv with the development tools

demo: $(VENV)/.runtime  ## show the main job end to end, on the embedded sandbox
	@$(VENV)/bin/pacifica-notifications-consumer demo

$(VENV)/.brokers: $(VENV)/.development tools/make-brokers
	@tools/make-brokers
	@touch $@

test: $(VENV)/.browser $(VENV)/.brokers  ## run all tests but the long ones and those on the real services
	@PACIFICA_TEST_KILLS=$${PACIFICA_TEST_KILLS:-8} $(PY) tools/run_tests.py endtoend unit engines chaos

shake: $(VENV)/.browser $(VENV)/.brokers  ## run `make test` eight times while the machine has other work
	@$(PY) tools/shake.py

coverage: $(VENV)/.browser $(VENV)/.brokers  ## run `make test`, and print what of the product no test reaches
	@PACIFICA_TEST_KILLS=$${PACIFICA_TEST_KILLS:-8} $(PY) tools/measure_coverage.py $${PARTS:-unit endtoend engines chaos}

test-rest: $(VENV)/.browser $(VENV)/.brokers $(BED)/.bed  ## run the tests that `make test` leaves out
	@$(PY) tools/run_tests.py --rest integration other-systems engines chaos endtoend unit

test-all: $(VENV)/.browser $(VENV)/.brokers $(BED)/.bed  ## run all tests
	@$(PY) tools/run_tests.py --whole endtoend integration other-systems engines chaos unit

engines: $(VENV)/.brokers  ## run the tests of all engines, on real brokers
	$(PY) -m pytest -n 3 --dist loadgroup tests/engines

unit: $(VENV)/.development  ## run the fast tests only
	$(PY) -m pytest -n 4 --dist worksteal -m "not whole" tests/unit

pythons: $(VENV)/.development  ## run the unit tests and the specification's example on all Pythons; PYTHONS=3.15 for one
	@$(PY) tools/pythons.py $(PYTHONS)

integration: $(VENV)/.development $(BED)/.bed  ## run the tests on the real Pacifica services
	$(PY) -m pytest tests/integration

chaos: $(VENV)/.brokers  ## kill the runner, its jobs, workers and brokers at random, a thousand times
	PACIFICA_TEST_KILLS=$${PACIFICA_TEST_KILLS:-1000} $(PY) -m pytest -s tests/chaos

bed: $(VENV)/.development $(BED)/.bed  ## start the real Pacifica services, to work with by hand
	@$(PY) -m tests.integration.bed

fuzz: $(VENV)/.development  ## hostile input for an hour on each parser; SECONDS=60 for a minute
	$(PY) -m tests.fuzz --seconds $${SECONDS:-3600}

$(VENV)/.mutation: $(VENV)/.development
	@$(PY) -m pip --disable-pip-version-check --quiet install mutmut==3.8.1
	@touch $@

# Takes hours; `mutmut show NAME` prints a survivor.
mutation: $(VENV)/.mutation  ## break the code in small ways, and list what no test notices; MUTANTS="*.workers.*" for some
	nice -n 19 $(VENV)/bin/mutmut run --max-children 2 $(MUTANTS)
	@$(VENV)/bin/mutmut results

lint: $(VENV)/.development  ## check formatting, style and types, and build the docs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html

format: $(VENV)/.development  ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.benchmarks $(BED)/.bed  ## measure against peers
	$(PY) -m tests.benchmarks

docs: $(VENV)/.development  ## build the docs into docs/_build/html
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html

man: $(VENV)/.development  ## build the manual pages into docs/_build/man
	$(PY) -m sphinx -q -W --keep-going -b man docs docs/_build/man

release: $(VENV)/.development  ## make the wheel, the source distribution and their bills of materials in dist/
	@$(PY) tools/release.py

# Not a part of the tests: not every index tells what is known of its packages.
audit: $(VENV)/.development  ## ask the package index for known vulnerabilities of what is installed
	$(PY) -m pip_audit --strict --skip-editable --path $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

clean:  ## remove what the other targets made
	test ! -e $(VENV)/.tests || rm -rf "$$(cat $(VENV)/.tests)"
	rm -rf $(VENV) $(BED) .pythons mutants dist docs/_build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
