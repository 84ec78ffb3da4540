"""``import`` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def test_set(shared: Path) -> Path:
    return shared / "data/gsm8k/test.jsonl"


def predictions(test_set: Path, tmp_path: Path) -> Path:
    rows = []
    for line in test_set.read_text(encoding="utf-8").splitlines()[:3]:
        raw = json.loads(line)
        answer = raw["answer"].rpartition("#### ")[2]
        rows.append({"question": raw["question"], "answer": answer, "model_output": f" {answer}.", "prediction": answer})
    rows[2]["question"] = "\x1b[31mWhat\u2028else?"
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_import_says_what_it_took_and_what_it_left(invoke: Run, test_set: Path, tmp_path: Path) -> None:
    done = invoke("import", predictions(test_set, tmp_path), "-m", "my-model", "--data", test_set, "-o", tmp_path / "r")
    lines = done.stdout.splitlines()
    assert (done.exit_code, done.stderr) == (0, f"next: tulu-eval verify {lines[-1]} --as NAME --partial\n")
    assert lines[:4] == [
        "open-instruct unknown, task gsm: 2 answers from 3 lines",
        "1 left out (no such item in the benchmark): line 3 ('\\x1b[31mWhat\\u2028else?')",
        "1,317 items without an answer: test-1309, test-228, test-51, test-563, test-501 and 1,312 more",
        "open-instruct does not record why an answer ended, so none counts as truncated",
    ]
    folder = Path(lines[-1])
    assert folder.parent == tmp_path / "r/my-model/gsm8k"
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "manifest.json", "result.json", "samples.jsonl"]
    assert invoke("score", folder).exit_code == 0
    words = ("import", predictions(test_set, tmp_path), "-m", "my-model", "--data", test_set, "-o", tmp_path / "r", "--json")
    found = json.loads(invoke(*words).stdout)
    assert (found["answers"], [one["line"] for one in found["foreign"]], found["results"][0]["n"]) == (2, [3], 1)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("import {unknown} -m x --data {set}", "{unknown}:1: is of no harness known here (a row has 'prompt'); known are"),
        ("import {other} -m x --data {set}", "{other}: none of its 1 answers is to an item of gsm8k (first: 'q?')"),
        ("import {words} -m x --data {set}", "{words}:1: is not JSON"),
        ("import nowhere.jsonl -m x --data {set}", "nowhere.jsonl: no such file"),
        ("import {good} --data {set}", "Missing option '--model' / '-m'."),
        ("import {good} -m @abc --data {set}", "--model '@abc' is no name of a model"),
        ("import {good} -m x --data {words}", "{words}:1: is not JSON"),
        ("import {good} -m x --data {set} --benchmark gsm9k", "unknown benchmark 'gsm9k'. Did you mean 'gsm8k'?"),
        ("import {good} -m x --data {base} --benchmark alpaca-eval", "alpaca-eval has no right answers to grade with"),
    ],
)
def test_one_line_exit_code_2_nothing_written(
    invoke: Run, shared: Path, test_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"unknown": '{"prompt": 1}\n', "words": "words\n"}
    files["other"] = '{"question": "q?", "answer": "1", "model_output": "1", "prediction": "1"}\n'
    names = {"set": str(test_set), "good": str(predictions(test_set, tmp_path))}
    names["base"] = str(shared / "data/alpaca_eval/alpaca_eval_gpt4_baseline.json")
    for name, content in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(content)
        names[name] = str(path)
    before = sorted(tmp_path.rglob("*"))
    done = invoke(*(word.format(**names) for word in command.split()))
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"tulu-eval: {message.format(**names)}")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_next_step_is_one_that_works(invoke: Run, test_set: Path, tmp_path: Path) -> None:
    """The model's own number is of another recipe, and nothing is missing: another model's number, and no --partial."""
    rows = [json.loads(line) for line in test_set.read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps({"prompt": row["question"], "response": "The answer is 0."}) + "\n" for row in rows))
    done = invoke("import", path, "-m", "smollm2-135m-instruct", "--data", test_set, "-o", tmp_path / "r")
    folder = done.stdout.splitlines()[-1]
    assert done.stderr == f"next: tulu-eval verify {folder} --as NAME\n"
    assert invoke("verify", folder, "--as", "tulu-2-13b").exit_code == 0
