"""The shared rules of comparing two texts, against values worked out by hand from the packages' own rules."""

from __future__ import annotations

import pytest

from tulu_eval.benchmarks.matching import exact_match, squad_exact_match, squad_f1, squad_words


@pytest.mark.parametrize(
    ("answer", "target", "same"),
    [
        ("(A)", "a", True),
        ("-18", "18", True),
        ("18.00", "1800", True),
        ("] }", ") >", True),  # one space is left of both
        ("] } >", ") >", False),
        ("18 ", "18", False),  # white space stays
        ("«A»", "A", False),  # only ASCII punctuation goes
    ],
)
def test_exact_match_without_case_and_punctuation(answer: str, target: str, same: bool) -> None:
    assert exact_match(answer, target) is same


def test_squad_s_words() -> None:
    assert squad_words("The  U.S. ate an apple — a  red one.") == ["us", "ate", "apple", "—", "red", "one"]
    assert squad_words("Theatre of the Banana") == ["theatre", "of", "banana"]
    assert squad_words("Das Ende") == ["das", "ende"]


@pytest.mark.parametrize(
    ("answer", "target", "f1", "same"),
    [
        ("the Nile", "Nile", 1.0, True),
        ("the Nile river", "river Nile", 1.0, False),
        ("in 1990", "1990", 2 * (1 / 2) * 1 / (1 / 2 + 1), False),
        ("b b c", "b c c", 2 / 3, False),
        ("x", "y", 0.0, False),
        ("", "y", 0.0, False),
        ("the", "a", 0.0, True),  # no word on either side: equal, and F1 0, as SQuAD's program has it
    ],
)
def test_squad_s_scores(answer: str, target: str, f1: float, same: bool) -> None:
    assert squad_f1(answer, target) == pytest.approx(f1)
    assert squad_exact_match(answer, target) is same
