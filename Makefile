# `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO ?= demo
PORT ?= 5000
SERVE ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo serve lint test clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": name another with PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed tests/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

install: $(VENV)/.installed  ## make .venv with everything the scripts need

demo: $(VENV)/.installed  ## draw a sample library, find its planted errors, open the page (SERVE=0: end after the reports)
	rm -rf $(DEMO)
	$(PY) sample/draw_library.py $(DEMO)
	@date +%s > $(DEMO)/started
	$(PY) dataset_hardcore_mapper.py --data-dir $(DEMO)/data --library $(DEMO)/library
	$(PY) advanced_joytag_processing.py --data-dir $(DEMO)/data --model-dir sample/network
	$(PY) train_series_classifier_images.py --data-dir $(DEMO)/data
	$(PY) run_error_detection.py --data-dir $(DEMO)/data
	@echo "the stages took $$(( $$(date +%s) - $$(cat $(DEMO)/started) )) seconds"; rm $(DEMO)/started
	$(PY) sample/compare_with_planted.py --planted $(DEMO)/planted.json --data-dir $(DEMO)/data
ifneq ($(SERVE),0)
	$(PY) webapp/app.py --data-dir $(DEMO)/data --port $(PORT)
endif

serve: $(VENV)/.installed  ## open the page on the demo again, with the decisions made so far
	$(PY) webapp/app.py --data-dir $(DEMO)/data --port $(PORT)

lint: $(VENV)/.installed-tests  ## hold the code to its form (ruff, mypy)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m mypy

test: $(VENV)/.installed-tests  ## install what the tests need and run all of them
	$(PY) -m pytest

clean:  ## remove the demo and the environment
	rm -rf $(DEMO) $(VENV)
