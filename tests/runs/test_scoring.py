"""Rows from samples: every scorer, every covered protocol, every failure counted, and where the scorers differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_manifest import MANIFEST

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError
from tulu_eval.records import Completion, FinishReason
from tulu_eval.registry import load_suite
from tulu_eval.runs import manifest as files
from tulu_eval.runs.ledger import Ledger, Marks, Sample, encode
from tulu_eval.runs.run_plan import Order, make_plan
from tulu_eval.runs.score import score
from tulu_eval.runs.scoring import grade_sample, make_rows

TEXTS: list[tuple[str, FinishReason]] = [
    ("So the answer is 1.", "stop"),  # right for both
    ("So the answer is 3.", "length"),  # right, though cut off
    ("So the answer is 5. So 2 apples", "stop"),  # right for the stricter scorer only
    ("It is 7", "stop"),  # right for the published scorer only
    ("no idea", "stop"),
    ("", "stop"),
    ("So the answer is 13.", "error"),
]


@pytest.fixture
def folder(order: Order) -> Path:
    """A run folder as the runner leaves it, with seven scripted samples; targets are 1, 3, 5, ..."""
    plan = make_plan(order, load_suite())
    plan.folder.mkdir(parents=True)
    files.write_manifest(plan.folder, files.describe(plan))
    with Ledger(plan.folder / files.LEDGER) as ledger:
        for one, (text, reason) in zip(plan.planned, TEXTS, strict=False):
            completion = Completion(one.request.key, text, (1,), reason, 0.1)
            sample = Sample(one.item.id, one.item.target, one.prompt_sha256, completion, "ok", ())
            ledger.append(grade_sample(plan.benchmark, sample))
    return plan.folder


def test_rows_and_disagreements(folder: Path) -> None:
    scored = score(folder)
    published, stricter = scored.results
    assert (published.scorer, published.n, published.n_protocol) == ("last-number", 7, 12)
    assert published.value == pytest.approx(100 * 3 / 7)
    assert stricter.value == pytest.approx(100 * 3 / 7)
    assert {name: count for name, count in published.counts.items() if count} == {
        "ok": 3, "truncated": 1, "no_answer": 1, "empty": 1, "engine_error": 1,
    }  # fmt: skip
    assert [(one.item, one.answers, one.scores) for one in scored.disagreements] == [
        ("row-2", ("2", "5"), (0.0, 1.0)),
        ("row-3", ("7", ""), (1.0, 0.0)),
    ]


def test_both_protocols_come_from_one_run() -> None:
    benchmark = GSM8K()
    marks = {item: Marks("ok", (float(item in "ab"), 0.0)) for item in "abc"}
    rows = make_rows(MANIFEST, benchmark, marks)
    assert [(row.protocol, row.scorer, row.n, row.n_protocol, round(row.value, 1)) for row in rows] == [
        ("card-200", "last-number", 2, 2, 100.0),
        ("card-200", "stated-answer", 2, 2, 0.0),
        ("full", "last-number", 3, 4, 66.7),
        ("full", "stated-answer", 3, 4, 0.0),
    ]
    assert len({row.signature for row in rows}) == 4


def test_a_ledger_changed_by_hand_is_named_and_not_scored(folder: Path) -> None:
    path = folder / files.LEDGER
    path.write_bytes(path.read_bytes().replace(b"So the answer is 1.", b"So the answer is 2.", 1))
    with pytest.raises(DataError, match=r"1 lines are corrupt or changed by hand \(first: 1\)"):
        score(folder)
    assert not (folder / files.RESULT).exists()


def test_no_samples(folder: Path) -> None:
    (folder / files.LEDGER).write_bytes(b"")
    with pytest.raises(DataError, match="has no samples"):
        score(folder)


def test_the_hash_of_samples_ignores_order_and_time(folder: Path) -> None:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        samples = list(ledger.samples())
        lines = list(ledger.lines())
    slower = [
        dataclasses.replace(one, completion=dataclasses.replace(one.completion, seconds=9.0)) for one in reversed(samples)
    ]
    assert files.samples_hash(lines) == files.samples_hash(map(encode, slower))
    assert files.samples_hash(lines) != files.samples_hash(lines[1:])
