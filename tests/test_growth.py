"""Nothing that reads a model's output takes time that grows faster than the output."""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tulu_eval.backends.vllm.process import explain
from tulu_eval.benchmarks.gsm8k_scorers import grade_last_number, grade_stated_answer
from tulu_eval.benchmarks.ifeval_checkers import Instruction, checker
from tulu_eval.endpoint.said import error_in, words_of
from tulu_eval.judging.judge_answer import read_verdict
from tulu_eval.model_card import check
from tulu_eval.model_card.card_file import CardSpan, TableRow
from tulu_eval.models.template import opened_reasoning
from tulu_eval.registry import load_suite
from tulu_eval.reproduction.rule import follows
from tulu_eval.stated.reasoning import without_reasoning
from tulu_eval.stated.statement import read_number

MODULES = (
    "tulu_eval.benchmarks.alpaca_eval", "tulu_eval.benchmarks.bbh", "tulu_eval.benchmarks.gsm8k",
    "tulu_eval.benchmarks.gsm8k_data",
    "tulu_eval.benchmarks.gsm8k_exemplars", "tulu_eval.benchmarks.matching", "tulu_eval.benchmarks.mmlu",
    "tulu_eval.benchmarks.truthfulqa", "tulu_eval.benchmarks.tydiqa",
    "tulu_eval.benchmarks.xstest", "tulu_eval.benchmarks.executed",
    "tulu_eval.benchmarks.gsm8k_scorers", "tulu_eval.benchmarks.gsm_symbolic", "tulu_eval.benchmarks.humaneval",
    "tulu_eval.benchmarks.hypothesis",
    "tulu_eval.benchmarks.ifeval_checkers",
    "tulu_eval.stated.numerals", "tulu_eval.stated.reader", "tulu_eval.stated.reasoning",
    "tulu_eval.stated.statement", "tulu_eval.stated.tail", "tulu_eval.stated.tokens",
    "tulu_eval.judging.screen", "tulu_eval.judging.judge_answer", "tulu_eval.reproduction.rule",
)  # fmt: skip
"""Modules that read what a model wrote."""

OTHERS = (
    "tulu_eval.backends.openai.answers", "tulu_eval.models.server", "tulu_eval.models.template",
    "tulu_eval.backends.vllm.process", "tulu_eval.endpoint.replies", "tulu_eval.endpoint.said", "tulu_eval.files.parsing",
    "tulu_eval.files.rows",
)  # fmt: skip
"""Modules that read what a server, a child or a file of somebody else's says."""

WORDS = (
    "So the answer is", "the answer is 1", "the answer is x = 1", "the answer is 1 (", "the answer is 1,",
    "answer to the", "answer (",
    "final answer:", "Answer:", "####", "Question:", "<think>", "</think>", "<<", "\\boxed{", "\\frac{", "10^", "1/",
    "-", "1 000 ",
)  # fmt: skip
"""What the stricter scorer looks for."""


def words_in(text: str) -> str:
    return words_of(f"<{text}".encode())


def patterns_of(growth: Any, module: ModuleType) -> set[re.Pattern[str]]:
    compiled = {each for each in vars(module).values() if isinstance(each, re.Pattern)}
    assert module.__file__ is not None
    return compiled | set(growth.patterns_in(Path(module.__file__)))


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_every_pattern_over_anothers_text_is_linear(growth: Any, name: str) -> None:
    for pattern in patterns_of(growth, importlib.import_module(name)):
        if isinstance(pattern.pattern, str):
            growth.check_pattern(pattern)


def test_every_pattern_of_the_registry_is_linear_in_a_card(growth: Any) -> None:
    for entry in load_suite().contradictions():
        if entry.pattern:
            growth.check_pattern(re.compile(entry.pattern, re.MULTILINE))


def test_all_modules_of_benchmarks_are_looked_at() -> None:
    folder = Path(importlib.import_module("tulu_eval.benchmarks").__file__ or "").parent
    names = {
        f"tulu_eval.benchmarks.{'.'.join(path.relative_to(folder).with_suffix('').parts)}" for path in folder.rglob("*.py")
    }
    with_patterns = {name for name in names if "import re\n" in Path(importlib.import_module(name).__file__ or "").read_text()}
    assert with_patterns <= set(MODULES)


@pytest.mark.parametrize(
    "read",
    [
        lambda text: grade_stated_answer("18", text),
        lambda text: grade_last_number("18", text),
        lambda text: read_verdict({"message": {"content": text}}, "text", swapped=False),
        read_number,
        follows,
        without_reasoning,
        lambda text: explain("exit code 1", text),
        words_in,
        error_in,
        opened_reasoning,
        lambda text: check._subject(load_suite(), None, TableRow((), (CardSpan(0, len(text), text),))),
        lambda text: [pattern.search(text) for pattern in check._COLUMNS.values()],
    ],
    ids=[
        *("stated-answer", "last-number", "verdict", "read_number", "rule", "without_reasoning"),
        *("log", "page", "error", "opened_reasoning", "card's label", "card's header"),
    ],
)
def test_every_reader_of_anothers_text_is_linear(growth: Any, read: Any) -> None:
    growth.check(read, WORDS)


@pytest.mark.parametrize(
    "pattern",
    [
        r"answer is:?\s*[^\w\s.+-]{0,3}\s*([-+]?\$?\s?(?:\d[\d,]*(?:\.\d+)?|\.\d+))",
        r"\n\s*Question:",
        r"So the answer is -?[\d,]*\.?\d+\.",
        r"((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): (.+)",
        r"\]\(([^)]*)\)",
    ],
)
def test_the_patterns_that_were_there_before_are_found(growth: Any, pattern: str) -> None:
    with pytest.raises(growth.TooSlow):
        growth.check_pattern(re.compile(pattern, re.IGNORECASE))


BRACKETS = ("[", "<<", "*", "-", "p.s.", "p.p.s")

OWN = (
    Instruction("keywords:letter_frequency", {"letter": "#", "let_frequency": 4, "let_relation": "at least"}),
    Instruction("detectable_content:number_placeholders", {"num_placeholders": 3}),
    Instruction("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    Instruction("detectable_format:number_bullet_lists", {"num_bullets": 3}),
    Instruction("detectable_format:title", {}),
)
"""Kinds of IFEval's instructions with a checker of ours."""

THEIRS = (
    Instruction("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "less than"}),
    Instruction("change_case:english_lowercase", {}),
    Instruction("combination:two_responses", {}),
    Instruction("detectable_format:constrained_response", {}),
    Instruction("detectable_format:json_format", {}),
    Instruction("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 3}),
    Instruction("detectable_format:number_highlighted_sections", {"num_highlights": 3}),
    Instruction("keywords:existence", {"keywords": ["word"]}),
    Instruction("keywords:forbidden_words", {"forbidden_words": ["word"]}),
    Instruction("keywords:frequency", {"keyword": "word", "frequency": 3, "relation": "less than"}),
    Instruction("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}),
    Instruction("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    Instruction("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}),
    Instruction("length_constraints:number_words", {"num_words": 3, "relation": "less than"}),
    Instruction("punctuation:no_comma", {}),
    Instruction("startend:end_checker", {"end_phrase": "word"}),
    Instruction("startend:quotation", {}),
)
"""Kinds with lm-eval's checker, which are tried at the smaller sizes: nltk stops a match after 5 seconds."""


@pytest.mark.parametrize("instruction", OWN, ids=lambda one: one.id)
def test_every_checker_of_ours_is_linear(growth: Any, punkt: None, instruction: Instruction) -> None:
    growth.check(checker(instruction), BRACKETS)


@pytest.mark.parametrize("instruction", THEIRS, ids=lambda one: one.id)
def test_every_checker_of_lm_eval_that_is_used_is_linear(growth: Any, punkt: None, instruction: Instruction) -> None:
    check = checker(instruction)

    def call(text: str) -> None:
        with contextlib.suppress(RecursionError):  # of nested JSON: a class of its own
            check(text)

    growth.screen(call, (". ", "a. A", "word", "Section 1"))


@pytest.mark.parametrize("pattern", [r"\[.*?\]", r"<<[^\n]+>>", r"^\s*\*[^\*].*$", r"\s*p\.\s?s\..*$"])
def test_the_patterns_that_ours_replace_are_not_linear(growth: Any, pattern: str) -> None:
    with pytest.raises(growth.TooSlow):
        growth.check_pattern(re.compile(pattern, re.MULTILINE))
