"""Watches a policy during training: a few rollouts, and a fixed probe of a benchmark with the gain since the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tulu_eval.benchmarks.base import Benchmark, Item
from tulu_eval.errors import PreflightError
from tulu_eval.models.tokenizer import PromptWriter
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.runs import template_date
from tulu_eval.stats import mcnemar, paired_difference, paired_items, wilson
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import Rollout, RolloutEngine
from tulu_eval.training.watching import metrics

SHOWN = 4
"""Number of rollouts to show per step."""

WIDTH = 60
"""Number of characters to show of a prompt's end and of an answer's beginning."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """Items that a policy answers repeatedly, with the prompt and decoding of the benchmark's default protocol."""

    benchmark: Benchmark
    items: tuple[Item, ...]
    requests: tuple[Request, ...]
    decoding: Decoding


def make_probe(benchmark: Benchmark, items: int, data: Path | None, tokenizer: Any, context: int) -> Probe:
    """Returns the first items of a benchmark's default protocol as a probe.

    ``data`` is ``None`` for the benchmark's own source; ``context`` is the policy's positions, 0 if unknown.

    Raises:
        UserError: If the data is not available, a prompt leaves no room for an answer, or the benchmark is not graded by one
            generated text per item.
    """
    protocol = benchmark.protocol(None)
    if benchmark.kind != "generate" or benchmark.executes or protocol.samples > 1:
        raise PreflightError(f"--probe {benchmark.name}: a probe takes a benchmark that is graded by one text per item")
    chosen = tuple(benchmark.load(protocol, data)[:items])
    writer = PromptWriter(tokenizer, "the policy", tulu=True)
    names = [f"item {item.id}" for item in chosen]
    texts = writer.texts([benchmark.render(item) for item in chosen], names, template_date.today())
    ids = writer.encode(texts, names)
    room = (context or 1 << 31) - max(map(len, ids))
    if room < 1:
        raise PreflightError(
            f"the probe's longest prompt has {max(map(len, ids))} tokens, and the policy has {context} positions"
        )
    decoding = dataclasses.replace(protocol.decoding, max_new_tokens=min(protocol.decoding.max_new_tokens, room))
    requests = tuple(Request(f"probe-{place}", own, text) for place, (own, text) in enumerate(zip(ids, texts, strict=True)))
    return Probe(benchmark, chosen, requests, decoding)


class Watch:
    """Writes and shows rollouts and the probe every few steps.

    Args:
        tokenizer: The policy's tokenizer.
        every: Number of steps between two looks.
        probe: The probe; ``None`` for rollouts only.
        say: Called with texts for people, on the first rank.
    """

    def __init__(
        self, folder: Path, ranks: Ranks, tokenizer: Any, every: int, probe: Probe | None, say: Callable[[str], None]
    ) -> None:
        self._folder, self._ranks, self._tokenizer = folder, ranks, tokenizer
        self._every, self._probe, self._say = every, probe, say

    def due(self, step: int) -> bool:
        """Whether a look is due before a step."""
        return step % self._every == 0

    def rollouts(self, step: int, rollouts: Sequence[Rollout], score: Tensor, kl: Tensor) -> None:
        """Writes and shows the first rollouts of a step if a look is due. ``score`` and ``kl`` (in nats) have shape [rows]."""
        if not self.due(step) or not self._ranks.first:
            return
        seen = []
        for rollout, its_score, its_kl in zip(rollouts[:SHOWN], score.tolist(), kl.tolist(), strict=False):
            ids, mask = rollout.tokens.ids, rollout.tokens.mask
            prompt, answer = (self._tokenizer.decode(ids[part].tolist(), skip_special_tokens=True) for part in (~mask, mask))
            one = {"prompt": prompt, "answer": answer, "score": its_score, "kl": its_kl}
            seen.append({**one, "ended": rollout.finished, "tokens": int(mask.sum())})
        metrics.append(self._folder / metrics.SAMPLES, step, {"samples": seen})
        self._say(as_table(step, seen))

    def ask(self, step: int, engine: RolloutEngine) -> None:
        """Asks a policy after ``step`` steps the probe, writes the result and shows the gain; does nothing without a probe."""
        probe = self._probe
        if probe is None:
            return
        right = torch.zeros(len(probe.items), device=self._ranks.device)
        mine = self._ranks.share(probe.requests)
        places = {request.key: place for place, request in enumerate(probe.requests)}
        for completion in engine.generate(mine, probe.decoding):
            place = places[completion.key]
            right[place] = float(probe.benchmark.grade(probe.items[place].target, self._text(completion))[0].score == 1.0)
        flags = [int(flag) for flag in self._ranks.sum(right).tolist()]
        if not self._ranks.first:
            return
        before = metrics.read(self._folder / metrics.PROBE) if step else []
        line = gain(probe.benchmark.name, before[0]["right"] if before else flags, flags)
        metrics.append(self._folder / metrics.PROBE, step, line)
        self._say(probe_as_text(step, line))

    def _text(self, completion: Completion) -> str:
        text = completion.text or str(self._tokenizer.decode(list(completion.token_ids), skip_special_tokens=True))
        assert self._probe is not None  # noqa: S101 - only asked where there is one
        return min((text.split(stop)[0] for stop in self._probe.decoding.stop), key=len, default=text)


def gain(benchmark: str, start: Sequence[int], now: Sequence[int]) -> dict[str, Any]:
    """Returns a line of ``probe.jsonl``: the share of right answers, and the paired gain since the start.

    ``start`` and ``now`` have 1 or 0 per item: whether the answer was right.
    """
    n = len(now)
    better = sum(b > a for a, b in zip(start, now, strict=True))
    worse = sum(a > b for a, b in zip(start, now, strict=True))
    share, paired = wilson(sum(now), n), paired_difference(better, worse, n)
    return {
        "benchmark": benchmark,
        "n": n,
        "right": list(now),
        "value": 100 * sum(now) / n,
        "low": 100 * share.low,
        "high": 100 * share.high,
        "gain": 100 * (better - worse) / n,
        "gain_low": 100 * paired.low,
        "gain_high": 100 * paired.high,
        "p_value": mcnemar(better, worse),
        "items_needed": paired_items((better - worse) / n, (better + worse) / n) if better != worse else None,
    }


def probe_as_text(step: int, line: dict[str, Any]) -> str:
    """Returns a line of ``probe.jsonl`` for people."""
    share = f"{line['value']:.1f} [{line['low']:.1f}, {line['high']:.1f}], n = {line['n']}"
    text = f"after {step} steps, {line['benchmark']}: {share}"
    if step == 0:
        return text
    text += f"; gain {line['gain']:+.1f} [{line['gain_low']:+.1f}, {line['gain_high']:+.1f}]"
    needed = line["items_needed"]
    return text + (f"; a gain of this size takes {needed:,} items to show" if needed and line["p_value"] >= 0.05 else "")


def as_table(step: int, samples: Sequence[dict[str, Any]]) -> str:
    """Returns sample rollouts as a table."""
    from tabulate import tabulate

    rows = [
        (
            f"{one['score']:.2f}",
            f"{one['kl']:.2f}",
            one["tokens"],
            "yes" if one["ended"] else "no",
            _short(one["prompt"], last=True),
            _short(one["answer"], last=False),
        )
        for one in samples
    ]
    table = tabulate(rows, ("score", "KL", "tokens", "ended", "prompt", "answer"), disable_numparse=True)
    return f"rollouts of step {step + 1}\n{table}"


def _short(text: str, *, last: bool) -> str:
    flat = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    if len(flat) <= WIDTH:
        return flat
    return "..." + flat[3 - WIDTH :] if last else flat[: WIDTH - 3] + "..."
