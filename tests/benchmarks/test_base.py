"""What every benchmark shares: statuses, protocols, subset hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.benchmarks.base import classify, count_statuses, read_json_lines, subset_hash
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import UnknownName
from tulu_eval.records import STATUSES, Completion, FinishReason


@pytest.mark.parametrize(
    ("text", "reason", "status"),
    [
        ("So the answer is 4.", "stop", "ok"),
        ("no idea", "stop", "no_answer"),
        ("So the answer is 4. And", "length", "truncated"),
        ("no idea", "length", "truncated"),
        ("  \n", "stop", "empty"),
        ("", "length", "empty"),
        ("4", "error", "engine_error"),
    ],
)
def test_each_sample_falls_in_one_class(text: str, reason: FinishReason, status: str) -> None:
    completion = Completion("k", text, (), reason, 0.0)
    assert classify(completion, GSM8K().grade("4", text)) == status


def test_counts_name_every_class() -> None:
    counts = count_statuses(["ok", "ok", "empty"])
    assert [*counts, "unfinished_reasoning"] == list(STATUSES)
    assert sum(counts.values()) == 3
    assert count_statuses(["unfinished_reasoning"])["unfinished_reasoning"] == 1


def test_unknown_protocol_names_the_near_one() -> None:
    with pytest.raises(UnknownName, match=r"unknown protocol of gsm8k 'card-20'. Did you mean 'card-200'\?"):
        GSM8K().protocol("card-20")


def test_subset_hash_depends_on_order() -> None:
    assert subset_hash(["a", "b"]) != subset_hash(["b", "a"])


def test_a_plug_in_of_before_reads_its_rows_as_objects(tmp_path: Path) -> None:
    path = tmp_path / "riddles.jsonl"
    path.write_text('{"riddle": "Who?", "answer": "Me", "n": 1}\n')
    assert read_json_lines(path, ("riddle", "answer")) == [{"riddle": "Who?", "answer": "Me", "n": 1}]
