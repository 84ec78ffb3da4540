"""Plain tables fit the width, and lose no word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.reports.layout import UNBOUNDED, grid, message, terminal_width, wrapped

WORD = st.text("abcdefgh", min_size=1, max_size=6)
CELL = st.lists(WORD, min_size=1, max_size=12).map(" ".join)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), st.integers(28, 200))
@settings(deadline=None, max_examples=60)
def test_a_table_of_words_fits_and_keeps_every_letter(rows: list[tuple[str, str, str]], width: int) -> None:
    text = grid(("one", "two", "three"), rows, keep=(), width=width)
    assert max(map(len, text.splitlines())) <= width
    letters = sorted("".join("".join(row) for row in rows).replace(" ", ""))
    body = "".join(text.splitlines()[2:])
    assert sorted(body.replace(" ", "")) == letters


@pytest.mark.parametrize("word", ["True", "False"])
def test_a_cell_of_one_word_that_python_knows_stays_that_word(word: str) -> None:
    text = grid(("name", "what", "other"), [("a", word, "some words " * 10), (word, "b", "c")], width=40)
    assert text.count(word) == 2
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_kept_columns_are_never_wrapped() -> None:
    name = "a-name-that-is-to-be-copied-whole-and-is-long"
    text = grid(("name", "what"), [(name, "some words " * 10)], keep=(0,), width=60)
    assert name in text


def test_no_word_is_cut_even_where_the_table_is_then_too_wide() -> None:
    text = grid(("name", "data"), [("a", "ultrafeedback_mean_aspects and more")], keep=(), width=10)
    assert "ultrafeedback_mean_aspects\n" in text


def test_an_empty_table_has_its_titles() -> None:
    assert grid(("a", "b"), []).split() == ["a", "b", "---", "---"]


def test_nothing_is_wrapped_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    assert terminal_width() == UNBOUNDED
    assert wrapped("word " * 500).count("\n") == 0
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal_width() == 80


def test_a_paragraph_keeps_long_words_whole() -> None:
    word = "gsm8k:card-200|n:200@67fd6fed|" * 3
    assert word in wrapped(f"signature {word}", "  ", width=40)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("next: tulu-eval verify results/my-checkpoint/gsm8k/card-200-1a2b3c4d --as NAME", "next: tulu-eval verify"),
        ("tulu-eval: no such option: benchmarks are arguments: tulu-eval run gsm8k -m MODEL", "tulu-eval run gsm8k -m MODEL"),
        ("tulu-eval: the hub's model is not here, run 'hf download org/name' first, or give one", "'hf download org/name'"),
        ("tulu-eval: the engine vllm needs a package: pip install 'tulu-eval[vllm]' (no GPU: make it)", "'tulu-eval[vllm]'"),
        ("tulu-eval: lm-eval's file and olmes' file, each with many words, are not one 'and the same'", "'and the same'"),
    ],
)
def test_what_is_copied_out_of_a_message_stays_on_one_line(text: str, kept: str) -> None:
    for width in range(20, len(text)):
        found = message(text, width)
        assert kept in found
        assert " ".join(found.split()) == text
        assert all(len(line) <= width or kept in line or " " not in line.strip() for line in found.splitlines())


def test_a_short_message_and_a_row_of_a_table_stay_as_they_are() -> None:
    assert message("done", 80) == "done"
    assert message("a name      " * 10 + "x", 40) == "a name      " * 10 + "x"
