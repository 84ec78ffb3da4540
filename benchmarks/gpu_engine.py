"""One engine of ``benchmarks/gpu.py`` in a process of its own, or the model that all of them load; prints a line of JSON.

gpu_engine.py make FOLDER --shape 8b --device cuda
gpu_engine.py "tulu-eval vllm" FOLDER --shape 8b --device cuda --rows 1319 --new-tokens 128 --repeats 3
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import random
import subprocess
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
PEER_BATCH = 64
"""Rows that transformers' own ``generate`` and lm-eval's ``hf`` decode together."""


Prompts = list[list[int]]


class Opened(NamedTuple):
    """An engine with its model loaded.

    Attributes:
        generate: Takes prompts, returns how many tokens it wrote.
        usage: Returns what our backends say of where time went; nothing for others.
        facts: What our engine reports of itself.
    """

    generate: Callable[[Prompts], int]
    usage: Callable[[], dict[str, float]] = dict
    facts: str = ""


def make_model(given: argparse.Namespace) -> dict[str, Any]:
    """Writes a Llama of a shape with random bfloat16 weights, and a tokenizer of words ``t2 t3 ...``, one per token.

    Where they are already, they stay. Returns the name of the device and the rates that it reaches.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tulu_eval.runs.rates import measure_rates

    folder, shape = Path(given.folder), SHAPES[given.shape]
    name = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    found = {"device": name, "rates": dataclasses.asdict(measure_rates(given.device, "bfloat16"))}
    if (folder / "tokenizer.json").exists():
        return found
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(given.device):
        model = LlamaForCausalLM(LlamaConfig(**shape, dtype="bfloat16", bos_token_id=BOS, eos_token_id=EOS))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    vocabulary = {"<eos>": EOS, "<bos>": BOS, **{f"t{number}": number for number in range(2, shape["vocab_size"])}}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", bos_token="<bos>").save_pretrained(folder)
    return found


def make_prompts(rows: int, vocabulary: int, seed: int) -> Prompts:
    """Returns prompts of GSM8K's shape: one random prefix, random rest."""
    draw = random.Random(seed)
    prefix = [BOS, *(draw.randrange(2, vocabulary) for _ in range(PREFIX - 1))]
    return [prefix + [draw.randrange(2, vocabulary) for _ in range(draw.randint(*OWN))] for _ in range(rows)]


def open_tulu_eval(backend: str, given: argparse.Namespace) -> Opened:
    """Opens one of this package's backends."""
    from tulu_eval.backends.base import Backend, EngineSettings
    from tulu_eval.backends.hf.backend import TransformersBackend
    from tulu_eval.backends.vllm.backend import VllmBackend
    from tulu_eval.models import model_files
    from tulu_eval.records import Decoding, Request

    model = model_files.from_path(Path(given.folder))
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


def main() -> None:
    """Makes the model, or measures the engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", help="'make', or an engine's name")
    parser.add_argument("folder")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--new-tokens", type=int)
    parser.add_argument("--repeats", type=int)
    given = parser.parse_args()
    found = make_model(given) if given.engine == "make" else measure(given)
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
