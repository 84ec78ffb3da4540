"""GSM8K's hypotheses: scorers of every harness, number, order and form of the examples, their words.

The prompts vary the published one (:mod:`tulu_eval.benchmarks.gsm8k`), which has eight examples and the question in one turn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tulu_eval.benchmarks.base import Item, Prompt, Protocol
from tulu_eval.benchmarks.common_hypotheses import common, scorers
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE
from tulu_eval.benchmarks.gsm8k_exemplars import exemplars, so_exemplars
from tulu_eval.benchmarks.gsm8k_scorers import (
    grade_exact_last_number,
    grade_flexible_extract,
    grade_hash_answer,
    grade_last_number,
    grade_stated_answer,
    grade_strict_match,
)
from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherItems, OtherPrompt
from tulu_eval.records import Turn

CARD_SIZE = 200
"""Items behind the published cells; in the protocol ``full`` they come first."""

INSTRUCTION = "Answer the following questions.\n\n"

SCORERS = (
    ("last-number", grade_last_number, "open-instruct @ea3467db, eval/gsm/run_eval.py"),
    ("flexible-extract", grade_flexible_extract, "lm-eval 0.4.13, gsm8k-cot.yaml; lm-eval#2034: 0.78 and 0.20"),
    ("strict-match", grade_strict_match, "lm-eval 0.4.13, gsm8k-cot.yaml; lm-eval#2034: 0.78 and 0.20"),
    ("exact-last-number", grade_exact_last_number, "olmes @b532dd59, gsm8k.py"),
    ("hash-answer", grade_hash_answer, "lighteval @ea46419a, gsm8k_normalizer; lighteval#202: a zero score"),
    ("stated-answer", grade_stated_answer, "this project's stricter scorer"),
)


def of(protocol: Protocol) -> tuple[Hypothesis, ...]:
    """Returns the hypotheses on a protocol of GSM8K with the published prompt or another harness's."""
    shots = "lm-eval#1896, open-instruct#148: 8, 5 and 0 examples are all in use"
    turns = "lm-eval#1873: --fewshot_as_multiturn; open-instruct PR#259"
    published = protocol.name in ("card-200", "full", "custom")
    found = (
        _asked("zero-shot", "examples", "none", shots, functools.partial(_card, 0), 3.0),
        _asked("4-shot", "examples", "the first 4", shots, functools.partial(_card, 4)),
        _asked("5-shot", "examples", "the first 5", shots, functools.partial(_card, 5), 1.5),
        _asked("reversed-shots", "examples", "in reversed order", "lm-eval's first_n against random draws", _reversed, 0.5),
        _asked("shots-as-turns", "examples", "a turn each", turns, _as_turns, 3.0),
        _asked("no-instruction", "instruction", "none", "lm-eval's gsm8k_cot has none", _bare, 0.7, "the first line"),
        _asked("lm-eval-words", "words", "Q: and A:, 'The answer is'", "lm-eval 0.4.13, gsm8k-cot.yaml", _lm_eval, 2.0,
               "Question: and Answer:"),
        _asked("question-only", "examples", "none, and no word around the question", "zero-shot chats", _question, 1.0),
    )  # fmt: skip
    items = (
        Hypothesis("card-items", "items", "the 200 of seed 42", "open-instruct @ea3467db, --max_num_examples 200",
                   OtherItems(_card_items), "all of the protocol", 3.0),
        Hypothesis("file-first", "items", "the first of test.jsonl", "--limit of every harness", OtherItems(_first_of_file),
                   "all of the protocol"),
    )  # fmt: skip
    recipe = (*found, *items) if published else items
    return (*scorers(SCORERS), *recipe, *common(protocol))


def _asked(
    name: str,
    setting: str,
    to: str,
    source: str,
    rewrite: Callable[[Prompt, Item], Prompt],
    weight: float = 1.0,
    usual: str = "8 in one turn",
) -> Hypothesis:
    return Hypothesis(name, setting, to, source, OtherPrompt(rewrite), usual, weight)


def _prompt(before: str, question: str, prefill: str, earlier: Sequence[Turn] = ()) -> Prompt:
    content = before + question
    return Prompt(user=content, prefill=prefill, plain=f"{content}\n{prefill or 'Answer:'}", earlier=tuple(earlier))


def _blocks(shots: Sequence[tuple[str, str]]) -> str:
    return "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in shots)


def _card(shots: int, prompt: Prompt, item: Item) -> Prompt:
    return _prompt(INSTRUCTION + _blocks(so_exemplars()[:shots]), f"Question: {item.question.strip()}", "Answer:")


def _reversed(prompt: Prompt, item: Item) -> Prompt:
    return _prompt(INSTRUCTION + _blocks(so_exemplars()[::-1]), f"Question: {item.question.strip()}", "Answer:")


def _bare(prompt: Prompt, item: Item) -> Prompt:
    return _prompt(_blocks(so_exemplars()), f"Question: {item.question.strip()}", "Answer:")


def _as_turns(prompt: Prompt, item: Item) -> Prompt:
    earlier = [
        turn
        for question, answer in so_exemplars()
        for turn in (Turn("user", f"Question: {question}"), Turn("assistant", f"Answer: {answer}"))
    ]
    asked = f"Question: {item.question.strip()}"
    return Prompt(user=asked, prefill="Answer:", plain=_blocks(so_exemplars()) + f"{asked}\nAnswer:", earlier=tuple(earlier))


def _lm_eval(prompt: Prompt, item: Item) -> Prompt:
    blocks = "".join(f"Q: {question}\nA: {answer}\n\n" for question, answer in exemplars())
    asked = f"{blocks}Q: {item.question}\nA:"
    return Prompt(user=asked, prefill="", plain=asked)


def _question(prompt: Prompt, item: Item) -> Prompt:
    return Prompt(user=item.question, prefill="", plain=f"Question: {item.question}\nAnswer:")


def _card_items(ids: Sequence[str], n: int) -> Sequence[str] | None:
    """Returns the first 200 of all items in the order of the protocol ``full``."""
    return ids[:n] if (n, len(ids)) == (CARD_SIZE, TEST_SIZE) else None


def _first_of_file(ids: Sequence[str], n: int) -> Sequence[str] | None:
    return sorted(ids, key=lambda name: int(name.rpartition("-")[2]))[:n] if n < len(ids) else None
