"""Rules that several benchmarks compare two texts by, each as the package that published numbers were made with has it."""

from __future__ import annotations

import re
import string
from collections import Counter

_DROP = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def exact_match(answer: str, target: str) -> bool:
    """Whether two texts are equal without case and ASCII punctuation.

    This is Hugging Face ``evaluate``'s ``exact_match`` with ``ignore_case`` and ``ignore_punctuation``, as open-instruct calls
    it. It deletes signs, decimal points and brackets from both sides, and leaves white space as it is.
    """
    return answer.lower().translate(_DROP) == target.lower().translate(_DROP)


def squad_exact_match(answer: str, target: str) -> bool:
    """Whether two texts have the same words, by the rule of :func:`squad_words`."""
    return squad_words(answer) == squad_words(target)


def squad_f1(answer: str, target: str) -> float:
    """Returns the F1 (0 to 1) of the words that two texts share, counted with repetitions; 0 if either has none."""
    mine, wanted = squad_words(answer), squad_words(target)
    shared = sum((Counter(mine) & Counter(wanted)).values())
    return 2 * shared / (len(mine) + len(wanted)) if shared else 0.0


def squad_words(text: str) -> list[str]:
    """Returns a text's words in lower case, without ASCII punctuation and English articles.

    Source: SQuAD's ``normalize_answer`` as ``evaluate``'s metric ``squad`` has it; the articles of other languages stay.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_DROP)).split()
