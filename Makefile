# Every target creates or reuses .venv by itself; uv installs what the lock-step constraints name.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread: the models here are tiny, and spinning threads of several processes starve one another.
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.PHONY: help demo test lint format bench soak test-gpu test-js up docs clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: $(STAMP) ## play, train, promote: the whole loop on this machine
	$(BIN)/tunestream demo $(ARGS)

# Three at a time on two cores: half of a test is waiting. tests/conftest.py says which tests share a process.
test: $(STAMP) ## everything that must hold, on a real Kafka
	$(BIN)/python -m pytest -m 'not soak and not gpu and not bench' -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## style, types, layers, prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.prose

format: $(STAMP) ## write the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## the numbers of docs/performance.md
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(STAMP) ## long chaos
	$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

test-gpu: $(STAMP) ## a real model on a CUDA GPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-js: $(STAMP) ## the agent in JavaScript, where node and npm are installed
	$(BIN)/python -m pytest -rs tests/integration/services/test_javascript.py $(ARGS)

up: $(STAMP) ## the broker and all services
	$(BIN)/tunestream up $(ARGS)

docs: $(STAMP) ## write docs/wire and the tables of docs/ from the code
	$(BIN)/python -m tools.docs $(ARGS)

clean: ## remove what runs left behind, not the environment
	rm -rf .tunestream .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
