PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint bench

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

DEMO := data.fraction=0.1 student=resnet10 teacher=resnet18 teacher.epochs=8

demo: $(READY)
	$(BIN)/cls-kd run $(DEMO) method=stagewise epochs=10 out=runs/demo/stagewise
	$(BIN)/cls-kd run $(DEMO) method=no_teacher epochs=60 out=runs/demo/no_teacher
	$(BIN)/cls-kd compare runs/demo/stagewise runs/demo/no_teacher

test: $(READY)
	$(BIN)/pytest

test-slow: $(READY)
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.steps
