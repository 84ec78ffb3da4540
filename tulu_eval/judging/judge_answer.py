"""Reads a judge's answer as a preference in [1, 2], or as a class of failure.

2 means that the model wins, 1 that the baseline wins, in either order of the outputs. With logprobs, the preference for the
output shown second is ``2 - p(m) / (p(m) + p(M))`` over the alternatives of the first token; a missing one has probability 0.
A ranking is a Python list of dictionaries; the rank of "model_1", 1 or 2, is the preference for the output shown second.
Source: tatsu-lab/alpaca_eval @ 46ca37b6 (v0.6.2), ``completion_parsers.logprob_parser`` with ``is_binarize`` off, and
``ranking_parser``: it gives 8770 of the 8770 preferences that are stored with their text @ cd543a14.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tulu_eval.endpoint.answer import end_of, filtered, text_of
from tulu_eval.endpoint.said import one_line
from tulu_eval.judging.judge_recipe import FIRST, SECOND, Method

INSTEAD = "--method text reads the answer's text instead, which gives a different number"
"""Advice for a judge without logprobs."""

SHOWN = 80
"""Largest number of characters of an answer in a message."""

LONGEST_RANKING = 4096
"""Largest number of characters of a ranking that is read; the judge has 100 tokens for it."""

VerdictFailure = Literal["refusal", "no_logprobs", "no_verdict"]


class Verdict(NamedTuple):
    """The verdict of one answer.

    Attributes:
        kind: ``judged``, or the failure: ``refusal`` (the judge or its provider declined), ``no_logprobs`` (the endpoint
            returned none), ``no_verdict`` (neither m nor M, or no ranking).
        preference: In [1, 2] if judged, else ``None``.
        detail: One line about the failure; empty if judged.
    """

    kind: Literal["judged"] | VerdictFailure
    preference: float | None
    detail: str = ""


def read_verdict(choice: Mapping[str, Any], method: Method, swapped: bool, loose: bool = False) -> Verdict:
    """Returns the verdict of one ``choices[0]`` of a chat completion.

    ``choice`` is as the endpoint sent it; ``swapped`` says whether the judge saw the model's output first. ``loose`` ignores
    white space and a tokenizer's word marks around m and M; off for the published judge.
    """
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    if message.get("refusal") or filtered(choice.get("finish_reason")):
        said = message.get("refusal") or "stopped by the provider's content filter"
        return Verdict("refusal", None, one_line(str(said), SHOWN))
    text = text_of(message) or ""
    if method == "text":
        verdict = _read_text(text, end_of(choice.get("finish_reason")).reason == "length")
    elif method == "ranking":
        verdict = read_ranking(text)
    else:
        verdict = _read_logprobs(choice.get("logprobs"), text, loose)
    if verdict.preference is not None and swapped:
        return verdict._replace(preference=3.0 - verdict.preference)
    return verdict


def _read_logprobs(logprobs: Any, text: str, loose: bool) -> Verdict:
    top = first_alternatives(logprobs)
    if top is None:
        return Verdict("no_logprobs", None, f"the endpoint returned no logprobs; {INSTEAD}")
    mass = {FIRST: 0.0, SECOND: 0.0}
    for token, logprob in top:
        name = token.strip().lstrip("▁Ġ").strip() if loose else token
        if name in mass:
            mass[name] += math.exp(logprob)
    total = mass[FIRST] + mass[SECOND]
    if not total > 0:
        began = f"it began {one_line(text, SHOWN)!r}"
        return Verdict("no_verdict", None, f"neither m nor M among the likeliest tokens; {began}")
    return Verdict("judged", 2.0 - mass[FIRST] / total)


def first_alternatives(logprobs: Any) -> list[tuple[str, float]] | None:
    """Returns (token, logprob) of the first token's alternatives; ``None`` if there are none, or a number is invalid."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, Sequence) or not content or not isinstance(content[0], Mapping):
        return None
    top = content[0].get("top_logprobs")
    if not isinstance(top, Sequence) or not top:
        return None
    found = []
    for entry in top:
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, int | float) or not value <= 0.01:
            return None
        found.append((token, float(value)))
    return found


def _read_text(text: str, cut: bool) -> Verdict:
    """Returns the verdict of an answer that is one letter, ignoring marks around it and reasoning before ``</think>``."""
    answer = text.rsplit("</think>", 1)[-1].strip(" \t\r\n\"'`*.")
    if answer == FIRST:
        return Verdict("judged", 1.0)
    if answer == SECOND:
        return Verdict("judged", 2.0)
    at = " when its limit of tokens cut it off" if cut else ""
    return Verdict("no_verdict", None, f"neither m nor M; it said {one_line(text, SHOWN)!r}{at}")


def read_ranking(text: str) -> Verdict:
    """Returns the verdict of a ranking, the outputs in the order in which the judge saw them."""
    try:
        ranked = ast.literal_eval(text) if len(text) <= LONGEST_RANKING else ()
        rank = next(one["rank"] for one in ranked if one["model"] == "model_1")
        if rank in (1, 2):
            return Verdict("judged", float(rank))
    except (ValueError, TypeError, KeyError, SyntaxError, StopIteration, RecursionError, MemoryError):
        pass  # whatever the text is, it is no ranking
    return Verdict("no_verdict", None, f"no ranking of model_1 and model_2; it said {one_line(text, SHOWN)!r}")
