"""Files in alpaca_eval's formats: good ones make a round trip, and each bad one gives a clear line."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulu_eval.benchmarks import alpaca_set
from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.benchmarks.alpaca_set import check_instructions, load_baseline, positions
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.gamed import load_gamed
from tulu_eval.judging.judge import Judgment
from tulu_eval.judging.judge_recipe import Pair
from tulu_eval.judging.judged import from_annotations, from_judgments, terms_of
from tulu_eval.judging.outputs import from_texts, make_pairs, read_outputs
from tulu_eval.judging.record import read_judgments, write_annotations, write_judgments


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "alpaca_eval"


@pytest.fixture(scope="module")
def rows(folder):
    return load_baseline(folder / "alpaca_eval_gpt4_baseline.json")


@pytest.fixture
def write(tmp_path):
    def save(data, name="file.json"):
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return save


@pytest.fixture
def outputs(rows):
    return [{"instruction": row.instruction, "output": f"answer {at}", "generator": "mine"} for at, row in enumerate(rows)]


def annotate(rows, preference=1.0):
    return [
        {
            "instruction": row.instruction, "output_1": row.baseline, "output_2": "b", "generator_1": "gpt4_1106_preview",
            "generator_2": "mine", "annotator": "weighted_alpaca_eval_gpt4_turbo", "preference": preference,
        }
        for row in rows
    ]  # fmt: skip


def test_the_set_is_the_805_in_order(rows):
    assert len(rows) == len(positions()) == 805
    assert [alpaca_set.position(row.instruction) for row in rows] == list(range(805))
    assert alpaca_set.position(rows[0].instruction + " ") is None


def test_the_pinned_hash_is_the_baseline_files(folder):
    digest = hashlib.sha256((folder / "alpaca_eval_gpt4_baseline.json").read_bytes()).hexdigest()
    assert digest == alpaca_set.BASELINE_SHA256


@pytest.mark.parametrize("model", ["alpaca-7b", "claude-2", "tulu-2-dpo-7b", "tulu-2-dpo-70b"])
def test_published_outputs_are_read(folder, model):
    found = read_outputs(folder / "models" / model / "model_outputs.json")
    assert found.generator == model
    assert sorted(found.by_place) == list(range(805))


def test_json_lines_and_any_order_are_read_too(outputs, write):
    path = write("\n".join(json.dumps(row, ensure_ascii=False) for row in reversed(outputs)))
    assert read_outputs(path).by_place == {at: f"answer {at}" for at in range(805)}


def test_bad_outputs_are_one_line_each(outputs, write):
    def message(data, **kwargs):
        with pytest.raises(DataError) as caught:
            read_outputs(write(data), **kwargs)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        return str(caught.value).split(": ", 1)[1]

    assert message(outputs[1:]) == "1 of the 805 instructions are missing, the first is number 1; see --partial"
    assert message([*outputs, outputs[3]]) == "row 806 has the same instruction as row 4"
    foreign = [{**outputs[0], "instruction": "Say\nhello"}, *outputs[1:]]
    assert message(foreign) == "row 1: the instruction 'Say hello'... is not one of AlpacaEval's 805 (changed or foreign)"
    changed = [{**outputs[0], "instruction": outputs[0]["instruction"] + "\n"}, *outputs[1:]]
    assert "is one of AlpacaEval's up to white space (changed or foreign)" in message(changed)
    assert message([{**outputs[0], "output": None}]) == "row 1: field 'output' is missing or not a string"
    assert message([5]) == "row 1: is int, not an object"
    assert message([]).startswith("is empty")
    assert message('{"a": 1').startswith("is not JSON (")
    two = [{**outputs[0], "generator": "other"}, *outputs[1:]]
    assert message(two) == "has 2 different values of 'generator': mine, other"
    assert read_outputs(write(outputs[1:]), partial=True).by_place.keys() == set(range(1, 805))


@pytest.mark.parametrize("value", [3, 0.5, "2", True, -2, [1], 2.0001])
def test_a_preference_that_is_none_is_refused(rows, write, value):
    data = annotate(rows)
    data[7]["preference"] = value
    with pytest.raises(DataError, match=r"row 8: preference .* is not a number from 1 \(baseline\) to 2"):
        read_annotations(write(data))


def test_null_and_minus_one_are_failures_and_0_is_a_tie_of_older_judges_only(rows, write):
    data = annotate(rows)
    data[2]["preference"] = 0
    with pytest.raises(DataError, match="row 3: preference 0 is impossible for weighted_alpaca_eval_gpt4_turbo"):
        read_annotations(write(data))
    data = [{**row, "annotator": "alpaca_eval_gpt4"} for row in data]
    data[0]["preference"], data[1]["preference"], data[2]["preference"] = None, -1, 0
    found = read_annotations(write(data)).rows
    assert [row.preference for row in found[:4]] == [None, None, 0.0, 1.0]
    del data[3]["preference"]
    with pytest.raises(DataError, match="row 4 has no preference"):
        read_annotations(write(data))


def test_places_come_from_the_text_unless_parity_is_asked_for(rows, write):
    path = write(annotate(rows[10:]))
    found = read_annotations(path)
    assert [row.place for row in from_annotations(found)] == [row.place for row in found.rows] == list(range(10, 805))
    assert [row.place for row in from_annotations(found, positional=True)] == list(range(795))
    assert (terms_of(found).positional, terms_of(found, positional=True).positional) == (False, True)


def test_what_is_written_of_a_judging(rows, tmp_path, recipe):
    pairs = [
        Pair("alpaca-0", rows[0].instruction, rows[0].baseline, "my secret output"),
        Pair("alpaca-1", rows[1].instruction, rows[1].baseline, "y"),
    ]
    judgments = [Judgment("alpaca-0", "k", "judged", 1.25, True), Judgment("alpaca-1", "l", "refusal", None, False, "no")]
    write_annotations(tmp_path / "annotations.json", pairs, judgments, recipe, "mine")
    found = read_annotations(tmp_path / "annotations.json")
    assert [row.preference for row in found.rows] == [1.25, None]
    assert found.annotator == "loopback-judge-logprobs"
    write_judgments(tmp_path / "judgments.jsonl", pairs, judgments)
    text = (tmp_path / "judgments.jsonl").read_text()
    assert [json.loads(line)["preference"] for line in text.splitlines()] == [1.25, None]
    for hidden in (rows[0].instruction, rows[0].baseline, "my secret output"):
        assert hidden not in text
    stored = read_judgments(tmp_path / "judgments.jsonl")
    assert stored.judged() == from_judgments(pairs, judgments)
    assert stored.baseline == known()[0].baseline


def test_a_gamed_file_with_another_hash_is_refused(folder, tmp_path):
    path = tmp_path / "df_gamed.csv"
    path.write_bytes((folder / "df_gamed_rederived.csv").read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"is not df_gamed.csv: its sha256 is [0-9a-f]{16}\.\.\., known are 97aeec3f"):
        load_gamed(path)
    with pytest.raises(DataError, match="no such file"):
        load_gamed(tmp_path / "absent.csv")


def test_the_gamed_file(folder):
    found = load_gamed(folder / "df_gamed_rederived.csv")
    assert found.source == "re-derived"
    assert len(found.gamed.score) == 1610
    assert found.difficulty.shape == (805,)
    assert found.difficulty[0] == 0.0


def test_another_set_is_refused_with_the_row_that_differs(rows, tmp_path):
    with pytest.raises(DataError, match="has 804 rows, not AlpacaEval's 805"):
        check_instructions(tmp_path, rows[1:])
    with pytest.raises(DataError, match="row 2 is not instruction 2"):
        check_instructions(tmp_path, [rows[0], rows[2], rows[1], *rows[3:]])


def test_the_wrong_baseline_is_refused(folder):
    with pytest.raises(DataError, match=r"of the baseline text_davinci_003@849ca621, whose outputs are not those"):
        load_baseline(folder / "alpaca_eval_set.json")


def test_a_runs_texts_become_pairs(rows):
    pairs = make_pairs(rows, from_texts({"alpaca-9": " b ", "alpaca-2": "a"}, "mine"))
    assert [(pair.id, pair.output) for pair in pairs] == [("alpaca-2", "a"), ("alpaca-9", " b ")]
    assert pairs[1].instruction == rows[9].instruction
    assert pairs[1].baseline == rows[9].baseline
    for bad in ("alpaca-805", "alpaca-x", "test-1", "alpaca--1"):
        with pytest.raises(UserError, match="is not the id"):
            from_texts({bad: "x"}, "mine")


GOOD = {
    "id": "alpaca-3", "kind": "judged", "preference": 1.5, "baseline_characters": 1, "output_characters": 2,
    "output_sha256": "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"preference": 3}, {"preference": None}, {"preference": "2"}, {"preference": True}, {"kind": "guessed"},
        {"kind": "refusal"}, {"id": "alpaca-805"}, {"id": 5}, {"output_characters": "x"},
        {"id": "alpaca-03"}, {"output_characters": -1}, {"output_characters": 10**400}, {"baseline_characters": 1.0},
        {"output_sha256": "0"}, {"baseline_sha256": 5}, {"kind": ["judged"]}, {"preference": float("nan")},
    ],
)  # fmt: skip
def test_bad_judgments_are_one_line(write, change):
    assert read_judgments(write(json.dumps(GOOD))).rows[0].judged.place == 3
    with pytest.raises(DataError, match=r"(json:1|row 1): "):
        read_judgments(write(json.dumps({**GOOD, **change})))
    with pytest.raises(DataError, match="alpaca-3 appears twice"):
        read_judgments(write("\n".join([json.dumps(GOOD)] * 2)))


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: ("[" + text).encode()) | st.just(b"[" * 100_000))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_breaks_the_readers(tmp_path, data):
    path = tmp_path / "file.json"
    path.write_bytes(data)
    for read in (read_outputs, read_annotations, read_judgments):
        with pytest.raises(DataError):
            read(path)


def test_a_number_too_long_is_one_line(write):
    with pytest.raises(DataError, match="integer of more than 4,300 digits"):
        read_outputs(write("[" + "9" * 5000 + "]"))
