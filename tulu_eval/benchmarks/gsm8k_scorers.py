"""The scorers of GSM8K: which number of a completion is the answer, and when it is right."""

from __future__ import annotations

import re
import string

from tulu_eval.benchmarks.stated.numerals import written
from tulu_eval.benchmarks.stated.statement import read_number, stated_answer
from tulu_eval.records import Grade


def extract_last_number(text: str) -> str | None:
    """Returns the last number in the text without thousands commas, an integer without its sign; ``None`` if there is none.

    The regular expressions are open-instruct's (``eval/gsm/run_eval.py`` @ ea3467db); the module's docstring lists the quirks.
    """
    numbers = re.findall(r"[-+]?\d*\.\d+|\d+", re.sub(r"(\d),(\d)", r"\1\2", text))
    return str(numbers[-1]) if numbers else None


def grade_last_number(target: str, text: str) -> Grade:
    """Returns the published scorer's grade: the last number, compared by ``exact_match`` without case and punctuation.

    The metric is Hugging Face ``evaluate``'s ``exact_match`` with ``ignore_case`` and ``ignore_punctuation``, which deletes
    signs and decimal points from both sides.
    """
    found = extract_last_number(text)
    answer = text if found is None else found
    drop = str.maketrans("", "", string.punctuation)
    right = answer.lower().translate(drop) == target.lower().translate(drop)
    return Grade("last-number", answer if found is not None else "", found is not None, float(right))


def grade_stated_answer(target: str, text: str) -> Grade:
    """Returns the stricter scorer's grade: the first stated answer, read whole and compared exactly with its sign.

    The scorer ignores reasoning blocks and everything from a line that starts with ``Question:``, where the model asks itself
    the next question; see :mod:`tulu_eval.benchmarks.stated.statement`.
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
