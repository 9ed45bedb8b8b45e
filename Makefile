# `make demo` trains, attacks and exports a robust three-exit network; `make test` runs the tests.
# Both set up .venv by themselves. PYTHON chooses the interpreter (CPython 3.11 to 3.13).
PYTHON ?= python3
# How many processes run tests.
WORKERS ?= 3
BIN := .venv/bin
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test coverage soak audit lint format app serve docs clean

help:
	@echo "make demo | test | coverage | soak | audit | app | serve | lint | format | docs | setup | clean"

setup: .venv/.installed

.venv/.installed: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"error: Python 3.11 to 3.13 is needed. Received: {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@

demo: .venv/.installed
	@$(BIN)/python training/fit.py --name demo --overwrite true --evaluation.suite quick --evaluation.curve_samples 20
	@echo
	@echo "Open the app:  make app   (or: $(BIN)/streamlit run app/main.py)"

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(SPREAD)

coverage: .venv/.installed-dev
	$(BIN)/python -m pytest $(SPREAD) --cov --cov-report=term --cov-fail-under=90

# Faults and bad input for 15 minutes and a little more: docs/reliability.md.
soak: .venv/.installed
	$(BIN)/python -m benchmarks.soak

# Needs an index, or a network, that knows of vulnerabilities.
audit:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	"$$folder"/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 && \
	"$$folder"/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt -r requirements-dev.txt \
		-r requirements-docs.txt -r requirements-torch.txt

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.installed-docs: .venv/.installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt -c constraints.txt
	@touch $@

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

app: .venv/.installed
	$(BIN)/streamlit run app/main.py

serve:
	@sh serving/serve.sh

clean:
	rm -rf .venv site
