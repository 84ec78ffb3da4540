#!/usr/bin/env bash
# On a CUDA machine, with dummy weights, so that nothing is downloaded: a decoding step from a CUDA graph, then the harness against
# the raw engines and lm-eval, both on an 8B-shaped Llama, then training steps of a 1B-shaped one.
#
#   benchmarks/gpu.sh                  # on a CUDA machine; about 17 minutes on an H200
#   benchmarks/gpu.sh --dry-run        # anywhere: tiny shapes on the CPU, to see that it runs
#   benchmarks/gpu.sh --family vllm    # arguments are those of benchmarks/gpu.py
#
# Needs this repository and torch, transformers and safetensors; vLLM and lm-eval are measured where they are installed.
# Prints Markdown tables: seconds, tokens/s, share of the machine's measured rates, memory.
set -euo pipefail
cd "$(dirname "$0")/.."
dry=()
[ "${1:-}" = --dry-run ] && dry=(--dry-run)
PYTHONPATH=. "${PYTHON:-python3}" benchmarks/decode_graph.py "${dry[@]}"
PYTHONPATH=. "${PYTHON:-python3}" benchmarks/gpu.py "$@"
PYTHONPATH=. "${PYTHON:-python3}" benchmarks/gpu_training.py "${dry[@]}"
