# Five verbs; `make` alone lists them. PYTHON picks the interpreter of .venv, HOST and PORT the
# server's address.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

.DEFAULT_GOAL := help
.PHONY: help serve test lint format bench bench-peers

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' Makefile

serve: $(STAMP) ## start the server (HOST=127.0.0.1 PORT=8000)
	@$(BIN)/upscale serve $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT))

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP) ## time this machine, into benchmarks/results/
	$(BIN)/python -m benchmarks.run

bench-peers: $(PEERS_STAMP) ## install what the benchmark compares with, apart from the product

# The stamp is newer than what decides the installation, or it is made again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# basicsr's build wants torch there already, and the old setuptools way of building.
$(PEERS_STAMP): pyproject.toml constraints.txt
	test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet -c constraints.txt -e . \
	  'setuptools>=77,<81' wheel cython
	$(PEERS)/bin/python -m pip install --quiet --no-build-isolation --use-pep517 \
	  -c constraints.txt -e '.[peers]'
	@touch $@
