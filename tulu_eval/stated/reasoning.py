"""Cuts a completion down to the model's answer: without its reasoning, and without questions that it asks itself afterwards."""

from __future__ import annotations

import re
from collections import Counter

_NAMES = "think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad"
_TAG = re.compile(
    rf"<(?P<close>/?)(?:seed:)?(?P<name>{_NAMES})(?:\s[^<>]{{0,100}})?>|\[(?P<slash>/?)THINK\]"
    r"|<\|(?:begin|(?P<end>end))_of_thought\|>|◁(?P<stroke>/?)think▷",
    re.IGNORECASE,
)
"""``<think>`` of DeepSeek-R1 and Qwen3, ``[THINK]`` of Magistral, ``<|begin_of_thought|>`` of Sky-T1, ``◁think▷`` of Kimi, and
their relatives."""

_ANALYSIS = re.compile(r"\A\s*+(?:<\|start\|>assistant)?(?:<\|channel\|>)?analysis(?=[A-Za-z<])")
_FINAL = ("<|channel|>final<|message|>", "assistantfinal")
"""The start of gpt-oss's answer, with and without special tokens (sgl-project/sglang pull request 9190)."""

_NEXT = re.compile(r"\A[*#>_ ]*+(?:Question(?: \d{1,4})?[*_ ]{0,4}:|Q:)")
"""The start of a line on which a model asks itself the next question."""

_TURN = re.compile(r"<\|[A-Za-z_]{1,30}\|>|</s>")
"""Marks of a turn's start or end, which some engines leave in the text."""

_OPENING = re.compile(rf"\A\s*+(?:(?:{_TURN.pattern})\s*+)++")


def without_reasoning(text: str) -> str:
    """Returns a text without its reasoning blocks, which may be nested.

    A closing tag without an opening tag ends a block that the prompt opened, so the function removes everything before it. If a
    block is never closed, the result is empty, because the model never came to its answer.
    """
    if _ANALYSIS.match(text):
        end = max(text.rfind(mark) + len(mark) if mark in text else -1 for mark in _FINAL)
        text = text[end:] if end >= 0 else ""
    kept: list[str] = []
    open_tags: list[str] = []
    counts: Counter[str] = Counter()
    start = 0
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower()
        if not (tag["close"] or tag["slash"] or tag["end"] or tag["stroke"]):
            if not open_tags:
                kept.append(text[start : tag.start()])
            open_tags.append(name)
            counts[name] += 1
        elif counts[name]:
            last = None
            while last != name:
                last = open_tags.pop()
                counts[last] -= 1
        else:
            open_tags.clear()
            counts.clear()
            kept.clear()
        start = tag.end()
    return "" if open_tags else "".join((*kept, text[start:]))


def before_next_question(text: str) -> str:
    """Returns the part of a :func:`~tulu_eval.stated.tokens.plain` text before the model asks itself a question.

    The result has at least the first line. It also stops at the mark of the next turn, and leaves out turn marks at the start.
    """
    opening = _OPENING.match(text)
    lines = _TURN.split(text[opening.end() :] if opening else text, maxsplit=1)[0].split("\n")
    end = next((at for at, line in enumerate(lines) if at and _NEXT.match(line)), len(lines))
    return "\n".join(line for line in lines[:end] if line)
