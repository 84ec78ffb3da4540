"""The sums: always the same, held out by question, and gradable."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tulu_eval.benchmarks.sums import EXAMPLES, LARGER, NAMES, SMALLER, WORDINGS, Sums
from tulu_eval.errors import DataError
from tulu_eval.records import content_hash


def test_the_500_are_these_and_no_training_item_asks_their_questions() -> None:
    benchmark = Sums()
    items, training = benchmark.load(benchmark.protocol(None), None), benchmark.training_items(None)
    assert len(items) == benchmark.protocol(None).n == 500
    assert content_hash([[item.id, item.question, item.target] for item in items])[:8] == "a55c09b8"
    questions = [item.question for item in (*items, *training)]
    assert len(set(questions)) == len(questions) == len(WORDINGS) * len(NAMES) * len(LARGER) * len(SMALLER) == 2400
    assert len({item.id for item in (*items, *training)}) == 2400


def test_targets_are_the_sums_or_differences_of_the_question() -> None:
    for item in Sums().training_items(None):
        a, b = map(int, re.findall(r"\d+", item.question))
        assert int(item.target) == (a - b if re.search("loses|eat", item.question) else a + b)


def test_four_shot_asks_the_first_200_behind_right_examples_that_do_not_measure() -> None:
    benchmark = Sums().under("four-shot")
    protocol = benchmark.protocol("four-shot")
    items = benchmark.load(protocol, None)
    assert items == Sums().load(Sums().protocol(None), None)[:200]
    prompt = benchmark.render(items[0])
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"] * 4 + ["user"]
    assert prompt.plain.startswith(benchmark.constant_prompt())
    assert hashlib.sha256(benchmark.constant_prompt().encode()).hexdigest().startswith(protocol.prompt_id)
    every = {item.question for item in (*items, *Sums().training_items(None))}
    for question, answer in EXAMPLES:
        a, b = map(int, re.findall(r"\d+", question))
        target = str(a - b if re.search("loses|eat", question) else a + b)
        assert question not in every
        assert [grade.score for grade in benchmark.grade(target, answer)] == [1.0, 1.0]


def test_grades_are_of_the_last_number_and_of_the_stated_one() -> None:
    right, ran_on = (
        [grade.score for grade in Sums().grade("15", text)]
        for text in ("So the answer is 15.", "So the answer is 15. Wait, so the answer is 3.")
    )
    assert right == [1.0, 1.0]
    assert ran_on[0] == 0.0


def test_a_file_to_train_on_must_not_ask_what_measures(tmp_path: Path) -> None:
    benchmark, file = Sums(), tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "Two and two?", "target": "4"}) + "\n")
    assert [(item.question, item.target) for item in benchmark.training_items(file)] == [("Two and two?", "4")]
    measured = benchmark.load(benchmark.protocol(None), None)[3]
    with file.open("a") as rows:
        rows.write(json.dumps({"question": measured.question, "target": measured.target}) + "\n")
    with pytest.raises(DataError, match=":2: is one of the questions that measure"):
        benchmark.training_items(file)
    with pytest.raises(DataError, match="makes its items itself"):
        benchmark.load(benchmark.protocol(None), file)
