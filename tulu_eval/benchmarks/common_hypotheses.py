"""The hypotheses on any benchmark that generates texts: template, tokens in front, limit, stops, sampling, engine, counting.

Threads are those of the public repositories of that name, e.g. EleutherAI/lm-evaluation-harness for ``lm-eval``. A hypothesis
that changes nothing of a recipe, such as a limit that it has already, is not tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from tulu_eval.benchmarks.base import Item, Prompt, Protocol
from tulu_eval.benchmarks.hypothesis import (
    Hypothesis,
    OtherCount,
    OtherDecoding,
    OtherEngine,
    OtherItems,
    OtherPrompt,
    OtherScorer,
    OtherWriting,
    Shortest,
    Uncut,
)
from tulu_eval.records import Grade, Turn

LIMITS = {
    256: ("lm-eval#1799: 'we default to 256 generated tokens'", 3.0),
    512: ("open-instruct, eval/gsm/run_eval.py", 1.0),
    1024: ("lighteval, SmolLM2's tasks.py", 0.5),
    2048: ("open-instruct, eval/ifeval/run_eval.py", 0.5),
}
"""Limits of new tokens with their sources and weights."""

STOPS: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    ("stop-none", (), "open-instruct @ea3467db, chat format: stop=None", 1.0),
    ("stop-newline", ("\n",), "open-instruct @ea3467db, run_eval.py without --use_chat_format", 2.0),
    ("stop-blank-line", ("\n\n",), "olmes @b532dd59, gsm8k of base models", 1.0),
    ("stop-question", ("Question:",), "lighteval @ea46419a and olmes @b532dd59, gsm8k", 1.0),
    ("stop-equals", ("=",), "lighteval#649: 0.0015 instead of 0.69", 1.0),
)
"""Stop strings by name, each list whole, with sources and weights."""

SYSTEM = "You are a helpful assistant."

TEMPLATE_SOURCE = "lm-eval#1098, #1841; open-instruct PR#259: MMLU 67 to 41 by the chat format alone"


def common(protocol: Protocol) -> tuple[Hypothesis, ...]:
    """Returns the hypotheses on a protocol that hold for any benchmark."""
    return (*_decoding(), *_prompts(), *_engines(), *_counts(protocol))


def scorers(found: Iterable[tuple[str, Callable[[str, str], Grade], str]]) -> tuple[Hypothesis, ...]:
    """Returns a hypothesis per scorer, of its name, its function of right answer and text, and its source."""
    return tuple(
        Hypothesis(f"by-{name}", "scorer", name, source, OtherScorer(name, grade), weight=2.0) for name, grade, source in found
    )


def _decoding() -> tuple[Hypothesis, ...]:
    limits = [
        Hypothesis(f"limit-{size}", "limit of new tokens", str(size), source, OtherDecoding(size), weight=weight)
        for size, (source, weight) in LIMITS.items()
    ]
    stops = [
        Hypothesis(name, "stop strings", shown(strings), source, OtherDecoding(stop=strings), weight=weight)
        for name, strings, source, weight in STOPS
    ]
    vllm = "vLLM takes temperature and top_p from a model's generation_config unless told not to (--generation-config)"
    return (
        *limits,
        *stops,
        Hypothesis(
            "sampled-0.6",
            "sampling",
            "temperature 0.6, top_p 0.9",
            f"{vllm}; Llama 3's",
            OtherDecoding(temperature=0.6, top_p=0.9),
        ),
        Hypothesis(
            "sampled-1.0",
            "sampling",
            "temperature 1",
            "transformers' and most servers' default",
            OtherDecoding(temperature=1.0),
        ),
    )


def _prompts() -> tuple[Hypothesis, ...]:
    bos = "Ukrainian LLM leaderboard #5; retaining-by-doing #5: 6 points of MMLU"
    turns = "lm-eval#1873: --fewshot_as_multiturn 'tends to result in lower scores'; #2034"
    return (
        Hypothesis("no-template", "chat template", "none", TEMPLATE_SOURCE, OtherWriting("plain"), weight=4.0),
        Hypothesis(
            "tulu-template", "chat template", "tulu", "allenai/tulu-2 and EasyLM's models", OtherWriting("tulu"), weight=2.0
        ),
        Hypothesis(
            "no-bos",
            "tokens in front",
            "no BOS",
            "apply_chat_template(tokenize=True) of a template without one",
            OtherWriting("no-bos"),
            "one BOS",
        ),
        Hypothesis(
            "more-bos", "tokens in front", "one BOS more", bos, OtherWriting("more-bos"), "as the tokenizer has it", 2.0
        ),
        Hypothesis(
            "system-prompt",
            "system prompt",
            f"'{SYSTEM}'",
            "default of many servers and of FastChat's templates",
            OtherPrompt(_with_system),
            "none",
        ),
        Hypothesis(
            "no-prefill",
            "start of the answer",
            "nothing",
            "lm-eval and lighteval start no answer",
            OtherPrompt(_without_prefill),
            "given",
            2.0,
        ),
        Hypothesis("one-turn", "examples", "all in one turn", turns, OtherPrompt(_one_turn), "a turn each", 2.0),
    )


def _engines() -> tuple[Hypothesis, ...]:
    return (
        *(
            Hypothesis(
                dtype, "dtype", dtype, "opencompass#1097, vLLM's numerics: single items flip", OtherEngine(dtype), weight=0.3
            )
            for dtype in ("bfloat16", "float16", "float32")
        ),
        *(
            Hypothesis(
                f"by-{name}", "engine", name, "open-instruct@ea3467db pins no vLLM", OtherEngine(backend=name), weight=0.3
            )
            for name in ("transformers", "vllm")
        ),
        Hypothesis(
            "fp8", "quantisation", "fp8", "served models are often quantised", OtherEngine(quantization="fp8"), "none", 0.5
        ),
    )


def _counts(protocol: Protocol) -> tuple[Hypothesis, ...]:
    whole = "all of the protocol"
    found = [
        Hypothesis(
            "truncated-wrong",
            "answers cut at the limit",
            "counted as wrong",
            "harnesses that grade finished answers",
            OtherCount(("truncated",), "wrong"),
            "graded",
        ),
        Hypothesis(
            "truncated-left-out",
            "answers cut at the limit",
            "left out",
            "runs filtered by finish_reason",
            OtherCount(("truncated",), "left out"),
            "graded",
        ),
        Hypothesis(
            "no-answer-left-out",
            "answers without an extracted one",
            "left out",
            "alpaca_eval and others filter what they cannot read",
            OtherCount(("no_answer", "empty"), "left out"),
            "wrong",
        ),
        Hypothesis("first-items", "items", "the first", "--limit of every harness", OtherItems(_first), whole),
        Hypothesis("last-items", "items", "the last", "a cut from the other end", OtherItems(_last), whole, 0.3),
        Hypothesis(
            "unfinished",
            "items",
            "the shortest answers",
            "a run that was stopped: short answers finish first",
            Shortest(),
            whole,
        ),
    ]
    if protocol.reasoning is not None:
        found.append(
            Hypothesis(
                "reasoning-left-in", "block of reasoning", "graded too", "lm-eval without think_end_token", Uncut(), "cut", 2.0
            )
        )
    return tuple(found)


def shown(stops: Sequence[str]) -> str:
    """Returns stop strings in words."""
    return ", ".join(map(repr, stops)) or "none"


def _first(ids: Sequence[str], n: int) -> Sequence[str] | None:
    return ids[:n] if n < len(ids) else None


def _last(ids: Sequence[str], n: int) -> Sequence[str] | None:
    return ids[-n:] if n < len(ids) else None


def _with_system(prompt: Prompt, item: Item) -> Prompt:
    if any(turn.role == "system" for turn in prompt.earlier):
        return prompt
    return dataclasses.replace(prompt, earlier=(Turn("system", SYSTEM), *prompt.earlier))


def _without_prefill(prompt: Prompt, item: Item) -> Prompt:
    plain = prompt.plain.removesuffix(prompt.prefill).rstrip(" ") if prompt.prefill else prompt.plain
    return dataclasses.replace(prompt, prefill="", plain=plain)


def _one_turn(prompt: Prompt, item: Item) -> Prompt:
    """Returns a prompt whose examples stand in the user's turn, as lm-eval has them: question, space, answer, blank line."""
    system = tuple(turn for turn in prompt.earlier if turn.role == "system")
    turns = [turn.content for turn in prompt.earlier if turn.role != "system"]
    shots = [f"{asked} {answer.strip()}\n\n" for asked, answer in zip(turns[::2], turns[1::2], strict=False)]
    return dataclasses.replace(prompt, user="".join(shots) + prompt.user, earlier=system)
