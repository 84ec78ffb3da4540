"""Rows from samples: every scorer, every covered protocol, every failure counted, and where the scorers differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from made_manifest import MANIFEST, made_manifest

from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, Prompt, Protocol, items_hash
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError
from tulu_eval.records import Completion, Decoding, FinishReason, Grade, Result, content_hash
from tulu_eval.registry import load_suite
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.score import score
from tulu_eval.runs.scoring import make_rows
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import Marks, Sample, encode, marks
from tulu_eval.store.setup_schema import StoredBenchmark

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
    files.write_manifest(plan.folder, plan.manifest)
    with Ledger(plan.folder / files.LEDGER) as ledger:
        for one, (text, reason) in zip(plan.planned, TEXTS, strict=False):
            completion = Completion(one.request.key, text, (1,), reason, 0.1)
            sample = Sample(one.item.id, one.item.target, one.prompt_sha256, completion, "ok", ())
            ledger.append(Grader(plan.benchmark).grade(sample))
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


class Riddles(Benchmark):
    """A plug-in with groups, fractions and weights, as a third party writes one."""

    name = "riddles"
    scorers = ("right", "parts", "by-subject")
    aggregates: ClassVar[Mapping[str, Aggregate]] = {"parts": "ratio", "by-subject": "macro"}
    metrics: ClassVar[Mapping[str, str]] = {"parts": "share_of_parts"}
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "full": Protocol("full", "all riddles", 0, Decoding(64), Decoding(64), "exact_match", "-", ("full",))
    }

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        return [Item(name, name, name, group) for name, group in zip("abcd", ("hard", "easy", "easy", "easy"), strict=True)]

    def render(self, item: Item) -> Prompt:
        return Prompt(item.question, "", item.question)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        found, parts = len(set(target) & set(text)), 2.0 if target == "a" else 1.0
        share = found / parts
        return (Grade("right", text, True, float(share == 1)), Grade("parts", text, True, share, parts),
                Grade("by-subject", text, True, share))  # fmt: skip


def riddle_rows(texts: Mapping[str, str], failed: str = "") -> tuple[Result, ...]:
    """The rows of answered riddles, by way of the ledger's lines."""
    benchmark, found = Riddles(), {}
    for item in benchmark.load(benchmark.protocol(None), None):
        if item.id in texts:
            end, text = ("error", "") if item.id in failed else ("stop", texts[item.id])
            completion = Completion("0" * 64, text, (), end, 0.0)  # type: ignore[arg-type]
            line = encode(Grader(benchmark).grade(Sample(item.id, item.target, "p", completion, "ok", (), item.group)))
            found[marks(line)[0]] = marks(line)[1]
    riddles, ids = StoredBenchmark(name="riddles", version=1), tuple("abcd")
    manifest = made_manifest(items={"full": ids}, planned=ids, benchmark=riddles)
    return make_rows(manifest, benchmark, found)


def test_rows_of_parts_and_of_groups() -> None:
    right, parts, by_subject = riddle_rows({"a": "a", "b": "b", "c": "c", "d": "x"})
    assert (right.metric, right.value, right.interval) == ("exact_match", 50.0, "wilson95")
    assert (parts.metric, parts.interval) == ("share_of_parts", "clustered95")
    assert parts.value == pytest.approx(100 * 3 / 5)  # 1 of 2, 1 of 1, 1 of 1, 0 of 1
    assert by_subject.value == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert right.is_share
    assert not parts.is_share
    assert not by_subject.is_share


def test_a_failure_spans_wrong_to_right_in_parts_too() -> None:
    texts = {"a": "a", "b": "b", "c": "c", "d": "x"}
    parts, failed = riddle_rows(texts)[1], riddle_rows(texts, failed="b")[1]
    assert failed.interval == "clustered95, failures wrong to right"
    assert failed.value == pytest.approx(100 * 2 / 5)
    assert failed.low < parts.low
    assert failed.high == pytest.approx(parts.high)  # b right, as it was


def test_an_unfinished_ratio_has_no_interval_and_is_no_share() -> None:
    parts = riddle_rows({"a": "a", "b": "x", "c": "c"})[1]
    assert (parts.n, parts.interval, parts.low, parts.high) == (3, "none", 0.0, 100.0)
    assert not parts.is_share  # 2 of 4 parts is 1.5 of 3 items


def test_the_hash_of_items_without_groups_is_what_it_was() -> None:
    item = Item("i", "q", "t")
    assert items_hash([item]) == content_hash([{"id": "i", "question": "q", "target": "t"}])
    assert items_hash([dataclasses.replace(item, group="g")]) != items_hash([item])
