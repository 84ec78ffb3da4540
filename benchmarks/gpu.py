"""Generation speed on an accelerator with dummy weights: this harness, the raw engines under it, and lm-eval.

Started by ``benchmarks/gpu.sh``. The workload is GSM8K's 8-shot shape: a prefix of 742 tokens that all prompts share, about 90
tokens of their own, greedy. Every engine is a process of its own, in turn; weights are made once in a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPES = {
    "8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 512, "max_position_embeddings": 8192,
    },
}  # fmt: skip
"""``8b`` is Llama 3 8B's config.json."""

PREFIX, OWN, EOS = 742, (60, 120), 0
ENGINES = ("tulu-eval transformers", "transformers generate", "lm-eval hf", "tulu-eval vllm", "vllm LLM.generate")
NEEDS = {"lm-eval hf": "lm_eval", "tulu-eval vllm": "vllm", "vllm LLM.generate": "vllm"}


def make_model(folder: Path, shape: str, device: str) -> None:
    """Writes a Llama of a shape with random bfloat16 weights, and a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], dtype="bfloat16", bos_token_id=1, eos_token_id=EOS)).bfloat16()
    model.save_pretrained(folder, max_shard_size="4GB")
    vocabulary = {"<eos>": EOS, "<bos>": 1, **{f"t{number}": number for number in range(2, SHAPES[shape]["vocab_size"])}}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    raw.decoder = decoders.WordPiece()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", bos_token="<bos>").save_pretrained(folder)


def make_prompts(rows: int, vocabulary: int) -> list[list[int]]:
    """Returns prompts of GSM8K's shape: one random prefix, random rest."""
    draw = random.Random(0)
    prefix = [1, *(draw.randrange(2, vocabulary) for _ in range(PREFIX - 1))]
    return [prefix + [draw.randrange(2, vocabulary) for _ in range(draw.randint(*OWN))] for _ in range(rows)]


def run_tulu_eval(backend: str, folder: Path, prompts: list[list[int]], new: int, device: str) -> dict[str, Any]:
    """One of this package's backends."""
    from tulu_eval.backends import loading
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.records import Decoding, Request
    from tulu_eval.runs.catalog import backend as find

    model, settings = loading.from_path(folder), EngineSettings(device=device if backend == "transformers" else "auto")
    requests = [Request(f"{number:064x}", tuple(ids), "") for number, ids in enumerate(prompts)]
    engine_class = find(backend)
    engine_class.check(model, settings)
    began = time.perf_counter()
    with engine_class.load(model, settings, (EOS,), max(map(len, prompts)) + new) as engine:
        loaded = time.perf_counter()
        done = list(engine.generate(requests, Decoding(new)))
        usage = engine.usage()
        return {
            "load": loaded - began,
            "seconds": time.perf_counter() - loaded,
            "tokens": sum(len(one.token_ids) for one in done),
            "parameters": model.parameters,
            "usage": dataclasses.asdict(usage) if usage else None,
        }


def run_generate(folder: Path, prompts: list[list[int]], new: int, device: str, batch: int = 64) -> dict[str, Any]:
    """Plain ``generate`` of transformers in padded batches, longest first."""
    import torch
    from transformers import AutoModelForCausalLM

    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    loaded, tokens = time.perf_counter(), 0
    ordered = sorted(prompts, key=len, reverse=True)
    for start in range(0, len(ordered), batch):
        group = ordered[start : start + batch]
        width = max(map(len, group))
        ids = torch.tensor([[EOS] * (width - len(row)) + row for row in group], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in group], device=device)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=EOS, pad_token_id=EOS
            )
        tokens += sum(int((row == EOS).int().argmax()) + 1 if (row == EOS).any() else len(row) for row in out[:, width:])
    return {"load": loaded - began, "seconds": time.perf_counter() - loaded, "tokens": tokens}


def run_lm_eval(folder: Path, prompts: list[list[int]], new: int, device: str) -> dict[str, Any]:
    """lm-eval's ``hf`` model, asked through its own interface for the same token ids."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    began = time.perf_counter()
    model = HFLM(str(folder), dtype="bfloat16", batch_size=64, device=device, max_length=8192)
    texts = [" ".join(f"t{token}" for token in ids[1:]) for ids in prompts]
    model.tok_encode = lambda text, **_: [int(word[1:]) for word in text.split()]
    loaded = time.perf_counter()
    options = {"until": ["<eos>"], "max_gen_toks": new, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, dict(options)), number) for number, text in enumerate(texts)]
    answers = model.generate_until(asked)
    return {
        "load": loaded - began,
        "seconds": time.perf_counter() - loaded,
        "tokens": sum(len(answer.split()) for answer in answers),
    }


def run_vllm(folder: Path, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """Asks ``LLM.generate`` of vLLM itself on the same token ids."""
    from vllm import LLM, SamplingParams

    began = time.perf_counter()
    engine = LLM(str(folder), dtype="bfloat16", max_model_len=max(map(len, prompts)) + new, generation_config="vllm")
    loaded = time.perf_counter()
    sampling = SamplingParams(temperature=0.0, max_tokens=new, detokenize=False, ignore_eos=True, stop_token_ids=[EOS])
    done = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
    tokens = sum(len(one.outputs[0].token_ids) for one in done)
    return {"load": loaded - began, "seconds": time.perf_counter() - loaded, "tokens": tokens}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs one engine in this process."""
    import torch

    prompts = make_prompts(given.rows, SHAPES[given.shape]["vocab_size"])
    folder, new, device = Path(given.folder), given.new_tokens, given.device
    match given.engine:
        case "tulu-eval transformers":
            found = run_tulu_eval("transformers", folder, prompts, new, device)
        case "tulu-eval vllm":
            found = run_tulu_eval("vllm", folder, prompts, new, device)
        case "transformers generate":
            found = run_generate(folder, prompts, new, device)
        case "lm-eval hf":
            found = run_lm_eval(folder, prompts, new, device)
        case _:
            found = run_vllm(folder, prompts, new)
    if device == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated()
    return found


def in_child(given: argparse.Namespace, engine: str, folder: str) -> dict[str, Any]:
    """Runs one engine in a process of its own; returns what it measured, or why there is nothing."""
    words = ["--engine", engine, "--folder", folder, "--shape", given.shape, "--device", given.device]
    words += ["--rows", str(given.rows), "--new-tokens", str(given.new_tokens)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def share(found: dict[str, Any], device: str) -> str:
    """Returns prefill's share of the matrix rate and decoding's share of the memory rate, both measured here."""
    from tulu_eval.runs.estimate import measure_rates

    usage = found.get("usage")
    if not usage:
        return "-"
    rates, parameters = measure_rates(device, "bfloat16"), found["parameters"]
    matrix = 2 * parameters * usage["prefill_tokens"] / usage["prefill_seconds"] / rates.flops
    memory = usage["decode_steps"] * parameters * 2 / max(usage["decode_seconds"], 1e-9) / rates.bytes
    return f"{100 * matrix:.0f} % of {rates.flops / 1e12:.0f} TFLOP/s; {100 * memory:.0f} % of {rates.bytes / 1e9:.0f} GB/s"


def main() -> None:
    """Measures every engine that is here and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny shape, CPU, 8 rows of 8 tokens, once")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dry_run:
        given.rows, given.new_tokens, given.repeats, given.shape, given.device = 8, 8, 1, "tiny", "cpu"
    if given.engine:
        print(json.dumps(measure(given)))
        return
    import torch

    name = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}, {given.shape} shape, {given.rows} rows, up to {given.new_tokens} new tokens\n")
    print("| engine | start, s | seconds (min-max) | new tok/s | share of the machine | peak memory, GiB |")
    print("|---|---:|---:|---:|---|---:|")
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), given.shape, given.device)
        for engine in ENGINES:
            if engine in NEEDS and importlib.util.find_spec(NEEDS[engine]) is None:
                print(f"| {engine} | {NEEDS[engine]} is not installed | | | | |")
                continue
            runs = [in_child(given, engine, folder) for _ in range(given.repeats)]
            if errors := [run["error"] for run in runs if "error" in run]:
                print(f"| {engine} | failed: {errors[0]} | | | | |")
                continue
            seconds = [run["seconds"] for run in runs]
            middle = statistics.median(seconds)
            memory = f"{runs[0]['memory'] / 2**30:.1f}" if runs[0].get("memory") else "-"
            print(
                f"| {engine} | {statistics.median(run['load'] for run in runs):.1f} | {middle:.1f} "
                f"({min(seconds):.1f}-{max(seconds):.1f}) | {runs[0]['tokens'] / middle:.0f} | {share(runs[0], given.device)} "
                f"| {memory} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
