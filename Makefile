# `make` alone lists the targets. All of them are thin: start.py does the work, on Windows and macOS too.
PYTHON ?= python3
PY := .venv/bin/python
DEMO ?= demo
PORT ?= 5000
SERVE ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo serve fuzz lint test clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

install:  ## make .venv with everything the scripts need
	$(PYTHON) start.py install

demo:  ## draw a sample library, find its planted errors, open the page (SERVE=0: end after the reports)
	$(PYTHON) start.py --demo $(DEMO) --port $(PORT) $(if $(filter 0,$(SERVE)),--no-serve)

serve:  ## open the page on the demo again, with the decisions made so far
	$(PYTHON) start.py serve --demo $(DEMO) --port $(PORT)

fuzz:  ## try 100,000 examples on every reader of files
	FUZZ_EXAMPLES=100000 OMP_NUM_THREADS=1 $(PY) -m pytest tests/fuzz -n auto

lint:  ## hold the code to its form (ruff, mypy) and look for known holes (bandit)
	$(PYTHON) start.py install --tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m bandit -q -ll -r tagcheck webapp -s B608,B704

test:  ## install what the tests need and run all of them
	$(PYTHON) start.py test

clean:  ## remove the demo and the environment
	rm -rf $(DEMO) .venv
