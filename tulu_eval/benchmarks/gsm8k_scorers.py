"""The scorers of GSM8K: which number of a completion is the answer, and when it is right."""

from __future__ import annotations

import re

from tulu_eval.benchmarks.matching import exact_match
from tulu_eval.records import Grade
from tulu_eval.stated.numerals import written
from tulu_eval.stated.statement import read_number, stated_answer


def extract_last_number(text: str) -> str | None:
    """Returns the last number in the text without thousands commas, an integer without its sign; ``None`` if there is none.

    The regular expressions are open-instruct's (``eval/gsm/run_eval.py`` @ ea3467db); the module's docstring lists the quirks.
    """
    joined = re.sub(r"(\d),(\d)", r"\1\2", text) if "," in text else text
    numbers = re.findall(r"[-+]?\d*\.\d+|\d+", joined)
    return str(numbers[-1]) if numbers else None


def grade_last_number(target: str, text: str) -> Grade:
    """Returns the published scorer's grade: the last number, compared by ``exact_match`` without case and punctuation."""
    found = extract_last_number(text)
    answer = text if found is None else found
    return Grade("last-number", answer if found is not None else "", found is not None, float(exact_match(answer, target)))


def grade_stated_answer(target: str, text: str) -> Grade:
    """Returns the stricter scorer's grade: the first stated answer, read whole and compared exactly with its sign.

    The scorer ignores reasoning blocks and everything from a line that starts with ``Question:``, where the model asks itself
    the next question; see :mod:`tulu_eval.stated.statement`.
    """
    found = stated_answer(text)
    if found is None:
        return Grade("stated-answer", "", False, 0.0)
    return Grade("stated-answer", written(found), True, float(found == read_number(target)))


def grade_hash_answer(target: str, text: str) -> Grade:
    """Returns the grade of lighteval's scorer: the first number behind ``####`` without commas, compared as a string.

    The regular expression is that of ``gsm8k_normalizer`` (huggingface/lighteval @ ea46419a, ``metrics/normalizations.py``). A
    full stop behind the number belongs to it, so ``#### 18.`` is wrong.
    """
    found = re.search(r"#### (\-?[0-9\.\,]+)", text)
    answer = found[1].replace(",", "") if found else ""
    return Grade("hash-answer", answer, found is not None, float(found is not None and answer == target))


def grade_strict_match(target: str, text: str) -> Grade:
    """Returns the grade of lm-eval's filter ``strict-match``: the first number behind "The answer is".

    The pattern is that of ``gsm8k-cot.yaml`` of lm-eval 0.4.13, whose last dot stands for any character and has to be there.
    """
    found: list[str] = re.findall(r"The answer is (\-?[0-9\.\,]+).", text)
    return _lm_eval_grade("strict-match", target, found[0] if found else None)


def grade_flexible_extract(target: str, text: str) -> Grade:
    """Returns the grade of lm-eval's filter ``flexible-extract``: the last number, dollar signs and commas in it."""
    found: list[tuple[str, str]] = re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)
    return _lm_eval_grade("flexible-extract", target, next(filter(None, found[-1])) if found else None)


def grade_exact_last_number(target: str, text: str) -> Grade:
    """Returns the grade of olmes' ``gsm8k``: the last number, compared with its decimal point.

    ``_extract_answer`` and ``_clean_short_answer`` (allenai/olmes @ b532dd59, ``gsm8k.py``) read both sides by the rule of
    :func:`extract_last_number`, so an integer loses its sign on both.
    """
    found = extract_last_number(text)
    return Grade("exact-last-number", found or "", found is not None, float(found == extract_last_number(target)))


def _lm_eval_grade(scorer: str, target: str, found: str | None) -> Grade:
    """Returns the grade by lm-eval's ``exact_match`` with the task's ``regexes_to_ignore``: commas, ``$`` and a last full stop.

    The task also ignores everything up to ``####`` and a space, which no number has in it.
    """
    answer = (found or "").replace(",", "").replace("$", "").removesuffix(".")
    return Grade(scorer, answer, found is not None, float(found is not None and answer == target))
