"""GSM8K's questions and right answers: read from a file or the hub, and checked against the known test set."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

from tulu_eval.benchmarks import base
from tulu_eval.errors import DataError

ROWS_SHA256 = "74cf22517cb3f7de9b05de29b884de3d69dd7f5df305d82cc358a3114cfffc95"
"""Hash of the 1319 questions and targets joined by newlines, in the order of test.jsonl (blob e4c2ff49, sha256 3730d312...)."""

TEST_SIZE = 1319

TRAIN_SHA256 = "f7fc5af92cb8f758d39ff8444868ed3a423191300ae72c1434c56edcc1eeb230"
"""Hash of the 7473 training questions and answers joined by newlines, in the order of train.jsonl (sha256 17f347dc...)."""

TRAIN_SIZE = 7473


def read_rows(data: Path | None, revision: str | None = None) -> list[tuple[str, str]]:
    """Returns the question and target of every row; raises DataError if a row has no number after ``####``.

    Args:
        data: A file of rows; ``None`` for ``openai/gsm8k`` (main, test) from the hub.
        revision: Commit of the hub's data set; ``None`` for its newest.
    """
    pairs = []
    for row in base.read_rows(_file_of_hub("test", revision) if data is None else data, ("question", "answer")):
        target = parse_target(row.text("answer"))
        if target is None:
            raise row.error("field 'answer' does not end in '#### NUMBER'")
        pairs.append((row.text("question"), target))
    return pairs


def read_test_items(data: Path | None) -> list[base.Item]:
    """Returns the 1319 items in the order of test.jsonl; the argument is that of :func:`read_rows`."""
    rows = read_rows(data)
    check_rows(rows, data)
    return [base.Item(f"test-{index}", question, target) for index, (question, target) in enumerate(rows)]


def read_training_items(data: Path | None) -> list[base.Item]:
    """Returns items to train on: the rows of ``data``, or of ``openai/gsm8k`` (main, train) if that is ``None``.

    Raises:
        DataError: If a row has no number after ``####``, or the rows are the test set.
    """
    source = _file_of_hub("train", None) if data is None else data
    rows = read_rows(source)
    if _hash(rows) == ROWS_SHA256:
        raise DataError(source, "is GSM8K's test set, which measures; train on its train.jsonl")
    return [base.Item(f"train-{index}", question, target) for index, (question, target) in enumerate(rows)]


def read_solutions(data: Path | None, revision: str) -> list[tuple[str, str]]:
    """Returns the question and the whole solution of every training row.

    Args:
        data: The file of test rows, which has ``train.jsonl`` beside it; ``None`` for ``openai/gsm8k`` (main, train).
        revision: Commit of the hub's data set.

    Raises:
        DataError: If there is no ``train.jsonl``, or its rows are not the 7473 training rows in their order.
    """
    path = _file_of_hub("train", revision) if data is None else data.with_name("train.jsonl")
    if not path.exists():
        raise DataError(path, "is missing: the examples are training rows, so put GSM8K's train.jsonl beside the --data file")
    rows = [(row.text("question"), row.text("answer")) for row in base.read_rows(path, ("question", "answer"))]
    if _hash(rows) != TRAIN_SHA256:
        raise DataError(path, f"has other rows or order than the {TRAIN_SIZE} of the GSM8K training set")
    return rows


def _file_of_hub(split: str, revision: str | None) -> Path:
    advice = "give the file with --data test.jsonl (github.com/openai/grade-school-math, grade_school_math/data)"
    return base.file_of_hub("openai/gsm8k", f"main/{split}-00000-of-00001.parquet", revision, advice)


def check_rows(rows: list[tuple[str, str]], data: Path | None) -> None:
    """Raises DataError if the rows are not the 1319 test questions with their targets, in the order of test.jsonl.

    The published items are then unknown.
    """
    if _hash(rows) == ROWS_SHA256:
        return
    same_size = len(rows) == TEST_SIZE
    what = "other questions, answers or order than those" if same_size else f"{len(rows)} rows, not the {TEST_SIZE}"
    hint = "; --protocol custom runs the recipe on it" if data else ""
    raise DataError(data or "openai/gsm8k", f"{what} of the GSM8K test set, so no published protocol applies{hint}")


def _hash(rows: list[tuple[str, str]]) -> str:
    text = "\n".join(map("\n".join, rows))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse_target(answer: str) -> str | None:
    """Returns the number after ``####`` without thousands commas, ``None`` if there is none (open-instruct's rule)."""
    parts = answer.split("####")
    target = re.sub(r"(\d),(\d)", r"\1\2", parts[1].strip()) if len(parts) > 1 else ""
    return target if to_number(target) is not None else None


def to_number(text: str) -> Decimal | None:
    """Returns the text as a decimal number, ``None`` if it is not a finite one."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
