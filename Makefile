# Each target makes its own virtual environment and builds what it needs: Python 3.11+, gcc, make.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
CORE := $(wildcard server/forkstormd/core/*.py server/forkstormd/core/*.pxd server/forkstormd/core/*.h)
PROTOS_OUT ?= client
SECONDS ?= 60
CHECKED_DIRS := client server loadtest bench tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build test storm faults fuzz-kernel bench lint protos build-checked build-uncompiled clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

build: $(VENV)/core  ## the virtual environment, with the release core compiled in place

test: build build-checked build-uncompiled  ## all tests; those of the core under its three builds
	$(BIN)/python -m pytest $(ARGS)
	PYTHONPATH=$(CURDIR)/build/checked $(BIN)/python -m pytest tests/core $(ARGS)
	PYTHONPATH=$(CURDIR)/build/uncompiled $(BIN)/python -m pytest tests/core $(ARGS)

storm: build  ## storm a server of its own with forks for two minutes and report
	$(BIN)/forkstorm-storm $(ARGS)

faults: build  ## let forks fail at every VMA, in every way, and look for leaks
	$(BIN)/python -m tests.faults $(ARGS)

fuzz-kernel: build  ## random calls, the core against the running kernel, for SECONDS=60
	$(BIN)/python -m tests.kernel.fuzz --seconds $(SECONDS) $(ARGS)

bench: build $(VENV)/bench  ## measure the figures of docs/benchmarks, in less than five minutes
	PYTHONPATH=bench $(BIN)/python -m forkstorm_bench $(ARGS)

lint: build  ## format, style and types
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy $(CHECKED_DIRS) && $(BIN)/pyright --pythonpath $(BIN)/python

protos: $(VENV)/installed  ## generate client/forkstorm/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(PROTOS_OUT) --pyi_out=$(PROTOS_OUT) --grpc_python_out=$(PROTOS_OUT) protos/forkstorm/v1/*.proto

build-checked: build/checked/built  ## the core that traps at array bounds, in build/checked

build-uncompiled: build/uncompiled/built  ## the core as plain Python, in build/uncompiled

clean:  ## remove everything that was built
	rm -rf build dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info server/forkstormd/core/*.so

# Built with the Cython of this very environment, so that what `pip` compiles stays up to date.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' setuptools cython
	$(BIN)/python -m pip install --quiet --no-build-isolation --group dev --editable '.[loadtest]' && touch $@

# The libraries that the benchmark compares with.
$(VENV)/bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group bench && touch $@

$(VENV)/core: $(VENV)/installed setup.py $(CORE)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2 && touch $@

# From scratch: a module that was renamed must not stay behind.
build/%/built: $(VENV)/installed setup.py $(CORE)
	rm -rf build/$* && FORKSTORM_BUILD=$* $(BIN)/python setup.py --quiet build --build-base build/$*-tmp --build-lib build/$* && touch $@
