#!/usr/bin/env bash
# The harness against the raw engines on a CUDA machine, with an 8B-shaped Llama with dummy weights: nothing is downloaded.
#
#   benchmarks/gpu.sh                  # on a CUDA machine: 256 rows of an 8B shape
#   benchmarks/gpu.sh --dry-run        # anywhere: a tiny shape on the CPU, to see that it runs
#
# Needs this repository and torch, transformers and safetensors; vLLM and lm-eval are measured where they are installed.
# Prints a Markdown table: seconds, tokens/s, share of the machine's measured rates, peak memory.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=. exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
