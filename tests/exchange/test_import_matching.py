"""Answers find their items by the question, and a few reworded ones by their place, as in published outputs to IFEval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from foreign_rows import write
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.benchmarks.base import Item
from tulu_eval.exchange.foreign_answers import ForeignAnswer
from tulu_eval.exchange.import_file import Imported, import_file
from tulu_eval.exchange.import_matching import match, placed, right_answer
from tulu_eval.findings.verify import against, verify
from tulu_eval.registry import load_suite
from tulu_eval.reports import import_file as import_report
from tulu_eval.runs.reading import read_run

SUITE = load_suite()


@pytest.mark.parametrize(
    ("answer", "right"),
    [("18", "18"), ("x 1,2 #### 1,234,567", "1234567"), ("#### 5 ", "5"), ("-3", "-3"), ("a, b", "a, b"), ("", "")],
)
def test_right_answer(answer: str, right: str) -> None:
    assert right_answer(answer) == right


QUESTIONS = st.sampled_from(["One?", "one?", " One? ", "One ?", "Two?", "Three?", ""])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(QUESTIONS, st.sampled_from(["1", "2", "#### 1"])), max_size=12))
def test_every_answer_is_counted_once_and_every_item_is_answered_or_missing(pairs: list[tuple[str, str]]) -> None:
    items = [Item("a", "One?", "1"), Item("b", "Two?", "2")]
    answers = [ForeignAnswer(line, question, answer, None, "", None) for line, (question, answer) in enumerate(pairs, start=1)]
    found = match(items, answers)
    kinds = [[one for _, one in found.answers], found.foreign, found.changed, found.repeated]
    assert sorted(one.line for kind in kinds for one in kind) == [one.line for one in answers]
    assert {item.id for item, _ in found.answers} | {item.id for item in found.missing} == {"a", "b"}
    assert len(found.answers) + len(found.missing) == 2


def in_order(count: int, reworded: Sequence[int] = ()) -> tuple[list[Item], list[ForeignAnswer]]:
    """Items, and an answer to each in their order, some with other questions."""
    items = [Item(f"i{place}", f"question {place}", "t") for place in range(count)]
    answers = [
        ForeignAnswer(place + 1, f"{'other ' if place in reworded else ''}{item.question}", None, None, "text", None)
        for place, item in enumerate(items)
    ]
    return items, answers


def test_a_few_reworded_questions_are_taken_by_their_place() -> None:
    items, answers = in_order(200, reworded=[7, 150])
    found = placed(items, answers, match(items, answers))
    assert found.answers == tuple(zip(items, answers, strict=True))
    assert [one.line for one in found.reworded] == [8, 151]
    assert found.foreign == found.missing == ()


@pytest.mark.parametrize("change", ["many reworded", "one less", "another order", "none reworded"])
def test_nothing_is_taken_by_its_place_where_places_say_little(change: str) -> None:
    items, answers = in_order(200, reworded={"many reworded": [7, 8, 9], "none reworded": []}.get(change, [7]))
    if change == "one less":
        answers = answers[:-1]
    elif change == "another order":
        answers[20], answers[30] = answers[30], answers[20]
    matched = match(items, answers)
    assert placed(items, answers, matched) == matched


@pytest.fixture(scope="module")
def gpt_4(shared: Path, punkt: None, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """Google's stored outputs of GPT-4 to IFEval, as a run."""
    folder = shared / "data/suite/ifeval"
    path = folder / "input_response_data_gpt4_20231107_145030.jsonl"
    return import_file(path, "gpt-4", "ifeval", folder / "input_data.jsonl", tmp_path_factory.mktemp("gpt-4"), SUITE)


def test_prompts_and_responses_of_ifeval(gpt_4: Imported) -> None:
    assert (gpt_4.source.harness, len(gpt_4.matched.answers)) == ("responses", 541)
    assert [one.line for one in gpt_4.matched.reworded] == [340]
    run = read_run(gpt_4.folder)
    assert run.results == gpt_4.results
    assert run.manifest.imported
    assert run.manifest.imported.reworded == 1
    assert [(row.scorer, round(row.value, 2), row.n, row.interval) for row in run.results[:4]] == [
        ("oi-loose-prompt", 79.67, 541, "wilson95"),
        ("oi-loose-instruction", 85.61, 541, "clustered95"),
        ("oi-strict-prompt", 77.08, 541, "wilson95"),
        ("oi-strict-instruction", 83.69, 541, "clustered95"),
    ]
    assert "1 taken by their place (the item's question is worded differently): line 340" in import_report.as_text(gpt_4)


def test_ifeval_s_cell_is_verified_by_counts_of_prompts(gpt_4: Imported) -> None:
    found = verify(read_run(gpt_4.folder), SUITE, stand_in="llama-3-tulu-2-8b")
    (one,) = found.comparisons
    assert (one.row.scorer, one.cell.printed, one.cell.n) == ("oi-loose-prompt", "0.468", 541)
    assert one.agreement.verdict == "inconsistent"
    assert "(431/541)" in one.agreement.explanation
    assert [row.scorer for row in found.beside] == ["loose-prompt"]


def test_a_row_that_is_no_share_of_items_is_never_compared_as_a_count(gpt_4: Imported) -> None:
    run = read_run(gpt_4.folder)
    (cell,) = SUITE.cells(SUITE.find("llama-3-tulu-2-8b"), "ifeval")
    row = next(row for row in run.results if row.scorer == "oi-loose-instruction")
    found = against(run, row, cell, SUITE, same_weights=False)
    assert found.agreement.method == "normal"
    assert "/541" not in found.agreement.explanation


def test_lm_eval_s_samples_of_ifeval(shared: Path, punkt: None, tmp_path: Path) -> None:
    data = shared / "data/suite/ifeval/input_data.jsonl"
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:3]]
    samples = [
        {"doc_id": place, "doc": row, "resps": [["A reply without that mark"]], "filter": "none",
         "arguments": {"gen_args_0": {"arg_0": row["prompt"], "arg_1": {"until": [], "max_gen_toks": 1280}}}}
        for place, row in enumerate(rows)
    ]  # fmt: skip
    done = import_file(write(tmp_path / "samples.jsonl", samples), "m", "ifeval", data, tmp_path / "results", SUITE)
    assert [item.id for item, _ in done.matched.answers] == ["1000", "1001", "1005"]
    assert [sample.grades[4].score for sample in read_run(done.folder).samples()] == [0.0, 1.0, 0.0]
