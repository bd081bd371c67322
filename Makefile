.DEFAULT_GOAL := help
.PHONY: help book read pdf test lint bench clean

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/installed

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(INSTALLED) ## execute the notebooks and build the pages: _build/html/index.html
	$(PYTHON) -m lib book

read: $(INSTALLED) ## build the pages from the stored outputs, executing nothing: _build/html/index.html
	$(PYTHON) -m lib book --stored

pdf: $(INSTALLED) ## print the book as last executed, or as stored, by chromium: _build/book.pdf
	$(PYTHON) -m lib pdf

test: $(INSTALLED) ## run every test, notebook and page, and check style and types
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses logical --nbval-lax tests book

lint: $(INSTALLED) ## check style and types
	$(PYTHON) -m pytest tests/test_lint.py

bench: $(INSTALLED) ## measure speed and cost side by side: data/results/bench.json
	$(PYTHON) -m tests.benchmarks

clean: ## remove the environment, the pages and the caches
	rm -rf $(VENV) _build _offline .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): requirements.txt
	@for python in python3.11 python3; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "Python 3.11 or later is needed; neither python3.11 nor python3 is that." >&2; exit 1
	$(PYTHON) -m pip install --requirement requirements.txt
	@touch $@
