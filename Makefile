# make sample: the first picture. make test: the whole suite. Both make what they need.
# With CPU=1, PyTorch comes in its build without GPUs, which is a fraction of the other.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip install --disable-pip-version-check
PIP += $(if $(filter-out 0,$(CPU)),--extra-index-url $(CPU_INDEX))
export PROMPT ?= red apple

.PHONY: sample test quick lint benchmark docs clean

sample: $(VENV)/installed
	$(BIN)/python clip_sample.py "$$PROMPT" --model emoji_64 --seed 0

# The full-size models one after another, for their memory: up to 10 GB each.
test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -n 2 -m "not slow"
	$(BIN)/python -m pytest -m slow

quick: $(VENV)/installed-tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/installed
	$(BIN)/python -m benchmark

# The page of options, from their table.
docs: $(VENV)/installed
	$(BIN)/python -m docs.options > docs/options.md

clean:
	rm -rf $(VENV)

# pip is asked again whenever a list of requirements changes.
$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/installed-tests: tests/requirements.txt $(VENV)/installed
	$(PIP) -r tests/requirements.txt
	touch $@
