"""The statements of ``statements.jsonl``, written and valued by hand, and whatever text there is."""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tulu_eval.benchmarks.gsm8k_data import parse_target
from tulu_eval.benchmarks.gsm8k_scorers import grade_stated_answer
from tulu_eval.stated.statement import WINDOW, read_number, stated_answer

STATEMENTS = [
    json.loads(line) for line in Path(__file__).with_name("statements.jsonl").read_text(encoding="utf-8").splitlines()
]
FORMS = sorted({row["form"] for row in STATEMENTS})


def right_value(row: dict[str, str | None]) -> Fraction | None:
    return None if row["value"] is None else Fraction(row["value"])


def test_the_list_is_long_and_says_nothing_twice() -> None:
    assert len(STATEMENTS) >= 300
    assert len({row["text"] for row in STATEMENTS}) == len(STATEMENTS)
    assert sum(row["value"] is None for row in STATEMENTS) >= 100


@pytest.mark.parametrize("form", FORMS)
def test_no_statement_is_read_to_a_wrong_value(form: str) -> None:
    rows = [row for row in STATEMENTS if row["form"] == form]
    found = {row["text"]: stated_answer(row["text"]) for row in rows}
    assert not {text: value for row in rows if (value := found[text := row["text"]]) not in (None, right_value(row))}


def test_nearly_all_statements_are_read() -> None:
    right = Counter(stated_answer(row["text"]) == right_value(row) for row in STATEMENTS)
    assert right[True] >= 0.95 * len(STATEMENTS)
    valued = [row for row in STATEMENTS if row["value"] is not None]
    assert sum(stated_answer(row["text"]) == right_value(row) for row in valued) >= 0.95 * len(valued)


@pytest.mark.parametrize("form", [r"\n#### \1", r"\nSo the answer is \1.", r" So the answer is $\1 per day."])
def test_solutions_of_the_data_set_are_right(shared: Path, form: str) -> None:
    for line in (shared / "data/gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines():
        solution = json.loads(line)["answer"]
        target = parse_target(solution)
        assert target is not None
        text = re.sub(r"\n#### (.*)$", form, solution)
        assert grade_stated_answer(target, text).score == 1.0, text


@pytest.mark.parametrize("target", ["1,234", "1234", "1234.0", "1234.00"])
def test_targets_are_read_as_statements_are(target: str) -> None:
    assert grade_stated_answer(target, "So the answer is $1,234.").score == 1.0
    assert grade_stated_answer("0.5", "So the answer is 1/2.").score == 1.0
    assert grade_stated_answer("0.1", "So the answer is 0.1000000000000000001.").score == 0.0


NUMBERS = st.integers(-(10**12), 10**12)
HUNDREDTHS = st.integers(-(10**9), 10**9).map(lambda number: Fraction(number, 100))
FRAMES = [
    "{}", "${}", "-€{}", "**{}**", "${}$", "\\({}\\)", "\\boxed{{{}}}", "{} eggs", "{}%", "x = {}", "7 - 4 = {}", "about {}",
    "'{}'", "{}, which is 3 * 4", "{} because 2 + 2 = 4", "{} (since 2 + 2 = 4)", "<<1*2=3>>{}", "USD {}", "{} \\text{{ km}}",
]  # fmt: skip


@given(NUMBERS, st.sampled_from(FRAMES), st.sampled_from(["{:,}", "{}", "{:_}"]))
def test_whole_numbers_are_read_in_every_frame(number: int, frame: str, form: str) -> None:
    sign = -1 if frame.startswith("-") else 1
    number = abs(number) if sign == -1 else number
    assert stated_answer(f"So the answer is {frame.format(form.format(number))}.") == sign * number


@given(HUNDREDTHS, st.sampled_from([",", "{,}", " ", "\u00a0", "\u202f", "\u2009", "'", "\\,", ""]))
def test_decimals_are_read_with_every_separator(number: Fraction, mark: str) -> None:
    written = f"{float(abs(number)):,.2f}".replace(",", mark)
    sign = "\N{MINUS SIGN}" if number < 0 else ""
    assert stated_answer(f"The answer is {sign}{written}.") == number


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_fractions_are_read_in_every_form(above: int, below: int) -> None:
    for form in (f"{above}/{below}", f"{above} / {below}", f"\\frac{{{above}}}{{{below}}}", f"$\\dfrac{{{above}}}{{{below}}}$"):
        assert stated_answer(f"The answer is {form}.") == Fraction(above, below)


@given(st.integers(0, 999), st.integers(1, 99), st.integers(100, 999).map(lambda number: number * 10))
def test_mixed_numbers_are_read(whole: int, above: int, below: int) -> None:
    for form in (f"{whole} {above}/{below}", f"{whole}\\frac{{{above}}}{{{below}}}", f"{whole} and {above}/{below}"):
        assert stated_answer(f"The answer is {form}.") == whole + Fraction(above, below)


@given(st.integers(1, 999), st.integers(-20, 20))
def test_powers_of_ten_are_read_in_every_form(number: int, power: int) -> None:
    for form in (
        f"{number}e{power}",
        f"{number} × 10^{{{power}}}",
        f"{number} \\times 10^{{{power}}}",
        f"{number} x 10^{power}",
    ):
        assert stated_answer(f"The answer is {form}.") == number * Fraction(10) ** power


@given(st.integers(0, 10**9), st.sampled_from([0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10, 0x1D7CE]))
def test_digits_of_other_scripts_are_read(number: int, zero: int) -> None:
    written = "".join(chr(zero + int(digit)) for digit in str(number))
    assert stated_answer(f"The answer is {written}.") == number


@given(
    st.integers(0, 999),
    st.integers(0, 999),
    st.sampled_from(["-", " - ", "–", " to ", " or ", ", ", "; ", " and ", ":", " vs ", " + "]),
)
def test_two_numbers_are_no_answer(first: int, second: int, between: str) -> None:
    assume(first != second)
    assert stated_answer(f"The answer is {first}{between}{second}.") is None


PIECES = [
    "answer is", "answer", " ", "\n", "1", "000", ",", ".", "-", "−", "/", "^", "{", "}", "(", ")", "$", "\\frac", "\\boxed",
    "e", "=", "×", "10", "%", "<think>", "</think>", "Question:", "eggs", "and", "or", "½", "³", "٣", "k", "million", "as", "*",
    "\ud800", "\0", "9" * 5000, "<<", ">>",
]  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=30))
def test_no_text_raises(pieces: list[str]) -> None:
    text = "".join(pieces)
    for whole in (text, f"The answer is {text}"):
        stated_answer(whole)
        read_number(whole)


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "1e999999999", "1e-999999999", "10^10^10", "10^{9999}", "0." + "3" * 5000, "1/" + "9" * 5000, "2**10000",
     "1" + ",000" * 2000],
)  # fmt: skip
def test_what_is_too_large_is_no_answer(number: str) -> None:
    assert stated_answer(f"So the answer is {number}.") is None
    assert read_number(number) is None


def test_a_statement_has_to_end_within_what_is_looked_at() -> None:
    assert stated_answer(f"The answer is 18 {'eggs ' * WINDOW}or 20.") is None
    assert stated_answer(f"The answer is{' ' * WINDOW}18.") == 18
