"""Files of other harnesses: what they say is read, and a row that cannot be taken is named in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_rows import sampled, write
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.exchange.foreign import read_foreign
from tulu_eval.exchange.lm_eval import ForeignDecoding


def row(**more: Any) -> dict[str, Any]:
    return {**sampled([{"question": "q?", "answer": "#### 1"}])[0], **more}


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ([json.dumps([{"role": "system", "content": "Be."}, {"role": "user", "content": "Q"}])], ("Be.", "Q")),
        ([{"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "image_url"}]}], ("Q",)),
        ([{"role": "user", "content": "Q"}, {"role": "assistant", "content": None}], ("Q", "")),
    ],
)
def test_forms_of_messages(tmp_path: Path, prompt: Any, turns: tuple[str, ...]) -> None:
    path = write(tmp_path / "x.jsonl", [row(arguments={"gen_args_0": {"arg_0": prompt, "arg_1": {}}})])
    (answer,) = read_foreign(path).answers
    assert (answer.prompt, answer.turns) == (None, turns)


def test_a_results_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    date = "2025-01-02T03-04-05.678901"
    path = write(tmp_path / f"samples_gsm8k_{date}.jsonl", [row(), row(doc_id=1)])
    results = tmp_path / f"results_{date}.json"
    results.write_text('{"lm_eval_version": "0.4.13", "results": {"acc_stderr": NaN}}')
    assert read_foreign(path).version == "0.4.13"
    assert read_foreign(path).template_sha256 == "unknown"  # the key is not there
    results.write_text("{")
    with pytest.raises(DataError, match=r"results_.*\.json:1: is not JSON"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "output": "x"}], "x.jsonl:1: is of no harness known here (a row has 'id', 'output'); known are lm-eval's"),
        ([{}], "x.jsonl:1: is of no harness known here (a row has no field)"),
        ([row(), {"doc": {}}], "x.jsonl:2: has no 'arguments', which every row of lm-eval has"),
        ([row(doc={"text": "x"})], "x.jsonl:1: field 'question' is missing or not a string"),
        ([row(doc=["q"])], "x.jsonl:1: field 'question' is missing or not a string"),
        ([row(resps=[["a", "b"]])], "x.jsonl:1: has 2 responses to one item (repeats); a ledger has one"),
        ([row(resps=[["a"], ["b"]])], "x.jsonl:1: has 2 responses to one item (repeats); a ledger has one"),
        ([row(resps=[[-1.5, True]])], "x.jsonl:1: its 'resps' are not texts"),
        ([row(resps=[])], "x.jsonl:1: its 'resps' are not texts"),
        ([row(resps=5)], "x.jsonl:1: its 'resps' are not texts"),
        ([row(arguments={"gen_args_0": {"arg_0": "a", "arg_1": "b"}})], "x.jsonl:1: its 'resps' are not log-probabilities"),
        ([row(arguments=[])], "x.jsonl:1: its 'arguments' are neither a prompt and settings"),
        ([row(), row(filter="flexible", resps=[["other"]])], "x.jsonl:2: has other responses to item 0 under filter"),
        ([{"question": "q", "answer": 5, "model_output": "", "prediction": ""}], "x.jsonl:1: field 'answer' is missing or not"),
        ([[1]], "x.jsonl: row 1: is int, not an object"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_is_one_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_foreign(write(tmp_path / "x.jsonl", rows))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_is_answered_with_its_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder with no file of answers \(lm-eval: --log_samples\)"):
        read_foreign(tmp_path)
    (tmp_path / "org__name").mkdir()
    path = write(tmp_path / "org__name/samples_gsm8k_2025-01-01.jsonl", [row()])
    with pytest.raises(DataError) as caught:
        read_foreign(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a folder; give a file: {path}"


@pytest.mark.parametrize("indent", [None, 2])
def test_the_file_of_numbers_is_answered_with_that_of_samples(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "results_2025-01-01.json"
    path.write_text(json.dumps({"results": {"gsm8k": {}}, "configs": {}, "n-shot": {}}, indent=indent))
    with pytest.raises(DataError, match=r"has lm-eval's numbers and no answers: give samples_TASK_DATE.jsonl"):
        read_foreign(path)


def test_arguments_of_older_versions(tmp_path: Path) -> None:
    found = read_foreign(
        write(tmp_path / "x.jsonl", [row(arguments=[["Q: q?", {"until": "\n", "do_sample": True, "temperature": 1}]])])
    )
    assert found.answers[0].prompt == "Q: q?"
    assert found.decoding == ForeignDecoding(temperature=1.0, stop=("\n",))


def test_settings_that_change_within_a_file_are_unknown(tmp_path: Path) -> None:
    other = row(doc_id=1, arguments={"gen_args_0": {"arg_0": "x", "arg_1": {"max_gen_toks": 7}}})
    assert read_foreign(write(tmp_path / "x.jsonl", [row(), other])).decoding == ForeignDecoding()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["doc", "doc_id", "resps", "arguments", "filter"]), JSON, st.booleans())
def test_a_row_with_anything_in_it_is_read_or_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, inner: bool
) -> None:
    changed = row()
    if inner and field == "arguments":
        changed["arguments"]["gen_args_0"]["arg_1"] = value
    else:
        changed[field] = value
    path = write(tmp_path_factory.mktemp("any") / "samples_x_2025-01-02T03-04-05.1.jsonl", [row(doc_id=7), changed])
    path.with_name("results_2025-01-02T03-04-05.1.json").write_text(json.dumps({"config": value, "model_name": value}))
    try:
        found = read_foreign(path)
    except DataError:
        return
    assert all(isinstance(one.text, str) and isinstance(one.question, str) for one in found.answers)
