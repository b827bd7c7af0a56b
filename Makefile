# run: the main job on sample_data/ · test: everything that must hold · bench: measurements
# faults: every file operation of the toy pipeline fails in every way, the real one is killed 210 times;
# then all tests again, with examples never tried before
# Needs Python 3.11 with pip, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test faults bench clean

run: $(VENV)/installed
	$(BIN)/simpipe run sample_data/ --config pipelines/baseline.yaml

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not faults"
	$(BIN)/pytest -m faults

faults: $(VENV)/installed-dev
	SIMPIPE_FAULTS=all $(BIN)/pytest -m faults
	HYPOTHESIS_PROFILE=explore $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not faults"

bench: $(VENV)/installed-dev
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.scale
	$(BIN)/python -m tests.benchmarks.intake
	$(BIN)/python -m tests.benchmarks.learning
	$(BIN)/python -m tests.benchmarks.page

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
