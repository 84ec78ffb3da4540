"""``--json`` of every verb: valid JSON in which nothing steers a terminal, and the text in it as it was."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tulu_eval import cli
from tulu_eval.files import json_text

Run = Callable[..., Result]
MakeRun = Callable[..., Path]

HOSTILE = "a\x1b[31m\x9b31m\u202e\u2066\u200f\u2028\x7f\x85\ue000\U000e0041b"
"""ESC, C1's CSI, characters that turn the direction of writing, line ends, DEL, and what no font has."""

REGISTRY = """
[[source]]
key = "ours"
document = {name}

[[model]]
hub_id = "us/our-model"
stage = "DPO"
size = "8B"
family = {name}
base = "allenai/llama-3-tulu-2-8b"

[[cell]]
model = "us/our-model"
metric = "GSM8K_8shot_CoT"
printed = "64.5"
source = "ours"
"""


def steers(text: str) -> list[str]:
    return sorted({letter for letter in text if not letter.isprintable() and letter != "\n"})


def holds(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(holds(one, text) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(holds(one, text) for one in value)
    return isinstance(value, str) and text in value


def test_text_in_json_is_printable_and_the_same() -> None:
    data = {HOSTILE: [HOSTILE, "ä€", 'quote " and \\', 1.5, None]}
    text = json_text(data)
    assert steers(text) == []
    assert "ä€" in text
    assert json.loads(text) == data


@pytest.fixture
def places(make_run: MakeRun, tmp_path: Path, shared: Path) -> dict[str, Path]:
    run = make_run(right=121, model=HOSTILE)
    registry, questions = tmp_path / "ours.toml", tmp_path / "predictions.jsonl"
    registry.write_text(REGISTRY.format(name=json.dumps(HOSTILE[:-2] + "b")), encoding="utf-8")
    data = shared / "data/gsm8k/test.jsonl"
    first = json.loads(data.read_text(encoding="utf-8").splitlines()[0])
    gold = first["answer"].rpartition("#### ")[2]
    both = (first["question"], HOSTILE)
    rows = [{"question": asked, "answer": gold, "model_output": gold, "prediction": gold} for asked in both]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = shared / "data/alpaca_eval/models"
    outputs = json.loads((models / "alpaca-7b/model_outputs.json").read_text(encoding="utf-8"))
    for row in outputs:
        row["generator"] = HOSTILE
    (tmp_path / "outputs.json").write_text(json.dumps(outputs))
    annotations = models / "alpaca-7b/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    other = make_run(right=100, model=HOSTILE, revision=HOSTILE, output="other")
    return {
        "run": run, "other": other, "results": tmp_path / "results",
        "registry": registry, "questions": questions, "data": data, "out": tmp_path / "out", "annotations": annotations,
        "outputs": tmp_path / "outputs.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("score {run} --json", False),
        ("verify {run} --as allenai/tulu-2-13b --json", True),
        ("compare {run} {other} --json", True),
        ("bundle {run} -o {out} --json", False),
        ("table --results {results} --format json", True),
        ("table --results {results} --output {out}.json", True),
        ("models --registry {registry} --json", True),
        ("models --registry {registry} --json show us/our-model", True),
        ("plan gsm8k -m tulu-2-13b tulu-2-dpo-70b -d 4.5 --json", False),
        ("import {questions} -m m --data {data} -o {out} --json", False),
        ("card {name} --results {results} --json", True),
        ("compare-outputs {outputs} --with {annotations} --json", False),
        ("doctor --json", False),
    ],
)
def test_every_verb_escapes_what_steers_a_terminal(
    invoke: Run, places: dict[str, Path], command: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``kept``: the text is one that the verb repeats, and as JSON it is what it was."""
    monkeypatch.chdir(places["run"].parent)
    done = invoke(*(word.format(**places, name=HOSTILE) for word in command.split()))
    assert done.exit_code == 0, done.stderr
    written = Path(f"{places['out']}.json")
    text = written.read_text(encoding="utf-8") if "--output" in command else done.stdout
    assert steers(text) == []
    assert steers(done.stdout) == []
    assert not kept or holds(json.loads(text), HOSTILE[:15]), text


def test_a_bundles_check_escapes_too(invoke: Run, places: dict[str, Path]) -> None:
    assert invoke("bundle", places["run"], "-o", places["out"]).exit_code == 0
    text = invoke("verify-bundle", places["out"], "--json").stdout
    assert steers(text) == []
    assert json.loads(text)["model"] == HOSTILE


def test_every_verb_with_json_prints_it_by_one_function() -> None:
    folder = Path(cli.__file__).parent
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert "json.dumps" not in called, path
        if '"--json"' in path.read_text(encoding="utf-8") and path.name not in (
            "asking.py",
            "table.py",
        ):  # options alone; a format of the table's own text
            assert "print_json" in called, path
