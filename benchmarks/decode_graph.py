"""A decoding step of the transformers backend as it is, and replayed from a CUDA graph: milliseconds, and the tokens of both.

On an H200 a step of 256 rows of an 8B shape takes 29 ms, most of it waiting for the host to launch kernels; by arithmetic it
would take 5. A graph launches all of them at once. It needs tensors at fixed places and of fixed shapes, so a step has as many
rows as the batch (the rest repeat one token in a slot of their own), and the visible part of the own keys grows by 128 tokens,
with a graph for each. Weights are random, prompts are of GSM8K's shape.

    python benchmarks/decode_graph.py              # on a CUDA machine; needs 40 GiB of its memory
    python benchmarks/decode_graph.py --dry-run    # anywhere: a tiny shape on the CPU, where nothing is captured

It prints a table; the target is 12 ms, with the same tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from gpu_engine import BOS, EOS, SHAPES, make_prompts
from torch import Tensor

from tulu_eval.backends.hf.shared_prefix import ATTENTION, RowsPlan, SharedPrefixDecoder, attention

VISIBLE = 128
"""Own tokens by which a graph's visible part grows."""

Step = Callable[[Sequence[int], Sequence[int]], list[int]]
"""Takes each row's newest token and number of stored own tokens, and returns each row's next token."""


class Workload(NamedTuple):
    """What is decoded.

    Attributes:
        prefix: Tokens that all prompts share.
        suffixes: The other tokens of each prompt.
        new_tokens: Tokens that each row gets.
    """

    prefix: list[int]
    suffixes: list[list[int]]
    new_tokens: int


class Decoded(NamedTuple):
    """Tokens of each row, seconds of each step, and seconds of each step in which a graph was captured first."""

    tokens: list[list[int]]
    seconds: list[float]
    capturing: list[float]


class StaticStep:
    """A step of fixed shapes for a number of rows and of visible own tokens; a CUDA graph where there is CUDA."""

    def __init__(self, decoder: SharedPrefixDecoder, prefix: int, rows: int, visible: int, device: str) -> None:
        self._decoder, self._prefix, self._rows, self._visible = decoder, prefix, rows, visible
        self._given = torch.zeros(3, rows, dtype=torch.long, device=device)
        self._given[2] = torch.arange(rows, device=device) * decoder.store.capacity
        self._graph: Any = None
        if device == "cuda":
            aside = torch.cuda.Stream()
            with torch.cuda.stream(aside):  # kernels are chosen and loaded before the capture
                for _ in range(3):
                    self._chosen = self._forward()
            torch.cuda.current_stream().wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._chosen = self._forward()

    def _forward(self) -> Tensor:
        tokens, lengths, places = self._given
        unseen = torch.arange(self._visible, device=tokens.device)[None] > lengths[:, None]
        mask = torch.zeros(unseen.shape, dtype=torch.bfloat16, device=tokens.device).masked_fill_(unseen, -torch.inf)
        plan = RowsPlan(self._decoder.store, slice(0, self._rows), places, mask[:, None, None])
        return self._decoder.forward(tokens, lengths + self._prefix, plan, 0).argmax(-1)

    def __call__(self, tokens: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Decodes a token per row; slots without a row get a token that nobody reads."""
        capacity = self._decoder.store.capacity
        places = [slot * capacity + length for slot, length in enumerate(lengths)]
        self._given[:, : len(tokens)].copy_(torch.tensor([tokens, lengths, places]))
        if self._graph is None:
            self._chosen = self._forward()
        else:
            self._graph.replay()
        return self._chosen.tolist()[: len(tokens)]


class Eager:
    """The backend's own step."""

    def __init__(self, decoder: SharedPrefixDecoder, *_: Any) -> None:
        self._decoder = decoder
        self.captures = 0

    def __call__(self, tokens: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Decodes a token per row."""
        chosen: list[int] = self._decoder.step(tokens, lengths).argmax(-1).tolist()
        return chosen


class Graphed:
    """Steps of fixed shapes, made when they are first needed."""

    def __init__(self, decoder: SharedPrefixDecoder, prefix: int, rows: int, device: str) -> None:
        self._made: dict[int, StaticStep] = {}
        self._how = (decoder, prefix, rows)
        self._device = device
        self.captures = 0

    def __call__(self, tokens: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Decodes a token per row."""
        capacity = self._how[0].store.capacity
        visible = min(-(-(max(lengths) + 1) // VISIBLE) * VISIBLE, capacity)
        if visible not in self._made:
            self._made[visible] = StaticStep(*self._how, visible, self._device)
            self.captures += 1
        return self._made[visible](tokens, lengths)


def decode(model: Any, work: Workload, way: type[Eager] | type[Graphed], device: str) -> Decoded:
    """Returns the greedy tokens of all rows, decoded in one way."""
    capacity = max(map(len, work.suffixes)) + work.new_tokens
    decoder = SharedPrefixDecoder(model, work.prefix, len(work.suffixes), capacity)
    newest: list[int] = []
    for start in range(0, len(work.suffixes), 32):
        newest += decoder.admit(start, work.suffixes[start : start + 32]).argmax(-1).tolist()
    step = way(decoder, len(work.prefix), len(work.suffixes), device)
    found = Decoded([[token] for token in newest], [], [])
    for at in range(work.new_tokens - 1):
        captures, began = step.captures, time.perf_counter()
        newest = step(newest, [len(suffix) + at for suffix in work.suffixes])
        (found.seconds if step.captures == captures else found.capturing).append(time.perf_counter() - began)
        for row, token in zip(found.tokens, newest, strict=True):
            row.append(token)
    return found


def make_model(shape: str, device: str) -> Any:
    """Returns a Llama of a shape with random bfloat16 weights and the shared-prefix attention."""
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    AttentionInterface.register(ATTENTION, attention)
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], dtype="bfloat16", bos_token_id=BOS, eos_token_id=EOS)
    config._attn_implementation = ATTENTION
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model.eval()


def main() -> None:
    """Decodes in both ways and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=160)
    parser.add_argument("--dry-run", action="store_true", help="a tiny shape on the CPU")
    given = parser.parse_args()
    shape, device = ("tiny", "cpu") if given.dry_run else ("8b", "cuda")
    if given.dry_run:
        given.rows, given.new_tokens = 5, 40
    prompts = make_prompts(given.rows, SHAPES[shape]["vocab_size"], seed=1)
    shared = next(at for at, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    work = Workload(prompts[0][:shared], [prompt[shared:] for prompt in prompts], given.new_tokens)
    model = make_model(shape, device)
    decode(model, work._replace(new_tokens=4), Eager, device)  # kernels are loaded
    print("| step | ms, median (min–max) | steps with a capture | ms of these | rows with the same tokens |")
    print("|---|---|---|---|---|")
    eager = decode(model, work, Eager, device)
    for name, found in (("as it is", eager), ("from a graph", decode(model, work, Graphed, device))):
        milliseconds = [1000 * one for one in found.seconds]
        spread = f"{statistics.median(milliseconds):.2f} ({min(milliseconds):.2f}–{max(milliseconds):.2f})"
        captured = f"{1000 * statistics.fmean(found.capturing):.0f}" if found.capturing else "-"
        same = sum(one == other for one, other in zip(found.tokens, eager.tokens, strict=True))
        print(f"| {name} | {spread} | {len(found.capturing)} | {captured} | {same} of {len(eager.tokens)} |")


if __name__ == "__main__":
    main()
