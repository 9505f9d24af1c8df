PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-oldest lint bench

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Python 3.11 to 3.13 is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# 160 images for the student, the teacher has seen 1,800; both students train for 48 epochs in all.
DEMO := data.source.train=2000 data.source.test=500 data.size=48 data.fraction=0.08 data.val=200 \
	batch_size=32 teacher=resnet18 teacher.epochs=4 student=resnet10 epochs=8 budget=matched

# 360 images; both students train for 25 epochs in all, the encoder once for both.
DEMO_UNET := data.size=32 batch_size=16 teacher=resnet18 teacher.epochs=12 student=resnet10 \
	schedule=sequential epochs=5

demo: $(READY)
	$(BIN)/cls-kd run -m $(DEMO) method=stagewise,no_teacher out=runs/demo/classifier
	$(BIN)/seg-kd run -m $(DEMO_UNET) decoder=default,matched out=runs/demo/unet
	$(BIN)/cls-kd compare runs/demo/classifier --out runs/demo/classifier-report
	$(BIN)/seg-kd compare runs/demo/unet --out runs/demo/unet-report

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/pytest -m slow

# With the oldest versions of dependencies that pyproject.toml allows.
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python \
		--resolution lowest-direct --editable '.[dev]'
	.venv-oldest/bin/pytest -n 2 --dist loadfile --override-ini filterwarnings=default

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.results
